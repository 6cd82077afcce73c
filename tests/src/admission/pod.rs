//! What the API server fills in before admission sees a pod.

use serde_json::{Value, json};

/// The pod as admission sees it: `resources` is always there, and what is limited and not requested
/// is requested as much.
pub fn defaulted(pod: &Value) -> Value {
    let mut pod = pod.clone();
    for list in ["containers", "initContainers"] {
        let containers = pod["spec"].get_mut(list).and_then(Value::as_array_mut);
        for container in containers.into_iter().flatten() {
            if container["resources"].is_null() {
                container["resources"] = json!({});
            }
            let limits = container["resources"]["limits"].as_object().cloned().unwrap_or_default();
            for (name, quantity) in limits {
                let requests = &mut container["resources"]["requests"];
                if requests[&name].is_null() {
                    requests[&name] = quantity;
                }
            }
        }
    }
    pod
}
