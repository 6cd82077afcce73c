//! `--interval`: one document after the other, until a signal ends it.

use std::fs::{self, File};
use std::process::{Child, ChildStdout, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use kcm_tests::conf_dir::ConfDir;
use kcm_tests::kcm::{Outcome, kcm, run};
use kcm_tests::machine::{until, waits_for_a_lock};
use nix::fcntl::{Flock, FlockArg};
use nix::sys::signal::Signal;
use nix::unistd::Pid;
use serde_json::{Deserializer, Value};

use super::machine::Machine;
use super::{errors, on, parse, sixteen_cpus};

/// For a machine that is emulated, and busy.
const PATIENCE: Duration = Duration::from_secs(60);

fn pools() -> ConfDir {
    ConfDir::new(&[("dataplane", true, &["0,8"]), ("infra", false, &["1-7,9-15"])])
}

/// A report that goes on and on; killed when dropped.
struct Reporter {
    child: Option<Child>,
    documents: Receiver<Result<Value, String>>,
}

impl Reporter {
    fn start(machine: &Machine, conf: &ConfDir, interval: &str, lock_timeout: &str) -> Self {
        let mut command = kcm();
        command.arg("node-report").arg(format!("--interval={interval}"));
        machine.show_to(&mut command);
        command.env("KCM_CONF_DIR", conf.path()).env("KCM_LOCK_TIMEOUT", lock_timeout);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let documents = documents(child.stdout.take().unwrap());
        Self { child: Some(child), documents }
    }

    fn pid(&self) -> i32 {
        self.child.as_ref().unwrap().id() as i32
    }

    /// The next document.
    fn next(&self) -> Value {
        self.documents.recv_timeout(PATIENCE).expect("a document").unwrap()
    }

    /// Reads documents until one is as it should be.
    fn next_that(&self, is_so: impl Fn(&Value) -> bool) -> Value {
        until("a document", || Some(self.next()).filter(&is_so))
    }

    /// Sends a signal, and waits for the end. What it had begun to print must be whole.
    fn ended_by(mut self, signal: Signal) -> Outcome {
        nix::sys::signal::kill(Pid::from_raw(self.pid()), signal).unwrap();
        let child = self.child.as_mut().unwrap();
        until("the reporter to end", || child.try_wait().unwrap());
        for document in self.documents.iter() {
            document.unwrap();
        }
        self.child.take().unwrap().wait_with_output().unwrap().into()
    }
}

impl Drop for Reporter {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// The documents of a stream as they come; the last may be an error.
fn documents(out: ChildStdout) -> Receiver<Result<Value, String>> {
    let (sender, receiver) = channel();
    thread::spawn(move || {
        for document in Deserializer::from_reader(out).into_iter() {
            if sender.send(document.map_err(|e| e.to_string())).is_err() {
                return;
            }
        }
    });
    receiver
}

#[test]
fn documents_follow_one_another_until_a_signal_and_each_is_what_one_call_prints() {
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let (machine, conf) = (sixteen_cpus(), pools());
        let once = parse(&on(&machine, conf.path(), "node-report").succeeded());
        let reporter = Reporter::start(&machine, &conf, "0.01", "30");
        for _ in 0..5 {
            assert_eq!(reporter.next(), once);
        }
        let outcome = reporter.ended_by(signal).succeeded();
        assert!(outcome.lines("ERROR").is_empty(), "{signal}: {outcome:?}");
    }
}

#[test]
fn a_signal_ends_it_between_two_rounds_however_far_apart_they_are() {
    let (machine, conf) = (sixteen_cpus(), pools());
    let reporter = Reporter::start(&machine, &conf, "100000", "30");
    reporter.next();
    reporter.ended_by(Signal::SIGTERM).succeeded();
}

#[test]
fn a_signal_ends_it_while_it_waits_for_the_lock() {
    let (machine, conf) = (sixteen_cpus(), pools());
    let file = File::open(conf.path().join("lock")).unwrap();
    let held = Flock::lock(file, FlockArg::LockExclusive).unwrap();
    let reporter = Reporter::start(&machine, &conf, "0.01", "100000");
    until("it to wait", || waits_for_a_lock(reporter.pid()).then_some(()));
    reporter.ended_by(Signal::SIGTERM).succeeded();
    drop(held);
}

#[test]
fn it_goes_on_when_the_directory_vanishes_and_comes_back() {
    let (machine, conf) = (sixteen_cpus(), pools());
    let is_ok = |report: &Value| errors(report).is_empty() && report["description"].is_object();
    let elsewhere = conf.path().with_file_name("elsewhere");
    let reporter = Reporter::start(&machine, &conf, "0.01", "30");
    for _ in 0..3 {
        reporter.next_that(is_ok);
        fs::rename(conf.path(), &elsewhere).unwrap();
        let gone = reporter.next_that(|report| !is_ok(report));
        assert!(gone["description"].is_null(), "{gone}");
        assert!(errors(&gone)[0].contains("is no kcm configuration directory"), "{gone}");
        fs::rename(&elsewhere, conf.path()).unwrap();
    }
    reporter.next_that(is_ok);
    reporter.ended_by(Signal::SIGTERM).succeeded();
}

#[test]
fn what_changes_is_in_the_next_document() {
    let (machine, conf) = (sixteen_cpus(), pools());
    let reporter = Reporter::start(&machine, &conf, "0.01", "30");
    reporter.next();
    fs::write(conf.tasks_path("dataplane", "0,8"), "12,34").unwrap();
    let wrong = "CPU list dataplane:0,8 is exclusive and has 2 tasks: 12, 34";
    let report = reporter.next_that(|report| errors(report) == [wrong]);
    let tasks = &report["description"]["pools"]["dataplane"]["cpuLists"]["0,8"]["tasks"];
    assert_eq!(*tasks, serde_json::json!([12, 34]));
    reporter.ended_by(Signal::SIGINT).succeeded();
}

#[test]
fn no_interval_is_one_document() {
    let (machine, conf) = (sixteen_cpus(), pools());
    let once = on(&machine, conf.path(), "node-report").succeeded();
    let zero = machine.kcm(&["node-report", "--interval=0", "--conf-dir", text(&conf)]);
    assert_eq!(zero.succeeded().out, once.out);
}

#[test]
fn an_interval_that_is_no_number_of_seconds_is_wrong_usage() {
    let conf = pools();
    for interval in ["-1", "x", "", "1s", "nan", "inf", "1e300"] {
        let interval = format!("--interval={interval}");
        let outcome = run(kcm().args(["node-report", "--conf-dir", text(&conf), &interval]));
        assert_eq!((outcome.code, outcome.out.as_str()), (Some(2), ""), "{interval}: {outcome:?}");
        assert!(outcome.err.contains("--interval"), "{outcome:?}");
    }
}

fn text(conf: &ConfDir) -> &str {
    conf.path().to_str().unwrap()
}
