//! A command that goes on and serves metrics.

use std::fs;
use std::process::{Child, Command, ExitStatus, Stdio};

use kcm_tests::conf_dir::ConfDir;
use kcm_tests::kcm::kcm;
use kcm_tests::machine::until;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::NamedTempFile;

use super::http::{Answer, ask};

/// A command that goes on; killed when dropped.
pub(crate) struct Agent {
    kcm: Child,
    err: NamedTempFile,
    address: String,
}

/// A command at intervals of 50 ms that serves metrics at a port which the kernel chooses.
pub(crate) fn command(conf: &ConfDir, words: &[&str]) -> Command {
    let mut command = kcm();
    command.args(words).args(["--interval=0.05", "--metrics-addr=127.0.0.1:0"]);
    command.env("KCM_CONF_DIR", conf.path());
    command
}

impl Agent {
    /// `kcm reconcile` of a directory.
    pub(crate) fn reconcile(conf: &ConfDir) -> Self {
        Self::start(&mut command(conf, &["reconcile"]))
    }

    /// Any command, whose output nobody wants; waits until it says where its metrics are.
    pub(crate) fn start(command: &mut Command) -> Self {
        Self::with_output(command, Stdio::null())
    }

    pub(crate) fn with_output(command: &mut Command, out: Stdio) -> Self {
        let err = NamedTempFile::new().unwrap();
        command.stdin(Stdio::null()).stdout(out).stderr(err.reopen().unwrap());
        let mut kcm = command.spawn().unwrap();
        let address = until("kcm to say where its metrics are", || {
            let said = fs::read_to_string(err.path()).unwrap();
            assert!(kcm.try_wait().unwrap().is_none(), "it has ended: {said}");
            let (_, rest) = said.split_once("INFO metrics are at http://")?;
            Some(rest.split_once("/metrics\n")?.0.to_owned())
        });
        Self { kcm, err, address }
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    pub(crate) fn pid(&self) -> i32 {
        self.kcm.id() as i32
    }

    pub(crate) fn err(&self) -> String {
        fs::read_to_string(self.err.path()).unwrap()
    }

    pub(crate) fn get(&self, path: &str) -> Answer {
        ask(&self.address, "GET", path)
    }

    /// The metrics as they are now.
    #[track_caller]
    pub(crate) fn metrics(&self) -> Metrics {
        let answer = self.get("/metrics");
        assert_eq!(answer.status, 200, "{answer:?}");
        Metrics(answer.body)
    }

    /// The metrics of a round that began after this was called.
    #[track_caller]
    pub(crate) fn next_round(&self) -> Metrics {
        let before = self.metrics().rounds();
        until("another round to begin and to end", || {
            let now = self.metrics();
            (now.rounds() >= before + 2.0).then_some(now)
        })
    }

    /// Waits until `/healthz` has this status; gives what it says.
    #[track_caller]
    pub(crate) fn health(&self, status: u16) -> String {
        let answer = until(&format!("/healthz to answer {status}"), || {
            Some(self.get("/healthz")).filter(|answer| answer.status == status)
        });
        assert_eq!(answer.body.lines().count(), 1, "{answer:?}");
        answer.body
    }

    /// How many descriptors it has open.
    pub(crate) fn descriptors(&self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.pid())).unwrap().count()
    }

    /// Sends it SIGTERM, and waits for its end.
    pub(crate) fn end(&mut self) -> ExitStatus {
        kill(Pid::from_raw(self.pid()), Signal::SIGTERM).unwrap();
        until("kcm to end", || self.kcm.try_wait().unwrap())
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.kcm.kill();
        let _ = self.kcm.wait();
    }
}

/// What `/metrics` says.
#[derive(Debug)]
pub(crate) struct Metrics(pub(crate) String);

impl Metrics {
    /// The value of a series, spelled as it is printed; none where it is not there.
    pub(crate) fn get(&self, series: &str) -> Option<f64> {
        let of = |line: &str| line.strip_prefix(series)?.strip_prefix(' ')?.parse().ok();
        self.0.lines().find_map(of)
    }

    /// Fails the test unless each series has this value.
    #[track_caller]
    pub(crate) fn must_say(&self, expected: &[(&str, f64)]) {
        for (series, value) in expected {
            assert_eq!(self.get(series), Some(*value), "{series} in:\n{}", self.0);
        }
    }

    /// How many rounds have ended.
    pub(crate) fn rounds(&self) -> f64 {
        let ended = |result| self.get(&format!("kcm_rounds_total{{result=\"{result}\"}}")).unwrap();
        ended("succeeded") + ended("failed")
    }
}
