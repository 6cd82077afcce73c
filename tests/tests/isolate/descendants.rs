//! The list is held as long as anything lives that the command has started, and kcm with it.

use kcm_tests::conf_dir::ConfDir;
use kcm_tests::hook::HookCall;
use kcm_tests::isolate::{
    Gate, Isolate, Process, Running, descendants, must_be_free, must_be_held, nothing_must_be_held,
};
use kcm_tests::machine::until;
use kcm_tests::stand_in::StandIn;
use nix::sys::signal::Signal;

/// A daemon says its PID, and its parent leaves it: twice forked, in a session of its own.
pub(crate) const DAEMON: &str = "(setsid sh -c 'echo $$; exec sleep 600' &)";
/// A classic one closes all that it was given.
pub(crate) const DAEMON_THAT_CLOSES: &str = r#"(setsid bash -c 'echo $$
for fd in /proc/self/fd/*; do eval "exec ${fd##*/}>&-"; done; exec sleep 600' &)"#;

fn one_list() -> ConfDir {
    ConfDir::new(&[("p", true, &["0"])])
}

fn parent(process: &Process) -> i32 {
    process.status("PPid").parse().unwrap()
}

/// Waits until it has become what its shell was to become, and sleeps: while it is loaded it has its
/// libraries open.
pub(crate) fn is_executed(daemon: &Process) {
    until("a daemon to be executed", || {
        let call = std::fs::read_to_string(format!("/proc/{}/syscall", daemon.pid())).ok()?;
        // nanosleep and clock_nanosleep, on x86-64.
        let sleeps = ["35 ", "230 "].iter().any(|number| call.starts_with(number));
        (sleeps && daemon.status("Name") == "sleep").then_some(())
    });
}

#[test]
fn a_daemon_is_waited_for_and_signals_then_reach_it() {
    for (script, closes) in [(DAEMON, false), (DAEMON_THAT_CLOSES, true)] {
        let conf_dir = one_list();
        let script = format!("{script}; exit 3");
        let isolate = Isolate::new(&conf_dir, "p", &[]).script(&script);
        let mut isolate = isolate.by_affinity().start();
        let daemon = isolate.process(0);
        until("kcm to say that it waits", || isolate.err().contains('\n').then_some(()));
        is_executed(&daemon);
        assert_eq!((isolate.is_running(), parent(&daemon)), (true, isolate.pid()));
        assert_eq!(descendants(isolate.pid()), [daemon.pid()]);
        let record = conf_dir.record_path(&isolate.owner());
        assert_eq!(daemon.open_files().contains(&record), !closes);
        assert_eq!(daemon.open_files().is_empty(), closes);

        must_be_held(&conf_dir, "0", isolate.pid());
        let container = StandIn::new(if closes { "beside-closed" } else { "beside-open" });
        let hook = HookCall::create(conf_dir.path(), &container, "p");
        hook.run().must_refuse(&["1 of 1 are held"]);

        isolate.signal(Signal::SIGTERM);
        daemon.ends();
        let outcome = isolate.finish();
        assert_eq!((outcome.code, outcome.lines("INFO").len()), (Some(3), 1), "{outcome:?}");
        assert_eq!(outcome.err.lines().count(), 1, "{outcome:?}");
        nothing_must_be_held(&conf_dir);
    }
}

