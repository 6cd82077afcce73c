//! Which nodes are prepared, and what is said of the others.

use kcm_tests::api_server::ApiServer;
use kcm_tests::kcm;
use serde_json::json;

use super::cluster::{cluster, cluster_init, made_names, rows, run};

fn add_unready(api: &ApiServer, name: &str) {
    api.add_node_with(name, |node| {
        let conditions = node["status"]["conditions"].as_array_mut().unwrap();
        let ready = conditions.iter_mut().find(|condition| condition["type"] == "Ready");
        ready.unwrap()["status"] = json!("Unknown");
    });
}

fn add_windows(api: &ApiServer, name: &str) {
    api.add_node_with(name, |node| {
        node["metadata"]["labels"]["kubernetes.io/os"] = json!("windows");
    });
}

fn names(outcome: &kcm::Outcome) -> Vec<String> {
    rows(&outcome.out).into_iter().map(|(name, ..)| name).collect()
}

#[test]
fn a_node_that_is_named_twice_is_prepared_once() {
    let api = cluster(&["b", "a"]);
    let outcome = run(&api, &["--host-list=b,a,b,", "--kcm-cmd-list=init"]).succeeded();
    assert_eq!(names(&outcome), ["a", "b"]);
    let mut made = made_names(&api);
    made.sort();
    assert_eq!(made, ["kcm-init-pod-a", "kcm-init-pod-b"]);
}

#[test]
fn all_nodes_that_are_not_there_are_named_and_nothing_is_made() {
    let api = cluster(&["a"]);
    run(&api, &["--host-list=z,a,y"]).failed_with(&["no such node: y, z;", "kubectl get nodes"]);
    assert_eq!(api.writes().len(), 0);
}

#[test]
fn all_hosts_leaves_out_what_is_not_ready_or_not_linux_and_says_so() {
    let api = cluster(&["good"]);
    add_unready(&api, "unready");
    add_windows(&api, "windows");
    let outcome = run(&api, &["--all-hosts", "--kcm-cmd-list=init"]).succeeded();
    assert_eq!(names(&outcome), ["good"]);
    assert_eq!(
        outcome.lines("WARNING"),
        ["node unready is left out: it is not Ready", "node windows is left out: it is not Linux",]
    );
    assert_eq!(made_names(&api), ["kcm-init-pod-good"]);
}

#[test]
fn a_node_that_is_named_and_not_linux_is_an_error() {
    let api = cluster(&["good"]);
    add_windows(&api, "windows");
    run(&api, &["--host-list=good,windows"]).failed_with(&["node windows is not Linux"]);
    assert_eq!(api.writes().len(), 0);
}

#[test]
fn a_node_that_is_named_and_not_ready_is_warned_of_and_tried() {
    let api = ApiServer::start();
    add_unready(&api, "unready");
    let outcome = run(&api, &["--host-list=unready", "--kcm-cmd-list=init"]).succeeded();
    assert_eq!(outcome.lines("WARNING"), ["node unready: it is not Ready; its pods may not start"]);
    assert_eq!(names(&outcome), ["unready"]);
}

#[test]
fn a_cluster_with_no_node_that_fits_is_an_error() {
    let api = ApiServer::start();
    run(&api, &["--all-hosts"]).failed_with(&["no node of the cluster is Linux and ready"]);
    add_windows(&api, "windows");
    let outcome =
        run(&api, &["--all-hosts"]).failed_with(&["no node of the cluster is Linux and ready"]);
    assert_eq!(outcome.lines("WARNING").len(), 1);
    assert_eq!(api.writes().len(), 0);
}

#[test]
fn nodes_are_said_in_one_of_two_ways() {
    let api = cluster(&["a"]);
    for flags in [&[][..], &["--all-hosts", "--host-list=a"]] {
        let outcome = kcm::run(&mut cluster_init(&api, flags));
        assert_eq!(outcome.code, Some(2), "{outcome:?}");
        assert!(outcome.err.contains("--host-list"), "{outcome:?}");
    }
    run(&api, &["--host-list="]).failed_with(&["--host-list names no node"]);
    assert_eq!(api.writes().len(), 0);
}

#[test]
fn more_nodes_than_fit_a_page_are_all_found() {
    let api = ApiServer::start();
    (0..1100).for_each(|number| add_windows(&api, &format!("w-{number:04}")));
    api.add_node("z");
    let outcome = run(&api, &["--all-hosts", "--kcm-cmd-list=init"]).succeeded();
    assert_eq!(names(&outcome), ["z"]);
    let lists = api.requests().into_iter().filter(|seen| seen.resource == "nodes").count();
    assert_eq!(lists, 3);
}
