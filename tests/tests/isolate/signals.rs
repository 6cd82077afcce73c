//! Signals that a process sends to kcm go on to the command.

use kcm_tests::conf_dir::ConfDir;
use kcm_tests::isolate::{Gate, Isolate, must_be_held, nothing_must_be_held};
use kcm_tests::machine::until;
use nix::sys::signal::Signal;

use super::watch::Watch;

const PASSED_ON: [Signal; 7] = [
    Signal::SIGTERM,
    Signal::SIGINT,
    Signal::SIGHUP,
    Signal::SIGQUIT,
    Signal::SIGUSR1,
    Signal::SIGUSR2,
    Signal::SIGWINCH,
];

fn one_list() -> ConfDir {
    ConfDir::new(&[("p", true, &["0"])])
}

#[test]
fn a_signal_to_kcm_reaches_the_command_exactly_once() {
    let (conf_dir, end) = (one_list(), Gate::new());
    let traps = PASSED_ON.map(|signal| {
        let name = signal.as_str();
        format!("trap 'echo {name}' {}\n", &name[3..])
    });
    let script = format!("{}echo $$; {}; exit 5", traps.concat(), end.wait());
    let isolate = Isolate::new(&conf_dir, "p", &[]).script(&script).start();
    let child = isolate.process(0);
    let (kcm, command) = (Watch::on(isolate.pid()), Watch::on(child.pid()));
    for (nth, signal) in PASSED_ON.iter().enumerate() {
        isolate.signal(*signal);
        assert_eq!(isolate.line(nth + 1), signal.as_str());
    }
    must_be_held(&conf_dir, "0", isolate.pid());
    end.open();
    let outcome = isolate.finish();
    assert_eq!((outcome.code, outcome.out.lines().count()), (Some(5), 1 + PASSED_ON.len()));
    let (kcm, command) = (kcm.seen(), command.seen());
    for name in PASSED_ON.map(Signal::as_str) {
        assert_eq!((kcm.sent(name), command.reached(name)), (1, 1), "{name}: {kcm:?} {command:?}");
    }
    nothing_must_be_held(&conf_dir);
}

#[test]
fn a_signal_that_the_command_does_not_handle_ends_it_and_is_its_outcome() {
    let conf_dir = one_list();
    for signal in PASSED_ON {
        let script = "ulimit -c 0; echo $$; exec sleep 600";
        let isolate = Isolate::new(&conf_dir, "p", &[]).script(script).start();
        let child = isolate.process(0);
        // Not the shell any more, which would be another handler.
        until("the command to be executed", || (child.status("Name") == "sleep").then_some(()));
        isolate.signal(signal);
        let expected = if signal == Signal::SIGWINCH {
            // Ignored unless it is handled.
            isolate.signal(Signal::SIGTERM);
            128 + Signal::SIGTERM as i32
        } else {
            128 + signal as i32
        };
        let outcome = isolate.finish();
        assert_eq!((outcome.code, &*outcome.err), (Some(expected), ""), "{signal}");
        assert!(!child.is_running());
        nothing_must_be_held(&conf_dir);
    }
}

#[test]
fn a_command_that_takes_its_time_to_end_keeps_its_list_until_it_has() {
    let (conf_dir, tidied) = (one_list(), Gate::new());
    let script = format!(
        "trap 'echo tidying; {}; exit 7' TERM; echo $$; while :; do sleep 0.05; done",
        tidied.wait()
    );
    let mut isolate = Isolate::new(&conf_dir, "p", &[]).script(&script).start();
    let child = isolate.process(0);
    isolate.signal(Signal::SIGTERM);
    assert_eq!(isolate.line(1), "tidying");
    must_be_held(&conf_dir, "0", isolate.pid());
    assert!(isolate.is_running() && child.is_running());
    tidied.open();
    assert_eq!(isolate.finish().code, Some(7));
    nothing_must_be_held(&conf_dir);
}
