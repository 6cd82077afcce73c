//! What can become of a pod, and what is said of it.

use kcm_tests::api_server::Outcome;
use serde_json::{Value, json};

use super::cluster::{
    INIT_ONLY, INIT_POD, cluster_where_all, edit_when_made, failure, first_pod, run,
};

const LONG: [&str; 2] = ["--host-list=worker-1", "--kcm-cmd-list=reconcile"];
const LONG_POD: &str = "kcm-reconcile-pod-worker-1";

#[test]
fn a_container_that_fails_is_named_with_its_status_and_log() {
    let node = "worker-1";
    for container in ["init", "install", "discover"] {
        let api = cluster_where_all(Outcome::Fails {
            container: container.into(),
            code: 7,
            log: "ERROR no pool\nlast \u{1b}[2J words\n".into(),
        });
        let outcome = run(&api, &["--all-hosts"]);
        let pod = first_pod(node);
        assert_eq!(failure(&outcome), format!("pod {pod}: {container} ended with status 7"));
        let info = outcome.lines("INFO");
        let line = format!("worker-1: {container} said: ERROR no pool");
        assert!(info.contains(&line.as_str()), "{outcome:?}");
        // What a terminal would obey is not passed on.
        let line = format!("worker-1: {container} said: last \u{fffd}[2J words");
        assert!(info.contains(&line.as_str()), "{outcome:?}");
    }
}

#[test]
fn a_container_that_the_runtime_refuses_is_told_with_the_runtimes_words() {
    let message = "error running hook #0: exit status 1, stderr: no CPU list is free";
    let api = cluster_where_all(Outcome::StartFails {
        container: "init".into(),
        message: message.into(),
    });
    let outcome = run(&api, &INIT_ONLY);
    let expected = format!("pod {INIT_POD}: init ended with status 128 (StartError): {message}");
    assert_eq!(failure(&outcome), expected);
}

#[test]
fn a_container_that_crashes_again_and_again_is_told_with_its_status_and_log() {
    let log = "ERROR pool infra does not exist\n".to_owned();
    let api = cluster_where_all(Outcome::CrashLoops { code: 4, log });
    let outcome = run(&api, &LONG);
    let expected = format!(
        "pod {LONG_POD}: reconcile: CrashLoopBackOff: back-off 10s restarting failed container \
         (it ended with status 4)"
    );
    assert_eq!(failure(&outcome), expected);
    let line = "worker-1: reconcile said: ERROR pool infra does not exist";
    assert!(outcome.lines("INFO").contains(&line), "{outcome:?}");
}

#[test]
fn an_image_that_cannot_be_had_is_named() {
    for (policy, reason) in [
        (
            "Never",
            "ErrImageNeverPull: Container image \"kcm:none\" is not present with pull policy of \
             Never",
        ),
        ("IfNotPresent", "ImagePullBackOff: Back-off pulling image \"kcm:none\""),
        ("Always", "ImagePullBackOff: Back-off pulling image \"kcm:none\""),
    ] {
        let api = cluster_where_all(Outcome::ImageMissing);
        let mut flags = INIT_ONLY.to_vec();
        let policy = format!("--kcm-img-pol={policy}");
        flags.extend(["--kcm-img=kcm:none", &policy]);
        let outcome = run(&api, &flags);
        assert_eq!(failure(&outcome), format!("pod {INIT_POD}: init: {reason}"), "{policy}");
    }
}

#[test]
fn a_pod_that_no_node_can_have_is_told_with_the_schedulers_words() {
    // The scheduler does not look at a pod that names its node: this is written by hand.
    let status = json!({"phase": "Pending", "conditions": [{"type": "PodScheduled",
        "status": "False", "reason": "Unschedulable", "message": "0/1 nodes are available"}]});
    let message = "Unschedulable: 0/1 nodes are available";
    check_status(&INIT_ONLY, INIT_POD, status, message);
}

#[test]
fn a_pod_that_the_kubelet_turns_away_is_told_with_its_words() {
    let status = json!({"phase": "Failed", "reason": "OutOfpods",
        "message": "Node didn't have enough resource: pods"});
    let message = "OutOfpods: Node didn't have enough resource: pods";
    check_status(&INIT_ONLY, INIT_POD, status, message);
}

#[test]
fn a_pod_that_should_go_on_and_ends_has_failed() {
    let message = "it has ended, and should go on";
    check_status(&LONG, LONG_POD, json!({"phase": "Succeeded"}), message);
}

/// What is said of a pod when this becomes its status.
#[track_caller]
fn check_status(flags: &[&str], pod: &str, status: Value, message: &str) {
    let api = cluster_where_all(Outcome::Hangs);
    let edited = edit_when_made(&api, pod, |pod| pod["status"] = status);
    let outcome = run(&api, flags);
    edited.join().unwrap();
    assert_eq!(failure(&outcome), format!("pod {pod}: {message}"));
}

#[test]
fn a_pod_that_somebody_deletes_is_told() {
    for (flags, pod) in [(INIT_ONLY, INIT_POD), (LONG, LONG_POD)] {
        let api = cluster_where_all(Outcome::Vanishes);
        let outcome = run(&api, &flags);
        assert_eq!(failure(&outcome), format!("pod {pod}: somebody has deleted it"));
    }
}
