//! Statuses as a real kubelet of Kubernetes 1.36 writes them, shortened.

use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};

use super::{Failure, Verdict, judge};

fn pod(status: Value) -> Pod {
    serde_json::from_value(json!({"metadata": {"name": "p"}, "status": status})).unwrap()
}

fn failed(why: &str, container: Option<&str>) -> Verdict {
    Verdict::Failed(Failure { why: why.to_owned(), container: container.map(str::to_owned) })
}

fn waiting(text: &str) -> Verdict {
    Verdict::Waiting(text.to_owned())
}

fn container(name: &str, state: &Value, restarts: i32) -> Value {
    json!({"name": name, "state": state, "restartCount": restarts, "ready": false,
           "image": "i", "imageID": ""})
}

#[test]
fn a_pod_is_judged_by_its_status() {
    let ended = |code: i32| json!({"terminated": {"exitCode": code, "reason": "Error"}});
    let runs = json!({"running": {"startedAt": "2026-11-21T22:29:46Z"}});
    let waits = |reason: &str| json!({"waiting": {"reason": reason}});
    for (status, verdict) in [
        (json!({"phase": "Pending"}), waiting("it is not on its node yet")),
        (json!({}), waiting("it is not on its node yet")),
        (json!({"phase": "Succeeded"}), Verdict::Succeeded),
        (
            json!({"phase": "Failed", "containerStatuses": [container("c", &ended(3), 0)]}),
            failed("c ended with status 3", Some("c")),
        ),
        (
            json!({"phase": "Failed",
                "initContainerStatuses": [container("init", &ended(4), 0)],
                "containerStatuses": [container("c", &waits("PodInitializing"), 0)]}),
            failed("init ended with status 4", Some("init")),
        ),
        (
            json!({"phase": "Failed", "containerStatuses": [container(
                "c", &json!({"terminated": {"exitCode": 137, "reason": "OOMKilled"}}), 0)]}),
            failed("c ended with status 137 (OOMKilled)", Some("c")),
        ),
        (
            json!({"phase": "Failed", "containerStatuses": [container("c", &json!({"terminated": {
                "exitCode": 128, "reason": "StartError", "message": "no such hook"}}), 0)]}),
            failed("c ended with status 128 (StartError): no such hook", Some("c")),
        ),
        (
            json!({"phase": "Failed", "reason": "NodeAffinity", "message": "Pod was rejected"}),
            failed("NodeAffinity: Pod was rejected", None),
        ),
        (json!({"phase": "Failed"}), failed("it failed, and its status does not say why", None)),
        (
            json!({"phase": "Pending", "containerStatuses": [container("c", &json!({"waiting": {
                "reason": "ErrImageNeverPull", "message": "Container image is not present"}}), 0)]}),
            failed("c: ErrImageNeverPull: Container image is not present", Some("c")),
        ),
        (
            // It may come with the next attempt.
            json!({"phase": "Pending", "containerStatuses": [container("c", &waits("ErrImagePull"), 0)]}),
            waiting("c: ErrImagePull"),
        ),
        (
            json!({"phase": "Pending", "containerStatuses": [container("c", &waits("ImagePullBackOff"), 0)]}),
            failed("c: ImagePullBackOff", Some("c")),
        ),
        (
            json!({"phase": "Pending", "conditions": [{"type": "PodScheduled", "status": "False",
                "reason": "Unschedulable", "message": "0/1 nodes are available"}]}),
            failed("Unschedulable: 0/1 nodes are available", None),
        ),
        (
            json!({"phase": "Pending",
                "initContainerStatuses": [container("init", &runs, 0)],
                "containerStatuses": [container("c", &waits("PodInitializing"), 0)]}),
            waiting("init is running"),
        ),
        (
            json!({"phase": "Running", "containerStatuses": [
                container("reconcile", &runs, 1), container("nodereport", &runs, 0)]}),
            Verdict::Running(1),
        ),
        (
            json!({"phase": "Running", "containerStatuses": [
                container("reconcile", &runs, 0), container("nodereport", &ended(5), 1)]}),
            waiting("nodereport ended with status 5"),
        ),
        (
            json!({"phase": "Running", "containerStatuses": [
                container("reconcile", &runs, 0), container("nodereport", &waits("CrashLoopBackOff"), 2)]}),
            failed("nodereport: CrashLoopBackOff", Some("nodereport")),
        ),
    ] {
        assert_eq!(judge(&pod(status.clone())), verdict, "{status}");
    }
}

#[test]
fn a_pod_that_is_being_deleted_has_failed() {
    let mut pod = pod(json!({"phase": "Running"}));
    pod.metadata.deletion_timestamp =
        Some(serde_json::from_value(json!("2026-11-21T22:29:46Z")).unwrap());
    assert_eq!(judge(&pod), failed("somebody is deleting it", None));
}
