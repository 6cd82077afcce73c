//! Between reconcile's look and its repair a container may end, and another of its id be started:
//! that one has CPUs of its own, and is left on them.

use std::fs;
use std::process::{Child, Command, Stdio};

use kcm_tests::conf_dir::ConfDir;
use kcm_tests::hook::{HookCall, POOL};
use kcm_tests::kcm::Outcome;
use kcm_tests::machine::{kill, until};
use kcm_tests::stand_in::StandIn;
use tempfile::NamedTempFile;

use super::document::{document, repaired};
use super::holders::{Process, container, drift, holder, pool};
use super::traced::{calls, strace, traced};

/// A container that is no longer on its CPUs, list 0, and a list that is free.
fn drifted() -> (ConfDir, StandIn) {
    let conf = pool(&["0", "1"]);
    let container = holder(&conf, "race");
    drift(&container, "0-1");
    (conf, container)
}

/// The how-many-eth `flock(2)` it is by which an undisturbed run locks the directory for its
/// repair: it does so once to look, and once for each that it repairs.
fn lock_of_the_repair() -> usize {
    let (conf, container) = drifted();
    let run = traced(&conf, &["--repair"]);
    let entry = repaired("p", "0", container.pid(), &[0, 1], true);
    assert_eq!(run.outcome.out, document(&[entry], &[]), "{:?}", run.outcome);
    let locks = run.named("flock");
    assert_eq!(locks.iter().filter(|call| call.contains("LOCK_EX")).count(), 2, "{locks:?}");
    locks.iter().rposition(|call| call.contains("LOCK_EX")).unwrap() + 1
}

/// A reconcile that hangs before it locks the directory for its repair.
struct Hanging {
    kcm: Child,
    tracer: i32,
    said: [NamedTempFile; 2],
}

impl Hanging {
    /// Starts it, and waits until it hangs there.
    fn before_the_repair(conf: &ConfDir) -> Self {
        let nth = lock_of_the_repair();
        let trace = NamedTempFile::new().unwrap();
        // Ten minutes: until the tracer is killed, upon which the call is made at once. The tracer
        // is to be a grandchild (-D), so that it is reconcile whose end is waited for here.
        let delay = format!("inject=flock:delay_enter=600000000:when={nth}");
        let mut command = strace(conf, &["-D", "-e", &delay], &trace, &["--repair"]);
        let said = [NamedTempFile::new().unwrap(), NamedTempFile::new().unwrap()];
        let [out, err] = said.each_ref().map(|file| Stdio::from(file.reopen().unwrap()));
        // So long may it wait for the lock, too.
        command.env("KCM_LOCK_TIMEOUT", "900").stdin(Stdio::null()).stdout(out).stderr(err);
        let kcm = command.spawn().unwrap();
        let pid = kcm.id();
        until("reconcile to hang before its repair", || {
            let calls = calls(&trace);
            let locks = calls.iter().filter(|call| call.starts_with("flock(")).count();
            let looked = locks == nth - 1 && !calls.last()?.starts_with("flock(");
            (looked && is_stopped_in_flock(pid)).then_some(())
        });
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let tracer = status.lines().find_map(|line| line.strip_prefix("TracerPid:"));
        Self { kcm, tracer: tracer.unwrap().trim().parse().unwrap(), said }
    }

    /// Fails the test unless it still hangs; lets it go on, and waits for its end.
    fn go_on(mut self) -> Outcome {
        assert!(is_stopped_in_flock(self.kcm.id()), "it did not wait for the test");
        kill(self.tracer);
        let status = until("reconcile to end", || self.kcm.try_wait().unwrap());
        let [out, err] = self.said.each_ref().map(|file| fs::read_to_string(file.path()).unwrap());
        Outcome { code: status.code(), signal: None, out, err }
    }
}

/// Runs the hook while reconcile hangs, which has the turnstile: for half of the time limit it is waited
/// for.
#[track_caller]
fn pass_by(hook: HookCall) {
    hook.lock_timeout("3").run().must_succeed();
}

/// A container that is given a list meanwhile.
fn taker(conf: &ConfDir) -> StandIn {
    let taker = container("taker");
    pass_by(HookCall::create(conf.path(), &taker, "p"));
    taker
}

/// Whether its tracer has stopped this process on entering `flock(2)`, system call 73 on x86-64.
fn is_stopped_in_flock(pid: u32) -> bool {
    let read = |file: &str| fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap_or_default();
    read("stat").contains(") t ") && read("syscall").starts_with("73 ")
}