#[test]
fn signals_reach_all_that_remain() {
    let conf_dir = one_list();
    let daemon = "trap 'echo $0 has USR1' USR1; trap 'echo $0 ends; exit' TERM; echo $0 is up
        while :; do sleep 0.05; done";
    let script = format!(
        "daemon=$(cat <<'END'\n{daemon}\nEND\n)
        for name in one two; do (setsid sh -c \"$daemon\" $name &); done; exit 4"
    );
    let isolate = Isolate::new(&conf_dir, "p", &[]).script(&script).start();
    let both = |what: &str| {
        let said = |name| isolate.out().contains(&format!("{name} {what}\n"));
        until(&format!("both daemons: {what}"), || (said("one") && said("two")).then_some(()));
    };
    both("is up");
    until("kcm to say that it waits", || isolate.err().contains("INFO ").then_some(()));
    isolate.signal(Signal::SIGUSR1);
    both("has USR1");
    must_be_held(&conf_dir, "0", isolate.pid());
    isolate.signal(Signal::SIGTERM);
    both("ends");
    assert_eq!(isolate.finish().code, Some(4));
    nothing_must_be_held(&conf_dir);
}

#[test]
fn a_command_that_leaves_something_in_the_background_is_over_when_that_ends_by_itself() {
    for (start, code) in [("", 0), ("setsid ", 6)] {
        let (conf_dir, end) = (one_list(), Gate::new());
        let script = format!("{start}sh -c '{}; echo late' & exit {code}", end.wait());
        let mut isolate = Isolate::new(&conf_dir, "p", &[]).script(&script).start();
        until("kcm to say that it waits", || isolate.err().contains("INFO ").then_some(()));
        must_be_held(&conf_dir, "0", isolate.pid());
        assert!(isolate.is_running());
        end.open();
        let outcome = isolate.finish();
        assert_eq!((outcome.code, &*outcome.out), (Some(code), "late\n"), "{outcome:?}");
        nothing_must_be_held(&conf_dir);
    }
}

#[test]
fn orphans_are_reaped_while_the_command_runs() {
    let conf_dir = one_list();
    let script = format!("for i in 1 2 3 4 5; do {DAEMON}; done; echo $$; exec sleep 600");
    let isolate = Isolate::new(&conf_dir, "p", &[]).script(&script).start();
    let all: Vec<Process> = (0..6).map(|nth| isolate.process(nth)).collect();
    until("the daemons to be orphans", || {
        all.iter().all(|process| parent(process) == isolate.pid()).then_some(())
    });
    let mut left = descendants(isolate.pid());
    left.sort_unstable();
    let mut pids: Vec<i32> = all.iter().map(Process::pid).collect();
    pids.sort_unstable();
    assert_eq!(left, pids);
    // The command is in its caller's session, they in their own.
    let is_daemon = |process: &Process| process.status("NSsid") == process.pid().to_string();
    let (daemons, commands): (Vec<_>, Vec<_>) = all.into_iter().partition(is_daemon);
    assert_eq!((daemons.len(), commands.len()), (5, 1));
    daemons.iter().for_each(Process::kill);
    // A zombie would be among them.
    until("the orphans to be reaped", || (descendants(isolate.pid()).len() == 1).then_some(()));
    must_be_held(&conf_dir, "0", isolate.pid());
    isolate.signal(Signal::SIGTERM);
    assert_eq!(isolate.finish().code, Some(128 + 15));
    must_be_free(&conf_dir);
}

#[test]
fn a_command_has_no_descriptors_but_its_callers_and_those_that_hold_the_list() {
    let conf_dir = one_list();
    let open_files = |isolate: &Running| {
        let child = isolate.process(0);
        until("a command to stop", || child.status("State").starts_with('T').then_some(()));
        child.open_files()
    };
    // A program that is being loaded has its libraries open; this one has been.
    let script = "echo $$; kill -STOP $$";
    // Whoever started this test may have left it some.
    let alone = Isolate::of(["/bin/sh", "-c", script]).start();
    let callers = open_files(&alone).len();
    let isolate = Isolate::new(&conf_dir, "p", &[]).script(script).by_affinity().start();
    let mut files = open_files(&isolate);
    let ours = [conf_dir.record_path(&isolate.owner()), conf_dir.index_path("p", "0")];
    files.retain(|path| !ours.contains(path));
    assert_eq!(files.len(), callers, "{files:?}");
    assert_eq!(files[0].to_str(), Some("/dev/null"));
    assert!(files[1].ends_with("out") && files[2].ends_with("err"), "{files:?}");
}
