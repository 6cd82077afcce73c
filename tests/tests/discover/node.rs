//! A node in the cluster, and kcm on it.

use std::process::Command;

use kcm_tests::api_server::ApiServer;
use kcm_tests::conf_dir::ConfDir;
use kcm_tests::kcm::kcm;
use serde_json::{Value, json};

pub(crate) const NODE: &str = "/api/v1/nodes/worker-1";
pub(crate) const DATAPLANE: &str = "kcm.intel.com/dataplane-cores";

/// A cluster of one node, as the kubelet registers it.
pub(crate) fn cluster() -> ApiServer {
    let api = ApiServer::start();
    api.add_node("worker-1");
    api
}

/// Two CPU lists in dataplane, one in the exclusive pool rt; controlplane and infra are shared.
pub(crate) fn pools() -> ConfDir {
    ConfDir::new(&[
        ("dataplane", true, &["0", "1"]),
        ("rt", true, &["0-1"]),
        ("controlplane", false, &["0"]),
        ("infra", false, &["1"]),
    ])
}

/// `kcm discover` on that node.
pub(crate) fn discover(api: &ApiServer, conf: &ConfDir, flags: &[&str]) -> Command {
    let mut command = kcm();
    command.arg("discover").args(flags).env("KUBECONFIG", api.kubeconfig());
    command.env("KCM_CONF_DIR", conf.path()).env("NODE_NAME", "worker-1");
    command
}

/// The node as the cluster has it now.
pub(crate) fn node(api: &ApiServer) -> Value {
    api.get(NODE).unwrap()
}

/// The node's taints.
pub(crate) fn taints(api: &ApiServer) -> Value {
    node(api)["spec"]["taints"].clone()
}

/// How many of a resource the node has; null if it has none.
pub(crate) fn capacity(api: &ApiServer, resource: &str) -> Value {
    node(api)["status"]["capacity"][resource].clone()
}

/// The taint of a node with pools.
pub(crate) fn our_taint() -> Value {
    json!({"key": "kcm", "value": "true", "effect": "NoSchedule"})
}
