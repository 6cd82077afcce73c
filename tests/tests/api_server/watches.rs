//! Watches tell what happens from a resourceVersion on, to those whom it concerns.

use kcm_tests::api_server::{ApiServer, Ask};
use serde_json::Value;

use crate::{PODS, pod};

/// Type and name of each event.
fn told(api: &ApiServer, query: &str) -> Vec<(String, String)> {
    let path = format!("{PODS}?watch=true&timeoutSeconds=1&{query}");
    let events = api.send(&Ask::get(&path)).unwrap().events();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let shown = |event: &Value| (text(&event["type"]), text(&event["object"]["metadata"]["name"]));
    events.iter().map(shown).collect()
}

fn added(names: &[&str]) -> Vec<(String, String)> {
    names.iter().map(|name| ("ADDED".to_owned(), (*name).to_owned())).collect()
}

#[test]
fn without_a_version_a_watch_begins_with_what_is_there() {
    // Without a node no pod goes any further.
    let api = ApiServer::start();
    for name in ["b", "a"] {
        api.create(PODS, pod(name));
    }
    api.create("/api/v1/namespaces/other/pods", pod("c"));
    api.settle();
    assert_eq!(told(&api, ""), added(&["a", "b"]));
    assert_eq!(told(&api, "fieldSelector=metadata.name%3Db"), added(&["b"]));
}

#[test]
fn from_the_version_of_a_list_a_watch_tells_what_came_later_and_nothing_twice() {
    let api = ApiServer::start();
    api.create(PODS, pod("a"));
    api.settle();
    let list = api.send(&Ask::get(PODS)).unwrap().json();
    let version = list["metadata"]["resourceVersion"].as_str().unwrap().to_owned();
    api.create(PODS, pod("b"));
    api.settle();
    api.delete(&format!("{PODS}/a"));
    let told = told(&api, &format!("resourceVersion={version}"));
    let names: Vec<_> = told.iter().map(|(change, name)| format!("{change} {name}")).collect();
    assert_eq!(names, ["ADDED b", "MODIFIED b", "DELETED a"]);
}

#[test]
fn an_object_comes_and_goes_for_a_watch_as_its_selector_says() {
    let api = ApiServer::start();
    api.create(PODS, pod("a"));
    api.settle();
    let before = api.get(&format!("{PODS}/a")).unwrap()["metadata"]["resourceVersion"].clone();
    for label in ["yes", "yes", "no"] {
        api.edit(&format!("{PODS}/a"), |pod| {
            pod["metadata"]["labels"]["kcm"] = label.into();
            pod["metadata"]["annotations"]["touched"] = format!("{}", pod["metadata"]).into();
        });
    }
    let query = format!("labelSelector=kcm%3Dyes&resourceVersion={}", before.as_str().unwrap());
    let changes: Vec<_> = told(&api, &query).into_iter().map(|(change, _)| change).collect();
    assert_eq!(changes, ["ADDED", "MODIFIED", "DELETED"]);
}

#[test]
fn a_pod_is_found_by_its_node_once_it_is_bound() {
    let api = ApiServer::start();
    api.add_node("n");
    api.create(PODS, pod("a"));
    api.settle();
    let there = api.send(&Ask::get(&format!("{PODS}?fieldSelector=spec.nodeName%3Dn"))).unwrap();
    let elsewhere =
        api.send(&Ask::get(&format!("{PODS}?fieldSelector=spec.nodeName%3Dm"))).unwrap();
    let count = |list: Value| list["items"].as_array().unwrap().len();
    assert_eq!((count(there.json()), count(elsewhere.json())), (1, 0));
}

#[test]
fn a_watch_that_asked_for_bookmarks_ends_with_one() {
    let api = ApiServer::start();
    api.create(PODS, pod("a"));
    api.settle();
    let path = format!("{PODS}?watch=1&allowWatchBookmarks=true&timeoutSeconds=1");
    let events = api.send(&Ask::get(&path)).unwrap().events();
    let last = events.last().unwrap();
    assert_eq!((&last["type"], &last["object"]["kind"]), (&"BOOKMARK".into(), &"Pod".into()));
    let list = api.send(&Ask::get(PODS)).unwrap().json();
    let version = &last["object"]["metadata"]["resourceVersion"];
    assert_eq!(*version, list["metadata"]["resourceVersion"]);
}
