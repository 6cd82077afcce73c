//! A cluster of some nodes, `kcm cluster-init` on it, and the table that it ends with.

use std::process::Command;
use std::thread::{self, JoinHandle};

use kcm_tests::api_server::{ApiServer, Cluster, Outcome, Seen};
use kcm_tests::kcm::{self, kcm};
use kcm_tests::machine::until;
use serde_json::Value;

/// The name of the first pod of a node, by the defaults.
pub(crate) fn first_pod(node: &str) -> String {
    format!("kcm-init-install-discover-pod-{node}")
}

/// The name of the second one.
pub(crate) fn second_pod(node: &str) -> String {
    format!("kcm-reconcile-nodereport-pod-{node}")
}

/// The path of a pod in the namespace default.
pub(crate) fn path(pod: &str) -> String {
    format!("/api/v1/namespaces/default/pods/{pod}")
}

/// A cluster with these nodes, all of them ready.
pub(crate) fn cluster(nodes: &[&str]) -> ApiServer {
    let api = ApiServer::start();
    nodes.iter().for_each(|node| api.add_node(node));
    api
}

/// `kcm cluster-init`, by the kubeconfig that allows everything.
pub(crate) fn cluster_init(api: &ApiServer, flags: &[&str]) -> Command {
    let mut command = kcm();
    command.arg("cluster-init").args(flags).env("KUBECONFIG", api.kubeconfig());
    command
}

/// The same, to its end.
pub(crate) fn run(api: &ApiServer, flags: &[&str]) -> kcm::Outcome {
    kcm::run(&mut cluster_init(api, flags))
}

/// One command that ends in the one pod of worker-1, for tests of one pod.
pub(crate) const INIT_ONLY: [&str; 2] = ["--host-list=worker-1", "--kcm-cmd-list=init"];

/// The pod of [`INIT_ONLY`].
pub(crate) const INIT_POD: &str = "kcm-init-pod-worker-1";

/// `worker-1` alone, whose pods come to this end.
pub(crate) fn cluster_where_all(outcome: Outcome) -> ApiServer {
    let api = cluster(&["worker-1"]);
    api.kubelet(move |_| outcome.clone());
    api
}

/// Changes a pod when it is there and its kubelet has nothing left to do.
pub(crate) fn edit_when_made(
    api: &ApiServer,
    pod: &str,
    edit: impl FnOnce(&mut Value) + Send + 'static,
) -> JoinHandle<()> {
    let (cluster, path) = (Cluster::clone(api), path(pod));
    thread::spawn(move || {
        until("the pod to be made", || cluster.get(&path));
        cluster.settle();
        cluster.edit(&path, edit);
    })
}

/// Whether this is a pod's creation.
pub(crate) fn makes_pod(seen: &Seen) -> bool {
    seen.verb == "create" && seen.resource == "pods"
}

/// The pods that were made, as they were sent, in order.
pub(crate) fn made(api: &ApiServer) -> Vec<Value> {
    api.requests().into_iter().filter(makes_pod).map(|seen| seen.body).collect()
}

/// The names of the pods that were made.
pub(crate) fn made_names(api: &ApiServer) -> Vec<String> {
    made(api).iter().map(|pod| pod["metadata"]["name"].as_str().unwrap().to_owned()).collect()
}

/// A line of the table: node, result and detail. The seconds must be a number.
pub(crate) type Row = (String, String, String);

/// The table on standard output.
pub(crate) fn rows(out: &str) -> Vec<Row> {
    let mut lines = out.lines();
    let head: Vec<&str> = lines.next().unwrap_or_default().split_whitespace().collect();
    assert_eq!(head, ["NODE", "RESULT", "SECONDS", "DETAIL"], "{out}");
    lines.map(row).collect()
}

fn row(line: &str) -> Row {
    let mut rest = line;
    let mut word = || {
        let trimmed = rest.trim_start();
        let (word, after) = trimmed.split_once(' ').unwrap_or((trimmed, ""));
        rest = after;
        word.to_owned()
    };
    let (node, result, seconds) = (word(), word(), word());
    assert!(seconds.parse::<f64>().is_ok_and(|seconds| seconds >= 0.0), "{line}");
    (node, result, rest.trim_start().to_owned())
}

/// How one node ended, which must be the only one.
pub(crate) fn only_row(outcome: &kcm::Outcome) -> (String, String) {
    let mut rows = rows(&outcome.out);
    assert_eq!(rows.len(), 1, "{outcome:?}");
    let (_, result, detail) = rows.remove(0);
    (result, detail)
}

/// The detail of the one node, which must have failed.
#[track_caller]
pub(crate) fn failure(outcome: &kcm::Outcome) -> String {
    let (result, detail) = only_row(outcome);
    assert_eq!((outcome.code, result.as_str()), (Some(1), "failed"), "{outcome:?}");
    // Each line is one of the log.
    let errors = outcome.lines("ERROR");
    assert_eq!(errors.last(), Some(&"1 of 1 nodes are not ready"), "{outcome:?}");
    detail
}
