//! `--publish --interval`: an outage is outlived, and what has not changed is not written again.

use std::fs;
use std::process::{Child, Stdio};

use kcm_tests::api_server::{ApiServer, Fault};
use kcm_tests::conf_dir::ConfDir;
use kcm_tests::machine::until;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::NamedTempFile;

use super::cluster::{NODE_REPORT, cluster, pools, publish};

/// A node-report that goes on; killed when dropped.
struct Rounds {
    kcm: Child,
    out: NamedTempFile,
    err: NamedTempFile,
}

impl Rounds {
    fn start(api: &ApiServer, conf: &ConfDir) -> Self {
        let [out, err] = [NamedTempFile::new().unwrap(), NamedTempFile::new().unwrap()];
        let mut command = publish(api, conf, &["node-report", "--interval=0.1"]);
        command.stdin(Stdio::null()).stdout(out.reopen().unwrap()).stderr(err.reopen().unwrap());
        Self { kcm: command.spawn().unwrap(), out, err }
    }

    /// How many documents it has printed.
    fn printed(&self) -> usize {
        let text = fs::read_to_string(self.out.path()).unwrap();
        text.lines().filter(|&line| line == "}").count()
    }

    fn prints(&self, more: usize) {
        let before = self.printed();
        until("more documents", || (self.printed() >= before + more).then_some(()));
    }

    fn errors(&self) -> usize {
        let text = fs::read_to_string(self.err.path()).unwrap();
        text.lines().filter(|line| line.starts_with("ERROR ")).count()
    }

    fn end(mut self) {
        kill(Pid::from_raw(self.kcm.id() as i32), Signal::SIGTERM).unwrap();
        let status = until("node-report to end", || self.kcm.try_wait().unwrap());
        assert_eq!(status.code(), Some(0), "{status}");
    }
}

impl Drop for Rounds {
    fn drop(&mut self) {
        let _ = self.kcm.kill();
        let _ = self.kcm.wait();
    }
}

fn free(api: &ApiServer) -> Option<u64> {
    api.get(NODE_REPORT)?["report"]["summary"]["exclusiveFree"].as_u64()
}

#[test]
fn what_has_not_changed_is_not_written_again() {
    let (api, conf) = (cluster(), pools());
    let rounds = Rounds::start(&api, &conf);
    until("the first report", || (free(&api) == Some(1)).then_some(()));
    rounds.prints(6);
    assert_eq!(api.requests().len(), 1);
    fs::write(conf.tasks_path("dataplane", "1"), "").unwrap();
    until("the second report", || (free(&api) == Some(2)).then_some(()));
    rounds.prints(4);
    assert_eq!(api.requests().len(), 2);
    rounds.end();
}

#[test]
fn an_outage_is_outlived_and_what_it_missed_is_written() {
    let (api, conf) = (cluster(), pools());
    let rounds = Rounds::start(&api, &conf);
    until("the first report", || (free(&api) == Some(1)).then_some(()));
    api.inject(Fault::status(500).times(10));
    fs::write(conf.tasks_path("dataplane", "1"), "").unwrap();
    until("a round to fail", || (rounds.errors() > 0).then_some(()));
    until("the second report", || (free(&api) == Some(2)).then_some(()));
    let errors = rounds.errors();
    rounds.prints(3);
    assert_eq!(rounds.errors(), errors);
    rounds.end();
}

#[test]
fn a_server_that_hangs_does_not_keep_it_from_ending() {
    let (api, conf) = (cluster(), pools());
    api.inject(Fault::hang(std::time::Duration::from_secs(60)).times(1));
    let rounds = Rounds::start(&api, &conf);
    rounds.prints(1);
    until("the request", || (api.injected() == 1).then_some(()));
    rounds.end();
}
