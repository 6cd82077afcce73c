//! A command has the signals blocked and ignored that kcm's caller had.

use kcm_tests::conf_dir::ConfDir;
use kcm_tests::isolate::{Gate, Isolate, nothing_must_be_held};
use kcm_tests::machine::until;
use nix::sys::signal::Signal;

const SIGNALS_OF_THIS: [&str; 3] = ["-E", "^Sig(Blk|Ign):", "/proc/self/status"];

#[test]
fn blocked_and_ignored_signals_are_those_of_the_caller() {
    let conf_dir = ConfDir::new(&[("p", true, &["0"])]);
    for flags in [
        &[] as &[&str],
        &["--ignore-signal=HUP"],
        &["--ignore-signal=INT", "--ignore-signal=QUIT"],
        &["--ignore-signal=CHLD"],
        &["--ignore-signal=TERM", "--ignore-signal=USR1", "--ignore-signal=TSTP"],
        &["--block-signal=USR1"],
        &["--block-signal=TERM", "--block-signal=CHLD", "--block-signal=WINCH"],
        &["--block-signal=ALRM", "--ignore-signal=ALRM"],
    ] {
        let caller = || ["env"].iter().chain(flags);
        let expected = Isolate::of(["grep"]).words(SIGNALS_OF_THIS).under(caller()).run();
        let expected = expected.succeeded().out;
        let isolate = Isolate::new(&conf_dir, "p", &["grep", "--"]).words(SIGNALS_OF_THIS);
        assert_eq!(isolate.under(caller()).run().succeeded().out, expected, "{flags:?}");
        nothing_must_be_held(&conf_dir);
    }
}

#[test]
fn a_command_under_nohup_lives_on_after_a_hangup() {
    let (conf_dir, end) = (ConfDir::new(&[("p", true, &["0"])]), Gate::new());
    let script = format!("trap 'echo USR1' USR1; echo $$; {}; exit 3", end.wait());
    let isolate = Isolate::new(&conf_dir, "p", &[]).script(&script).under(["nohup"]).start();
    let child = isolate.process(0);
    isolate.signal(Signal::SIGHUP);
    // What comes after it has come through.
    isolate.signal(Signal::SIGUSR1);
    until("a later signal", || isolate.out().contains("USR1").then_some(()));
    assert!(child.is_running());
    end.open();
    assert_eq!(isolate.finish().code, Some(3));
    nothing_must_be_held(&conf_dir);
}
