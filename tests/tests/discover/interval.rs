//! `--interval`: what others take away comes back, what changes is shown, an outage is outlived.

use std::fs;
use std::process::{Child, Stdio};

use kcm_tests::api_server::{ApiServer, Fault};
use kcm_tests::conf_dir::ConfDir;
use kcm_tests::machine::until;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use tempfile::NamedTempFile;

use super::node::{DATAPLANE, NODE, capacity, cluster, discover, node, our_taint, pools, taints};

/// A discover that goes on; killed when dropped.
struct Rounds {
    kcm: Child,
    err: NamedTempFile,
}

impl Rounds {
    fn start(api: &ApiServer, conf: &ConfDir) -> Self {
        let err = NamedTempFile::new().unwrap();
        let mut command = discover(api, conf, &["--interval=0.1"]);
        let kcm = command.stdin(Stdio::null()).stderr(err.reopen().unwrap()).spawn().unwrap();
        Self { kcm, err }
    }

    fn err(&self) -> String {
        fs::read_to_string(self.err.path()).unwrap()
    }

    fn end(mut self) {
        kill(Pid::from_raw(self.kcm.id() as i32), Signal::SIGTERM).unwrap();
        let status = until("discover to end", || self.kcm.try_wait().unwrap());
        assert_eq!(status.code(), Some(0), "{status}: {}", self.err());
    }
}

impl Drop for Rounds {
    fn drop(&mut self) {
        let _ = self.kcm.kill();
        let _ = self.kcm.wait();
    }
}

fn shows(api: &ApiServer, count: &str) {
    until("the node to show all of it", || {
        let label = node(api)["metadata"]["labels"]["kcm.intel.com/kcm-node"].clone();
        let is_there = capacity(api, DATAPLANE) == count
            && label == "true"
            && taints(api).as_array().is_some_and(|taints| taints.contains(&our_taint()));
        is_there.then_some(())
    });
}

#[test]
fn what_others_take_away_comes_back() {
    let (api, conf) = (cluster(), pools());
    let rounds = Rounds::start(&api, &conf);
    shows(&api, "2");
    // The device manager zeroes it; another controller sets taints of its own; labels go.
    api.edit(NODE, |node| node["status"]["capacity"][DATAPLANE] = json!("0"));
    shows(&api, "2");
    let theirs = json!({"key": "other", "effect": "NoSchedule"});
    api.edit(NODE, |node| {
        node["spec"]["taints"] = json!([theirs]);
        node["metadata"]["labels"] = json!({"kubernetes.io/os": "linux"});
    });
    shows(&api, "2");
    assert_eq!(taints(&api), json!([theirs, our_taint()]));
    rounds.end();
}

#[test]
fn a_node_that_is_registered_anew_shows_it_again() {
    let (api, conf) = (cluster(), pools());
    let rounds = Rounds::start(&api, &conf);
    shows(&api, "2");
    api.delete(NODE);
    until("it to miss the node", || rounds.err().contains("HTTP status 404").then_some(()));
    api.add_node("worker-1");
    shows(&api, "2");
    rounds.end();
}

#[test]
fn a_pool_that_changed_is_shown_as_it_is_now() {
    let (api, conf) = (cluster(), pools());
    let rounds = Rounds::start(&api, &conf);
    shows(&api, "2");
    fs::remove_dir_all(conf.path().join("pools/dataplane/1")).unwrap();
    shows(&api, "1");
    fs::remove_dir_all(conf.path().join("pools/rt")).unwrap();
    until("the other pool's resource to go", || {
        (capacity(&api, "kcm.intel.com/rt-cores") == Value::Null).then_some(())
    });
    // While nobody can tell what there is, the node shows what it did.
    let path = conf.path().join("pools/dataplane/exclusive");
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    until("it to say so", || rounds.err().contains("dataplane/exclusive").then_some(()));
    assert_eq!(capacity(&api, DATAPLANE), "1");
    rounds.end();
}

#[test]
fn an_outage_is_outlived_and_nothing_is_written_for_nothing() {
    let (api, conf) = (cluster(), pools());
    let rounds = Rounds::start(&api, &conf);
    shows(&api, "2");
    let writes = api.writes().len();
    api.inject(Fault::status(500).times(12));
    until("rounds to fail", || {
        let failed = rounds.err().lines().filter(|line| line.starts_with("ERROR ")).count();
        (failed >= 2).then_some(())
    });
    let reads = api.requests().len();
    until("further rounds", || (api.requests().len() > reads + 5).then_some(()));
    assert_eq!(api.writes().len(), writes);
    shows(&api, "2");
    rounds.end();
}
