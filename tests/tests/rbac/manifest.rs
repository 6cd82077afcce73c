//! Rights as RBAC has them: those of a manifest, and those that requests need.

use std::collections::BTreeSet;
use std::fmt;
use std::fs;
use std::path::Path;

use kcm_tests::api_server::Seen;
use serde_json::Value;

/// One verb on one kind of object, in a namespace or in the whole cluster.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Right {
    in_a_namespace: bool,
    group: String,
    resource: String,
    verb: String,
}

impl fmt::Display for Right {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = if self.in_a_namespace { "Role" } else { "ClusterRole" };
        write!(f, "{kind} {:?} {} {}", self.group, self.resource, self.verb)
    }
}

/// The objects of the manifest.
pub(crate) fn objects() -> Vec<Value> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging/kubernetes/base/rbac.yaml");
    serde_saphyr::from_multiple(&fs::read_to_string(file).unwrap()).unwrap()
}

/// The rights that the roles among these objects give.
pub(crate) fn given(objects: &[Value]) -> BTreeSet<Right> {
    let mut rights = BTreeSet::new();
    for object in objects {
        let in_a_namespace = match object["kind"].as_str().unwrap() {
            "Role" => true,
            "ClusterRole" => false,
            _ => continue,
        };
        for rule in object["rules"].as_array().unwrap() {
            let texts = |field: &str| {
                let list = rule[field].as_array().unwrap().iter();
                list.map(|text| text.as_str().unwrap().to_owned()).collect::<Vec<_>>()
            };
            for group in texts("apiGroups") {
                for resource in texts("resources") {
                    for verb in texts("verbs") {
                        let (group, resource) = (group.clone(), resource.clone());
                        rights.insert(Right { in_a_namespace, group, resource, verb });
                    }
                }
            }
        }
    }
    rights
}

/// The rights without which these requests would have been refused. An apply that makes its object
/// needs `create` besides `patch` (Kubernetes' documentation, "Server-Side Apply").
pub(crate) fn needed(requests: &[Seen]) -> BTreeSet<Right> {
    let mut rights = BTreeSet::new();
    for seen in requests {
        assert!(!seen.resource.is_empty(), "{seen:?}");
        let resource = match seen.subresource.as_str() {
            "" => seen.resource.clone(),
            subresource => format!("{}/{subresource}", seen.resource),
        };
        let made = seen.content_type == "application/apply-patch+yaml" && seen.status == 201;
        for verb in [seen.verb.as_str()].into_iter().chain(made.then_some("create")) {
            rights.insert(Right {
                in_a_namespace: !seen.namespace.is_empty(),
                group: seen.group.clone(),
                resource: resource.clone(),
                verb: verb.to_owned(),
            });
        }
    }
    rights
}

/// Every verb that RBAC has for objects.
pub(crate) const VERBS: [&str; 8] =
    ["get", "list", "watch", "create", "update", "patch", "delete", "deletecollection"];

/// The manifest with each verb of each rule left out in turn: what, and the objects.
pub(crate) fn with_less() -> Vec<(String, Vec<Value>)> {
    altered(|verbs, verb| {
        let at = verbs.iter().position(|have| *have == verb)?;
        verbs.remove(at);
        Some(())
    })
}

/// The manifest with each verb added to each rule that does not have it.
pub(crate) fn with_more() -> Vec<(String, Vec<Value>)> {
    altered(|verbs, verb| {
        (!verbs.iter().any(|have| *have == verb)).then(|| verbs.push(verb.into()))
    })
}

fn altered(alter: impl Fn(&mut Vec<Value>, &str) -> Option<()>) -> Vec<(String, Vec<Value>)> {
    let mut copies = Vec::new();
    for (place, object) in objects().iter().enumerate() {
        let rules = object["rules"].as_array().map_or(0, Vec::len);
        for rule in 0..rules {
            for verb in VERBS {
                let mut copy = objects();
                let verbs = copy[place]["rules"][rule]["verbs"].as_array_mut().unwrap();
                if alter(verbs, verb).is_some() {
                    copies.push((format!("{verb} in {}", object["rules"][rule]), copy));
                }
            }
        }
    }
    copies
}
