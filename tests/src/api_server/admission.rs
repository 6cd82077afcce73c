//! Admission: the plugins that concern pods, and the policies that are bound in the cluster.

use serde_json::Value;

use super::answer::{self, Answer};
use super::handling::Call;
use super::kinds::{ADMISSION, Kind};
use super::pods;
use super::request::Target;
use super::store::{Key, Store};
use crate::admission::{MutatingPolicy, Resource, Review, ValidatingPolicy};

/// What admission changes in an object that is to be created.
pub(super) fn change(call: &Call<'_>, target: &Target, mut object: Value) -> Result<Value, Answer> {
    if target.kind.group == ADMISSION {
        check_policy(&object)?;
    }
    let state = call.cluster.lock();
    for bound in bound(&state.store, "mutatingadmissionpolic") {
        let policy = MutatingPolicy::parse(&bound.policy).map_err(|why| answer::unknown(&why))?;
        let review = review_of(call, target, &Value::Null, &object, bound.params);
        object = policy.mutate(&review).map_err(|why| answer::unknown(&why))?;
    }
    if target.kind.kind == "Pod" {
        admit_pod(target, &state.store, &mut object)?;
    }
    Ok(object)
}

/// The plugins ServiceAccount and RuntimeClass.
fn admit_pod(target: &Target, store: &Store, pod: &mut Value) -> Result<(), Answer> {
    let account = pod["spec"]["serviceAccountName"].as_str().unwrap_or("default");
    let key = Key::core("serviceaccounts", &target.namespace, account);
    if account != "default" && store.get(&key).is_none() {
        let why = format!(
            "error looking up service account {}/{account}: serviceaccount {account:?} not found",
            target.namespace
        );
        return Err(answer::forbidden(&target.kind, &target.name, &why));
    }
    let Some(class) = pod["spec"]["runtimeClassName"].as_str() else { return Ok(()) };
    let kind = Kind::built_in("node.k8s.io", "runtimeclasses").expect("it is in the table");
    match store.get(&Key::new(&kind, "", class)) {
        Some(class) => pods::add_scheduling(pod, &class),
        None => {
            let why = format!("pod rejected: RuntimeClass {class:?} not found");
            return Err(answer::forbidden(&target.kind, &target.name, &why));
        }
    }
    Ok(())
}

/// Refuses what a validating policy denies.
pub(super) fn review(
    call: &Call<'_>,
    target: &Target,
    old: &Value,
    object: &Value,
) -> Result<(), Answer> {
    let state = call.cluster.lock();
    for bound in bound(&state.store, "validatingadmissionpolic") {
        let policy = ValidatingPolicy::parse(&bound.policy).map_err(|why| answer::unknown(&why))?;
        let review = review_of(call, target, old, object, bound.params.clone());
        let missing = bound.asks_params && bound.params.is_none() && policy.matches(&review);
        let verdict = if missing {
            Err("failed to configure binding: no params found for policy binding with `Deny` \
                 parameterNotFoundAction"
                .to_owned())
        } else {
            policy.review(&review)
        };
        if let Err(why) = verdict {
            let name = bound.policy["metadata"]["name"].as_str().unwrap_or_default();
            let why = format!(
                "ValidatingAdmissionPolicy '{name}' with binding '{}' denied request: {why}",
                bound.binding
            );
            return Err(answer::denied(&target.kind, &target.name, &why));
        }
    }
    Ok(())
}

/// A policy that is not understood would be passed over when pods come.
fn check_policy(object: &Value) -> Result<(), Answer> {
    let result = match object["kind"].as_str() {
        Some("ValidatingAdmissionPolicy") => ValidatingPolicy::parse(object).map(drop),
        Some("MutatingAdmissionPolicy") => MutatingPolicy::parse(object).map(drop),
        _ => Ok(()),
    };
    result.map_err(|why| answer::unknown(&format!("this policy: {why}")))
}

/// A policy with one of its bindings.
struct Bound {
    policy: Value,
    binding: String,
    asks_params: bool,
    params: Option<Value>,
}

/// The policies whose plural begins so, once for each of their bindings.
fn bound(store: &Store, plural: &str) -> Vec<Bound> {
    let bindings = store.list(ADMISSION, &format!("{plural}ybindings"), "");
    let bound = bindings.filter_map(|(key, binding)| {
        let name = binding["spec"]["policyName"].as_str()?;
        let kind = Kind::built_in(ADMISSION, &format!("{plural}ies"))?;
        let policy = store.get(&Key::new(&kind, "", name))?;
        let reference = &binding["spec"]["paramRef"];
        let text = |field: &str| reference[field].as_str().unwrap_or_default();
        let params = store.get(&Key::core("configmaps", text("namespace"), text("name")));
        Some(Bound {
            policy: (*policy).clone(),
            binding: key.name.clone(),
            asks_params: reference.is_object(),
            params: params.map(|params| (*params).clone()),
        })
    });
    bound.collect()
}

fn review_of(
    call: &Call<'_>,
    target: &Target,
    old: &Value,
    object: &Value,
    params: Option<Value>,
) -> Review {
    let kind = &target.kind;
    let subresource = Some(target.subresource.clone()).filter(|name| !name.is_empty());
    Review {
        operation: if old.is_null() { "CREATE" } else { "UPDATE" }.into(),
        resource: Resource {
            group: kind.group.clone(),
            version: kind.version.clone(),
            resource: kind.resource.clone(),
        },
        subresource,
        object: object.clone(),
        old_object: old.clone(),
        user: call.who.admitted(),
        params,
    }
}
