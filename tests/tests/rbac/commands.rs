//! The commands that talk to the API server, each in every case in which it asks for something else.

use std::path::Path;
use std::process::Command;

use kcm_tests::api_server::ApiServer;
use kcm_tests::conf_dir::ConfDir;
use kcm_tests::kcm::{Outcome, kcm, run};
use serde_json::Value;

pub(crate) const NODE: &str = "worker-1";

/// A cluster of one node that knows the kinds of the reports.
pub(crate) fn cluster() -> ApiServer {
    let api = ApiServer::start();
    api.add_node(NODE);
    let crds = run(kcm().arg("crds")).succeeded().out;
    api.install_crds(serde_saphyr::from_multiple::<Value>(&crds).unwrap());
    api
}

/// A command on the node, with this kubeconfig.
fn on_node(words: &[&str], conf: &ConfDir, kubeconfig: &Path) -> Command {
    let mut command = kcm();
    command.args(words).env("KUBECONFIG", kubeconfig);
    command.env("KCM_CONF_DIR", conf.path()).env("NODE_NAME", NODE);
    command
}

/// What the commands do in their life on a node, in this namespace: each the first time and again,
/// with something new to say. The command, and how it ended.
pub(crate) fn all(kubeconfig: &Path, namespace: &str) -> Vec<(&'static str, Outcome)> {
    let conf = ConfDir::new(&[("dataplane", true, &["0"]), ("infra", false, &["0"])]);
    let place = format!("--namespace={namespace}");
    let go = |words: &[&str]| run(&mut on_node(words, &conf, kubeconfig));
    let mut outcomes = vec![
        ("discover", go(&["discover"])),
        ("discover again", go(&["discover"])),
        ("reconcile", go(&["reconcile", "--publish", &place])),
        ("node-report", go(&["node-report", "--publish", &place])),
    ];
    std::fs::create_dir(conf.path().join("pools/dataplane/1")).unwrap();
    std::fs::write(conf.tasks_path("dataplane", "1"), "").unwrap();
    outcomes.extend([
        ("discover more", go(&["discover"])),
        ("reconcile again", go(&["reconcile", "--publish", &place])),
        ("node-report again", go(&["node-report", "--publish", &place])),
        ("discover --remove", go(&["discover", "--remove"])),
    ]);
    outcomes
}

/// They all succeed, and have done something.
#[track_caller]
pub(crate) fn all_succeed(api: &ApiServer, kubeconfig: &Path, namespace: &str) {
    for (command, outcome) in all(kubeconfig, namespace) {
        assert_eq!(outcome.code, Some(0), "{command}: {outcome:?}");
    }
    for kind in ["nodereports", "reconcilereports"] {
        let path = format!("/apis/kcm.intel.com/v1/namespaces/{namespace}/{kind}/{NODE}");
        let report = api.get(&path).unwrap_or_else(|| panic!("{path} is not there"));
        assert!(report["report"]["summary"].is_object(), "{report}");
    }
    let node = api.get(&format!("/api/v1/nodes/{NODE}")).unwrap();
    assert!(node["spec"]["taints"].is_null(), "{node}");
}
