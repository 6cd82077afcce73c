//! Whether an answer is the recorded one: all of it but what no two servers have alike.

use serde_json::{Map, Value, json};

/// Times, identities, and what the machine under the recorded node brought along.
const VOLATILE: [&str; 19] = [
    "uid",
    "resourceVersion",
    "creationTimestamp",
    "deletionTimestamp",
    "lastHeartbeatTime",
    "lastTransitionTime",
    "startTime",
    "startedAt",
    "finishedAt",
    "expirationTimestamp",
    "token",
    "containerID",
    "imageID",
    "podIP",
    "podIPs",
    "runtimeHandlers",
    "remainingItemCount",
    "selfLink",
    "managedFields",
];

/// The differences of two bodies.
pub(crate) fn bodies(expected: &Value, found: &Value) -> Vec<String> {
    same("", &stable(expected), &stable(found))
}

/// The differences of two values, each with its place.
pub(crate) fn same(place: &str, expected: &Value, found: &Value) -> Vec<String> {
    match (expected, found) {
        (Value::Object(expected), Value::Object(found)) => {
            let null = Value::Null;
            let mut names: Vec<_> = expected.keys().chain(found.keys()).collect();
            names.sort();
            names.dedup();
            let of =
                |map: &Map<String, Value>, name: &String| map.get(name).unwrap_or(&null).clone();
            let inner = names.into_iter().flat_map(|name| {
                same(&format!("{place}.{name}"), &of(expected, name), &of(found, name))
            });
            inner.collect()
        }
        (Value::Array(expected), Value::Array(found)) if expected.len() == found.len() => {
            let pairs = expected.iter().zip(found).enumerate();
            pairs.flat_map(|(at, (e, f))| same(&format!("{place}[{at}]"), e, f)).collect()
        }
        _ if expected == found => Vec::new(),
        _ => vec![format!("{place} is {found} in place of {expected}")],
    }
}

/// A body without what is volatile.
fn stable(value: &Value) -> Value {
    match value {
        Value::Object(fields) => {
            let kept = fields.iter().filter(|(name, _)| !VOLATILE.contains(&name.as_str()));
            kept.map(|(name, value)| (name.clone(), stable(value))).collect::<Map<_, _>>().into()
        }
        Value::Array(items) => items.iter().map(stable).collect(),
        // The volume of the token has random letters at its end.
        Value::String(text) if text.starts_with("kube-api-access-") => json!("kube-api-access"),
        other => other.clone(),
    }
}

/// The differences of two watches: what each event shows of a pod, repetitions apart.
pub(crate) fn watch(expected: &Value, found: &[Value]) -> Vec<String> {
    let recorded: Vec<Value> = match expected {
        Value::String(text) => {
            text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
        }
        events => events.as_array().unwrap().clone(),
    };
    let is_short = recorded[0]["object"]["status"].get("containerStatuses").is_some();
    let look = |events: &[Value]| {
        let mut shown: Vec<Value> = events.iter().map(|event| shown(event, is_short)).collect();
        shown.dedup();
        json!(shown)
    };
    let versions: Vec<u64> = found
        .iter()
        .map(|event| {
            event["object"]["metadata"]["resourceVersion"].as_str().unwrap().parse().unwrap()
        })
        .collect();
    let mut differences = same("", &look(&recorded), &look(found));
    if !versions.is_sorted() {
        differences.push(format!("the resourceVersions go back: {versions:?}"));
    }
    differences
}

fn shown(event: &Value, is_short: bool) -> Value {
    let object = &event["object"];
    let status = &object["status"];
    let containers =
        status["containerStatuses"].as_array().into_iter().flatten().map(|container| {
            let state = &container["state"];
            let name = state.as_object().unwrap().keys().next().unwrap();
            json!([
                container["name"],
                container["restartCount"],
                container["ready"],
                container["started"],
                name,
                state[name]["reason"],
                state[name]["exitCode"]
            ])
        });
    let mut shown = json!({
        "type": event["type"], "name": object["metadata"]["name"], "phase": status["phase"],
        "containers": containers.collect::<Vec<_>>(),
    });
    // Of one watch only this much was kept.
    if !is_short {
        let conditions = status["conditions"].as_array().into_iter().flatten();
        let conditions = conditions.map(|c| json!([c["type"], c["status"], c["reason"]]));
        shown["conditions"] = conditions.collect();
        shown["node"] = object["spec"]["nodeName"].clone();
        shown["generation"] = object["metadata"]["generation"].clone();
        shown["leaves"] = object["metadata"].get("deletionTimestamp").is_some().into();
    }
    shown
}
