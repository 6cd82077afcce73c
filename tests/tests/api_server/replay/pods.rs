//! What became of the recorded pods, read from what they were told to do.

use kcm_tests::api_server::Outcome;
use serde_json::{Value, json};

/// What a pod comes to that runs these commands.
pub(crate) fn outcome(pod: &Value) -> Outcome {
    let list = |name: &str| pod["spec"][name].as_array().cloned().unwrap_or_default();
    let containers = [list("initContainers"), list("containers")].concat();
    for container in &containers {
        let requests = container["resources"]["requests"].as_object().into_iter().flatten();
        for (resource, _) in requests {
            if resource == "kcm.intel.com/none" || resource.starts_with("pod.alpha.kubernetes.io/")
            {
                return Outcome::Unschedulable(format!("Insufficient {resource}"));
            }
        }
        if container["image"].as_str().unwrap().starts_with("registry.invalid/") {
            return Outcome::ImageMissing;
        }
        if let Some((log, code)) = script(container) {
            let name = container["name"].as_str().unwrap().to_owned();
            return match pod["spec"]["restartPolicy"].as_str() {
                Some("Always") => Outcome::CrashLoops { code, log },
                _ => Outcome::Fails { container: name, code, log },
            };
        }
    }
    match containers[0]["command"][0].as_str() {
        Some("sleep") => Outcome::Runs,
        _ => Outcome::Succeeds,
    }
}

/// What `sh -c "echo TEXT; exit CODE"` writes and ends with.
fn script(container: &Value) -> Option<(String, i64)> {
    let (before, code) = container["command"][2].as_str()?.split_once("exit ")?;
    let log = before.strip_prefix("echo ").map(|text| text.trim_end_matches("; "));
    Some((log.map(|text| format!("{text}\n")).unwrap_or_default(), code.parse().unwrap()))
}

/// The pod that had been there twice before the recording began.
pub(crate) fn t1() -> Value {
    json!({
        "metadata": {"name": "t1", "annotations": {"kcm.intel.com/pool": "dataplane"}},
        "spec": {
            "restartPolicy": "Never", "terminationGracePeriodSeconds": 1,
            "containers": [{"name": "main", "image": "docker.io/library/busybox:bed",
                "command": ["sh", "-c", "grep Cpus_allowed_list /proc/self/status; sleep 6"]}],
        },
    })
}
