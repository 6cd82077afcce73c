//! What is neither recorded nor listed is answered 501, and the test that sent it fails.

use std::panic::{AssertUnwindSafe, catch_unwind};

use kcm_tests::api_server::{ApiServer, Ask};
use serde_json::json;

use crate::{APPLY, MERGE, PODS, patch};

#[test]
fn what_nobody_recorded_is_501_and_fails_the_test() {
    let strategic = "application/strategic-merge-patch+json";
    let method = |method: &str, path: &str| Ask { method: method.into(), ..Ask::get(path) };
    let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n"}});
    let cases = [
        ("a path", Ask::get("/apis/batch/v1/jobs")),
        ("another version", Ask::get("/apis/apps/v1beta1/namespaces/default/daemonsets")),
        ("pods of all namespaces", Ask::get("/api/v1/pods")),
        ("a verb", method("PUT", "/api/v1/nodes/n")),
        ("a deletion that nobody recorded", method("DELETE", "/api/v1/nodes/n")),
        ("a deletion of all", method("DELETE", PODS)),
        ("a content type", patch("/api/v1/nodes/n", strategic, json!({}))),
        ("a subresource", Ask::get("/api/v1/namespaces/default/pods/p/exec")),
        ("a parameter", Ask::get("/api/v1/nodes/n?pretty=true")),
        ("a value of one", patch("/api/v1/nodes/n?dryRun=Some", MERGE, json!({}))),
        ("a field selector", Ask::get(&format!("{PODS}?fieldSelector=status.phase%3DFailed"))),
        ("a set as label selector", Ask::get(&format!("{PODS}?labelSelector=a%20in%20(b)"))),
        ("an apply by nobody", patch("/api/v1/nodes/n", APPLY, node)),
        (
            "a watch of a kind that has none",
            Ask::get("/apis/apps/v1/namespaces/a/daemonsets?watch=1"),
        ),
    ];
    for (what, ask) in cases {
        let api = ApiServer::start();
        api.add_node("n");
        assert_eq!(api.send(&ask).unwrap().status, 501, "{what}");
        assert_eq!(api.requests()[0].status, 501, "{what}");
        let dropped = catch_unwind(AssertUnwindSafe(|| drop(api)));
        assert!(dropped.is_err(), "{what} did not fail the test");
    }
}

#[test]
fn a_test_that_fails_anyway_is_not_told_of_it_too() {
    let failing = catch_unwind(|| {
        let api = ApiServer::start();
        api.send(&Ask::get("/apis/batch/v1/jobs")).unwrap();
        panic!("the test's own reason");
    });
    let reason = failing.unwrap_err();
    assert_eq!(*reason.downcast_ref::<&str>().unwrap(), "the test's own reason");
}
