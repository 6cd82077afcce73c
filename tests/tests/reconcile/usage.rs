//! Wrong usage, and the environment.

use kcm_tests::kcm::{kcm, run};

use super::document::{NOBODY, NOTHING, command, document, reclaimed, reconcile};
use super::holders::{pool, write_tasks};

#[test]
fn wrong_usage_is_status_2_and_changes_nothing() {
    for (flags, part) in [
        (&["--interval=-1"][..], "--interval"),
        (&["--interval", "-1"], "--interval"),
        (&["--interval=x"], "--interval"),
        (&["--interval="], "--interval"),
        (&["--interval=nan"], "--interval"),
        (&["--interval=inf"], "--interval"),
        (&["--interval=5s"], "--interval"),
        (&["--repair=yes"], "--repair"),
        (&["--repiar"], "--repiar"),
        (&["now"], "now"),
        (&["--conf-dir="], "--conf-dir"),
    ] {
        let conf = pool(&["0"]);
        write_tasks(&conf, "p", "0", &[NOBODY]);
        let before = conf.snapshot();
        let outcome = reconcile(&conf, flags);
        assert_eq!((outcome.code, outcome.out.as_str()), (Some(2), ""), "{flags:?}: {outcome:?}");
        assert!(outcome.err.contains(part), "{part:?} is not in {outcome:?}");
        assert_eq!(conf.snapshot(), before, "{flags:?}");
    }
}

#[test]
fn once_is_the_interval_0_and_the_flag_comes_before_the_environment() {
    let conf = pool(&["0"]);
    write_tasks(&conf, "p", "0", &[NOBODY]);
    let mut other = kcm();
    other.args(["reconcile", "--interval=0", "--conf-dir"]).arg(conf.path());
    let outcome = run(other.env("KCM_CONF_DIR", "/nowhere")).succeeded();
    assert_eq!(outcome.out, document(&[], &[reclaimed("p", "0", NOBODY)]));
}

#[test]
fn a_malformed_environment_is_an_error_that_names_the_variable() {
    let proc_fs = "/nowhere";
    for (name, value, part) in [
        ("KCM_LOG_LEVEL", "loud", "CRITICAL, ERROR, WARNING, INFO or DEBUG"),
        ("KCM_LOCK_TIMEOUT", "soon", "KCM_LOCK_TIMEOUT"),
        ("KCM_PROC_FS", proc_fs, proc_fs),
    ] {
        let conf = pool(&["0"]);
        write_tasks(&conf, "p", "0", &[NOBODY]);
        let before = conf.snapshot();
        run(command(&conf, &[]).env(name, value)).failed_with(&[part]);
        assert_eq!(conf.snapshot(), before, "{name}");
    }
}

#[test]
fn the_log_at_level_error_has_nothing_to_say_of_a_reclaimed_list() {
    let conf = pool(&["0"]);
    write_tasks(&conf, "p", "0", &[NOBODY]);
    let outcome = run(command(&conf, &[]).env("KCM_LOG_LEVEL", "ERROR")).succeeded();
    assert_eq!((outcome.err.as_str(), conf.tasks("p", "0").as_str()), ("", ""));
    assert_eq!(reconcile(&conf, &[]).succeeded().out, NOTHING);
}
