//! What the API server fills in when an object is written, as far as it was recorded.

use serde_json::{Value, json};

use super::kinds::ADMISSION;

/// Fills in the defaults of a kind.
pub(super) fn complete(group: &str, resource: &str, object: &mut Value) {
    match (group, resource) {
        ("", "pods") => super::pods::complete(object),
        ("apps", "daemonsets") => daemon_set(object),
        ("apiextensions.k8s.io", _) => definition(object),
        (ADMISSION, "validatingadmissionpolicies" | "mutatingadmissionpolicies") => {
            let validating = resource.starts_with("validating");
            policy(object);
            if validating {
                default(object, "status", json!({}));
            }
        }
        _ => {}
    }
}

/// Sets a field that is not there.
pub(super) fn default(map: &mut Value, name: &str, value: Value) {
    if map[name].is_null() {
        map[name] = value;
    }
}

/// The items of a list that may not be there.
pub(super) fn items<'a>(map: &'a mut Value, name: &str) -> impl Iterator<Item = &'a mut Value> {
    map.get_mut(name).and_then(Value::as_array_mut).into_iter().flatten()
}

fn daemon_set(object: &mut Value) {
    let none = json!({"currentNumberScheduled": 0, "numberMisscheduled": 0,
        "desiredNumberScheduled": 0, "numberReady": 0});
    default(object, "status", none);
    let annotations = &mut object["metadata"]["annotations"];
    default(annotations, "deprecated.daemonset.template.generation", json!("1"));
    let spec = &mut object["spec"];
    default(spec, "revisionHistoryLimit", json!(10));
    let rolling = json!({"type": "RollingUpdate",
        "rollingUpdate": {"maxUnavailable": 1, "maxSurge": 0}});
    default(spec, "updateStrategy", rolling);
    super::pods::complete_template(&mut spec["template"]["spec"]);
}

fn definition(object: &mut Value) {
    let names = &mut object["spec"]["names"];
    let kind = names["kind"].as_str().unwrap_or_default().to_owned();
    default(names, "listKind", json!(format!("{kind}List")));
    default(names, "singular", json!(kind.to_lowercase()));
    default(&mut object["spec"], "conversion", json!({"strategy": "None"}));
    // As recorded: no condition, as null, and no name accepted, as empty ones.
    let versions = object["spec"]["versions"].as_array();
    let stored: Vec<Value> = versions
        .into_iter()
        .flatten()
        .filter(|version| version["storage"] == true)
        .map(|version| version["name"].clone())
        .collect();
    for version in items(&mut object["spec"], "versions") {
        let columns = version["additionalPrinterColumns"].as_array();
        if columns.is_some_and(Vec::is_empty) {
            version.as_object_mut().unwrap().remove("additionalPrinterColumns");
        }
    }
    let status = json!({"conditions": null, "acceptedNames": {"plural": "", "kind": ""},
        "storedVersions": stored});
    default(object, "status", status);
}

fn policy(object: &mut Value) {
    let spec = &mut object["spec"];
    default(spec, "failurePolicy", json!("Fail"));
    let constraints = &mut spec["matchConstraints"];
    default(constraints, "namespaceSelector", json!({}));
    default(constraints, "objectSelector", json!({}));
    default(constraints, "matchPolicy", json!("Equivalent"));
    for rule in items(constraints, "resourceRules") {
        default(rule, "scope", json!("*"));
    }
}