/// Fails the test unless this one was not repaired, and one warning says so.
#[track_caller]
fn must_not_have_repaired(outcome: &Outcome, pid: i32) {
    let entry = repaired("p", "0", pid, &[0, 1], false);
    assert_eq!((outcome.code, outcome.out.as_str()), (Some(0), &*document(&[entry], &[])));
    let warnings = outcome.lines("WARNING");
    assert!(warnings.iter().any(|line| line.contains(&pid.to_string())), "{outcome:?}");
}

/// The state that a runtime gives to the hook for a container of this id.
fn state(id: &str, pid: i32) -> String {
    serde_json::json!({
        "ociVersion": "1.0.2", "id": id, "status": "creating", "pid": pid, "bundle": "",
        "annotations": {POOL: "p"},
    })
    .to_string()
}

#[test]
fn a_container_restarted_under_its_id_keeps_its_new_cpus() {
    let (conf, mut old) = drifted();
    let reconcile = Hanging::before_the_repair(&conf);

    old.kill();
    pass_by(HookCall::poststop(conf.path(), old.id()));
    let taker = taker(&conf);
    assert_eq!(conf.tasks("p", "0"), taker.pid().to_string());
    // In the same cgroup, as a runtime makes it for the same id.
    let new = Process::running(Command::new("unshare").args(["--mount", "sleep", "600"]));
    old.cgroup().enter(new.pid());
    let state = state(old.id(), new.pid());
    pass_by(HookCall::with_input(conf.path(), "createRuntime", state));
    assert_eq!(conf.tasks("p", "1"), new.pid().to_string());
    assert_eq!(old.cgroup().cpus(), "1");
    let before = conf.snapshot();

    let outcome = reconcile.go_on();
    must_not_have_repaired(&outcome, old.pid());
    assert_eq!(old.cgroup().cpus(), "1");
    assert_eq!(super::holders::allowed_cpus(new.pid()), "1");
    assert_eq!((taker.cgroup().cpus(), taker.allowed_cpus()), ("0".into(), "0".into()));
    assert_eq!(conf.snapshot(), before);
}

#[test]
fn a_container_that_is_given_other_cpus_under_its_own_pid_keeps_them() {
    let (conf, mut same) = drifted();
    let reconcile = Hanging::before_the_repair(&conf);

    // Released by hand, and allocated anew for the same process.
    fs::remove_file(conf.record_path(same.id())).unwrap();
    fs::remove_file(conf.index_path("p", "0")).unwrap();
    fs::write(conf.tasks_path("p", "0"), "").unwrap();
    let taker = taker(&conf);
    pass_by(HookCall::create(conf.path(), &same, "p"));
    assert_eq!(conf.tasks("p", "1"), same.pid().to_string());
    assert_eq!(same.cgroup().cpus(), "1");

    let outcome = reconcile.go_on();
    assert_eq!(same.cgroup().cpus(), "1");
    must_not_have_repaired(&outcome, same.pid());
    assert_eq!(taker.cgroup().cpus(), "0");
    same.kill();
}

#[test]
fn a_container_that_has_ended_meanwhile_is_not_repaired() {
    let (conf, mut gone) = drifted();
    let reconcile = Hanging::before_the_repair(&conf);
    gone.kill();
    let before = conf.snapshot();
    let outcome = reconcile.go_on();
    must_not_have_repaired(&outcome, gone.pid());
    assert_eq!(gone.cgroup().cpus(), "0-1");
    assert_eq!(conf.snapshot(), before);
}

#[test]
fn a_container_that_was_removed_meanwhile_is_not_repaired() {
    let (conf, mut gone) = drifted();
    let reconcile = Hanging::before_the_repair(&conf);
    let pid = gone.pid();
    gone.kill();
    pass_by(HookCall::poststop(conf.path(), gone.id()));
    drop(gone);
    let outcome = reconcile.go_on();
    must_not_have_repaired(&outcome, pid);
    assert_eq!((conf.tasks("p", "0"), conf.allocations()), (String::new(), vec![]));
}

#[test]
fn a_container_that_came_back_to_its_cpus_meanwhile_is_left_alone() {
    let (conf, back) = drifted();
    let reconcile = Hanging::before_the_repair(&conf);
    drift(&back, "0");
    let outcome = reconcile.go_on();
    assert_eq!(outcome.code, Some(0), "{outcome:?}");
    assert_eq!((back.cgroup().cpus(), back.allowed_cpus()), ("0".into(), "0".into()));
}
