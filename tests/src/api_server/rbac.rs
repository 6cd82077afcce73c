//! Roles and their bindings: what the cluster's own objects allow a service account.

use serde_json::Value;

use super::kinds::{Kind, RBAC};
use super::store::{Key, Store};
use super::users::Rule;

/// What the roles allow that are bound to a service account.
pub(super) fn bound_rules(user: &str, store: &Store) -> Vec<Rule> {
    let cluster = store.list(RBAC, "clusterrolebindings", "").map(|(_, binding)| (None, binding));
    let namespaces = store.namespaces(RBAC, "rolebindings");
    let local = namespaces.iter().flat_map(|namespace| {
        let bindings = store.list(RBAC, "rolebindings", namespace);
        bindings.map(|(_, binding)| (Some(namespace.clone()), binding))
    });
    let mut rules = Vec::new();
    for (namespace, binding) in cluster.chain(local) {
        let subjects = binding["subjects"].as_array().into_iter().flatten();
        let mut names = subjects.map(|subject| {
            let text = |field: &str| subject[field].as_str().unwrap_or_default().to_owned();
            format!("system:serviceaccount:{}:{}", text("namespace"), text("name"))
        });
        if names.any(|name| name == user) {
            rules.extend(role_rules(&binding["roleRef"], namespace.as_deref(), store));
        }
    }
    rules
}

fn role_rules(reference: &Value, namespace: Option<&str>, store: &Store) -> Vec<Rule> {
    let (resource, home) = match reference["kind"].as_str() {
        Some("Role") => ("roles", namespace.unwrap_or_default()),
        _ => ("clusterroles", ""),
    };
    let Some(kind) = Kind::built_in(RBAC, resource) else { return Vec::new() };
    let name = reference["name"].as_str().unwrap_or_default();
    let Some(role) = store.get(&Key::new(&kind, home, name)) else { return Vec::new() };
    let texts = |rule: &Value, field: &str| -> Vec<String> {
        let list = rule[field].as_array().into_iter().flatten();
        list.filter_map(Value::as_str).map(str::to_owned).collect()
    };
    let mut rules = Vec::new();
    for rule in role["rules"].as_array().into_iter().flatten() {
        for group in texts(rule, "apiGroups") {
            for resource in texts(rule, "resources") {
                let (group, verbs) = (group.clone(), texts(rule, "verbs"));
                rules.push(Rule {
                    group,
                    resource,
                    verbs,
                    namespace: namespace.map(str::to_owned),
                });
            }
        }
    }
    rules
}
