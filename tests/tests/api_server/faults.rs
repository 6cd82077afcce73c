//! Faults hit the requests that they are meant for, as often as they are to; one that never did fails
//! the test.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use kcm_tests::api_server::{ApiServer, Ask, Fault};
use serde_json::json;

use crate::{JSON, MERGE, PODS, message, new_pod, patch};

const NODE: &str = "/api/v1/nodes/n";

#[test]
fn a_status_is_answered_in_place_of_the_real_one_and_changes_nothing() {
    for (code, reason) in
        [(409, "Conflict"), (410, "Expired"), (500, "InternalError"), (503, "ServiceUnavailable")]
    {
        let api = ApiServer::start();
        api.add_node("n");
        api.inject(Fault::status(code).times(2).on(|seen| seen.verb == "patch"));
        let label = patch(NODE, MERGE, json!({"metadata": {"labels": {"a": "b"}}}));
        assert_eq!(api.send(&Ask::get(NODE)).unwrap().status, 200, "not the one that is meant");
        for _ in 0..2 {
            let reply = api.send(&label).unwrap();
            assert_eq!((reply.status, reply.json()["reason"].as_str()), (code, Some(reason)));
        }
        assert_eq!(api.get(NODE).unwrap()["metadata"]["labels"].get("a"), None);
        assert_eq!(api.injected(), 2);
        assert_eq!(api.send(&label).unwrap().status, 200, "{code} went on");
    }
}

#[test]
fn too_many_requests_tell_when_to_come_again() {
    let api = ApiServer::start();
    api.add_node("n");
    api.inject(Fault::too_many_requests(7));
    let reply = api.send(&Ask::get(NODE)).unwrap();
    assert_eq!((reply.status, reply.retry_after.as_deref()), (429, Some("7")));
    assert_eq!(reply.json()["details"]["retryAfterSeconds"], 7);
}

#[test]
fn a_reset_closes_the_connection_with_no_answer() {
    let api = ApiServer::start();
    api.add_node("n");
    api.inject(Fault::reset());
    assert!(api.send(&Ask::get(NODE)).is_none());
    assert_eq!(api.requests()[0].status, 0);
    assert_eq!(api.send(&Ask::get(NODE)).unwrap().status, 200);
}

#[test]
fn what_hangs_is_handled_later() {
    let api = ApiServer::start();
    api.add_node("n");
    api.inject(Fault::hang(Duration::from_millis(200)));
    let start = Instant::now();
    assert_eq!(api.send(&Ask::get(NODE)).unwrap().status, 200);
    assert!(start.elapsed() >= Duration::from_millis(200));
}

#[test]
fn a_watch_is_cut_in_the_middle_of_a_line() {
    let api = ApiServer::start();
    api.add_node("n");
    api.inject(Fault::cut());
    api.create(PODS, crate::pod("a"));
    let reply = api.send(&Ask::get(&format!("{PODS}?watch=1&timeoutSeconds=5"))).unwrap();
    assert!(!reply.complete, "the body came to its end: {}", reply.text);
    assert_eq!(reply.text.lines().count(), 2);
    assert_eq!(reply.events().len(), 1, "the second line is whole");
}

#[test]
fn a_watch_ends_with_an_error_event_when_its_version_is_gone() {
    let api = ApiServer::start();
    api.add_node("n");
    api.inject(Fault::gone_after(0));
    let reply = api.send(&Ask::get(&format!("{PODS}?watch=1&timeoutSeconds=5"))).unwrap();
    assert_eq!((reply.status, reply.complete), (200, true));
    assert_eq!(reply.events()[0]["type"], "ERROR");
    assert_eq!(reply.events()[0]["object"]["code"], 410);
}

#[test]
fn a_fault_or_an_edit_that_never_came_fails_the_test() {
    let api = ApiServer::start();
    api.inject(Fault::cut());
    api.before(|_| true, |_| {});
    assert_eq!(api.complaints().len(), 2, "{:?}", api.complaints());
    assert!(catch_unwind(AssertUnwindSafe(|| drop(api))).is_err());
}

#[test]
fn somebody_else_is_faster_by_an_edit_just_before_a_request() {
    let api = ApiServer::start();
    api.add_node("n");
    api.settle();
    let version = api.get(NODE).unwrap()["metadata"]["resourceVersion"].clone();
    api.before(
        |seen| seen.verb == "patch",
        |cluster| cluster.edit(NODE, |node| node["spec"]["unschedulable"] = true.into()),
    );
    let cordon = json!([
        {"op": "test", "path": "/metadata/resourceVersion", "value": version},
        {"op": "add", "path": "/spec/taints", "value": [{"key": "kcm", "effect": "NoSchedule"}]},
    ]);
    let reply = api.send(&patch(NODE, JSON, cordon)).unwrap();
    assert_eq!((reply.status, reply.json()["reason"].as_str()), (422, Some("Invalid")));
    assert_eq!(api.get(NODE).unwrap()["spec"], json!({"unschedulable": true}));
}

#[test]
fn requests_are_noted_with_what_rbac_calls_them() {
    let api = ApiServer::start();
    api.send(&new_pod("a")).unwrap();
    api.send(&Ask::get(&format!("{PODS}/a/log?container=zz"))).unwrap();
    let [create, log] = api.requests().try_into().unwrap();
    assert_eq!(
        (create.verb.as_str(), create.resource.as_str(), create.namespace.as_str(), create.status),
        ("create", "pods", "default", 201)
    );
    assert_eq!(create.body["metadata"]["name"], "a");
    assert_eq!(
        (log.verb.as_str(), log.subresource.as_str(), log.name.as_str()),
        ("get", "log", "a")
    );
    assert_eq!(log.parameter("container"), Some("zz"));
    assert_eq!(api.writes().len(), 1);
    assert_eq!(message(&api.send(&Ask::get("/api/v1/nodes/x")).unwrap()), "nodes \"x\" not found");
}
