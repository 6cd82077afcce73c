//! A cluster that knows the kinds, and kcm on a node of it.

use std::process::Command;

use kcm_tests::api_server::ApiServer;
use kcm_tests::conf_dir::ConfDir;
use kcm_tests::kcm::{kcm, run};
use serde_json::Value;

pub(crate) const NODE_REPORT: &str =
    "/apis/kcm.intel.com/v1/namespaces/default/nodereports/worker-1";
pub(crate) const RECONCILE_REPORT: &str =
    "/apis/kcm.intel.com/v1/namespaces/default/reconcilereports/worker-1";

/// What `kcm crds` prints.
pub(crate) fn definitions() -> Vec<Value> {
    let text = run(kcm().arg("crds")).succeeded().out;
    serde_saphyr::from_multiple(&text).unwrap()
}

/// A cluster that knows both kinds.
pub(crate) fn cluster() -> ApiServer {
    let api = ApiServer::start();
    api.install_crds(definitions());
    api
}

/// A pool of two CPU lists of which one is held, by this very process; and a shared one.
pub(crate) fn pools() -> ConfDir {
    let conf = ConfDir::new(&[("dataplane", true, &["0", "1"]), ("infra", false, &["0-1"])]);
    let tasks = conf.tasks_path("dataplane", "1");
    std::fs::write(tasks, std::process::id().to_string()).unwrap();
    conf
}

/// A command with `--publish` on the node worker-1.
pub(crate) fn publish(api: &ApiServer, conf: &ConfDir, words: &[&str]) -> Command {
    let mut command = kcm();
    command.args(words).arg("--publish").env("KUBECONFIG", api.kubeconfig());
    command.env("KCM_CONF_DIR", conf.path()).env("NODE_NAME", "worker-1");
    command
}
