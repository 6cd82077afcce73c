//! Server-side apply: who owns which field of a node. Expected messages are shaped as the recorded ones.

use kcm_tests::api_server::{ApiServer, Ask};
use serde_json::{Value, json};

use crate::{APPLY, MERGE, message, patch};

const NODE: &str = "/api/v1/nodes/n";

fn cluster() -> ApiServer {
    let api = ApiServer::start();
    api.add_node("n");
    api.settle();
    api
}

fn labels(manager: &str, labels: Value) -> Ask {
    let node = json!({"apiVersion": "v1", "kind": "Node",
        "metadata": {"name": "n", "labels": labels}});
    patch(&format!("{NODE}?fieldManager={manager}"), APPLY, node)
}

fn label(api: &ApiServer, name: &str) -> Option<String> {
    let node = api.get(NODE).unwrap();
    node["metadata"]["labels"][name].as_str().map(str::to_owned)
}

#[test]
fn fields_that_their_only_applier_drops_are_gone() {
    let api = cluster();
    api.send(&labels("kcm", json!({"a": "1", "b": "1"}))).unwrap();
    api.send(&labels("kcm", json!({"b": "1"}))).unwrap();
    assert_eq!((label(&api, "a"), label(&api, "b").as_deref()), (None, Some("1")));
}

#[test]
fn a_field_of_the_same_value_is_owned_together_and_stays_until_both_drop_it() {
    let api = cluster();
    for manager in ["kcm", "other"] {
        assert_eq!(api.send(&labels(manager, json!({"a": "1"}))).unwrap().status, 200, "{manager}");
    }
    assert_eq!(api.send(&labels("kcm", json!({}))).unwrap().status, 200);
    assert_eq!(label(&api, "a").as_deref(), Some("1"));
    api.send(&labels("other", json!({}))).unwrap();
    assert_eq!(label(&api, "a"), None);
}

#[test]
fn another_value_is_a_conflict_with_the_owner_unless_it_is_forced() {
    let api = cluster();
    api.send(&labels("kcm", json!({"a": "1"}))).unwrap();
    let reply = api.send(&labels("other", json!({"a": "2"}))).unwrap();
    let expected = "Apply failed with 1 conflict: conflict with \"kcm\": .metadata.labels.a";
    assert_eq!((reply.status, message(&reply).as_str()), (409, expected));
    assert_eq!(label(&api, "a").as_deref(), Some("1"));
    assert_eq!(api.send(&labels("other&force=true", json!({"a": "2"}))).unwrap().status, 200);
    // What was taken from kcm is not kcm's to remove.
    api.send(&labels("kcm", json!({}))).unwrap();
    assert_eq!(label(&api, "a").as_deref(), Some("2"));
}

#[test]
fn a_patch_takes_fields_over_without_asking_and_owns_them() {
    let api = cluster();
    api.send(&labels("kcm", json!({"a": "1"}))).unwrap();
    let mut edit = patch(NODE, MERGE, json!({"metadata": {"labels": {"a": "2"}}}));
    edit.agent = "kubectl/v1.36.2 (linux/amd64)".into();
    assert_eq!(api.send(&edit).unwrap().status, 200);
    let reply = api.send(&labels("kcm", json!({"a": "1"}))).unwrap();
    let expected =
        "Apply failed with 1 conflict: conflict with \"kubectl\" using v1: .metadata.labels.a";
    assert_eq!((reply.status, message(&reply).as_str()), (409, expected));
}

#[test]
fn what_a_patch_removes_is_owned_by_nobody() {
    let api = cluster();
    api.send(&labels("kcm", json!({"a": "1"}))).unwrap();
    api.send(&patch(NODE, MERGE, json!({"metadata": {"labels": {"a": null}}}))).unwrap();
    assert_eq!(api.send(&labels("other", json!({"a": "2"}))).unwrap().status, 200);
}

#[test]
fn an_edit_in_the_cluster_owns_what_it_sets() {
    let api = cluster();
    api.edit(NODE, |node| node["metadata"]["labels"]["a"] = "1".into());
    let reply = api.send(&labels("kcm", json!({"a": "2"}))).unwrap();
    let expected =
        "Apply failed with 1 conflict: conflict with \"kubectl-edit\" using v1: .metadata.labels.a";
    assert_eq!((reply.status, message(&reply).as_str()), (409, expected));
}

#[test]
fn an_unchanged_apply_leaves_the_version_as_it_is() {
    let api = cluster();
    let version = || api.get(NODE).unwrap()["metadata"]["resourceVersion"].clone();
    api.send(&labels("kcm", json!({"a": "1"}))).unwrap();
    let before = version();
    api.send(&labels("kcm", json!({"a": "1"}))).unwrap();
    assert_eq!(version(), before);
    api.send(&labels("kcm", json!({"a": "2"}))).unwrap();
    assert_ne!(version(), before);
}

#[test]
fn a_list_is_one_field() {
    let api = cluster();
    let taint = |manager: &str, keys: &[&str]| {
        let taints: Vec<_> =
            keys.iter().map(|key| json!({"key": key, "effect": "NoSchedule"})).collect();
        let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n"},
            "spec": {"taints": taints}});
        patch(&format!("{NODE}?fieldManager={manager}"), APPLY, node)
    };
    api.send(&taint("kcm", &["a"])).unwrap();
    let reply = api.send(&taint("other", &["a", "b"])).unwrap();
    let expected = "Apply failed with 1 conflict: conflict with \"kcm\": .spec.taints";
    assert_eq!((reply.status, message(&reply).as_str()), (409, expected));
}

#[test]
fn an_apply_of_the_whole_object_leaves_the_status_alone() {
    let api = cluster();
    let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n"},
        "status": {"capacity": {"x/y": "1"}}});
    let reply = api.send(&patch(&format!("{NODE}?fieldManager=kcm"), APPLY, node)).unwrap();
    assert_eq!(reply.status, 200, "{}", reply.text);
    assert_eq!(api.get(NODE).unwrap()["status"]["capacity"].get("x/y"), None);
}
