//! JSON and merge patches, of a node and of its status.

use kcm_tests::api_server::{ApiServer, Ask};
use serde_json::json;

use crate::{JSON, MERGE, patch};

const NODE: &str = "/api/v1/nodes/n";
const STATUS: &str = "/api/v1/nodes/n/status";

#[test]
fn a_status_is_changed_only_through_its_subresource_and_nothing_else_is() {
    let api = ApiServer::start();
    api.add_node("n");
    let both = json!({"metadata": {"labels": {"a": "b"}}, "status": {"capacity": {"x/y": "1"}}});
    let seen = || {
        let node = api.get(NODE).unwrap();
        (node["metadata"]["labels"]["a"].clone(), node["status"]["capacity"]["x/y"].clone())
    };
    api.send(&patch(NODE, MERGE, both.clone())).unwrap();
    assert_eq!(seen(), ("b".into(), json!(null)));
    api.edit(NODE, |node| node["metadata"]["labels"]["a"] = "c".into());
    api.send(&patch(STATUS, MERGE, both)).unwrap();
    assert_eq!(seen(), ("c".into(), "1".into()));
}

#[test]
fn the_kubelet_copies_extended_resources_and_nothing_else() {
    let api = ApiServer::start();
    api.add_node("n");
    let capacity =
        json!({"status": {"capacity": {"kcm.intel.com/dataplane-cores": "4", "cpu": "64"}}});
    api.send(&patch(STATUS, MERGE, capacity)).unwrap();
    api.settle();
    let allocatable = || api.get(NODE).unwrap()["status"]["allocatable"].clone();
    assert_eq!(allocatable()["kcm.intel.com/dataplane-cores"], "4");
    assert_eq!(allocatable()["cpu"], "2");
    let gone = json!([{"op": "remove", "path": "/status/capacity/kcm.intel.com~1dataplane-cores"}]);
    api.send(&patch(STATUS, JSON, gone)).unwrap();
    api.settle();
    assert_eq!(allocatable().get("kcm.intel.com/dataplane-cores"), None);
}

#[test]
fn a_patch_that_cannot_be_made_changes_nothing() {
    let api = ApiServer::start();
    api.add_node("n");
    api.settle();
    let before = api.get(NODE);
    let cases = [
        json!([{"op": "remove", "path": "/spec/taints"}]),
        json!([{"op": "add", "path": "/spec/taints/-", "value": {}}]),
        json!([{"op": "add", "path": "/spec/taints", "value": []},
            {"op": "test", "path": "/metadata/name", "value": "m"}]),
    ];
    for body in cases {
        assert_eq!(api.send(&patch(NODE, JSON, body.clone())).unwrap().status, 422, "{body}");
        assert_eq!(api.get(NODE), before, "{body}");
    }
}

#[test]
fn a_dry_run_answers_and_changes_nothing() {
    let api = ApiServer::start();
    api.add_node("n");
    api.settle();
    let before = api.get(NODE);
    let label = json!({"metadata": {"labels": {"a": "b"}}});
    let reply = api.send(&patch(&format!("{NODE}?dryRun=All"), MERGE, label)).unwrap();
    assert_eq!(reply.json()["metadata"]["labels"]["a"], "b");
    assert_eq!(api.get(NODE), before);
}

#[test]
fn a_patch_that_changes_nothing_keeps_the_version() {
    let api = ApiServer::start();
    api.add_node("n");
    api.settle();
    let version = api.get(NODE).unwrap()["metadata"]["resourceVersion"].clone();
    let same = json!({"metadata": {"labels": {"kubernetes.io/os": "linux"}}});
    let reply = api.send(&patch(NODE, MERGE, same)).unwrap();
    assert_eq!(reply.json()["metadata"]["resourceVersion"], version);
    assert_eq!(api.send(&Ask::get(NODE)).unwrap().json()["metadata"]["resourceVersion"], version);
}
