//! Exit statuses, flags and the environment.

use super::machine::{MANUAL, Machine};
use super::tree::pools;
use kcm_tests::kcm::{Outcome, kcm, run};

fn usage(words: &[&str]) -> Outcome {
    let outcome = run(kcm().args(words));
    assert_eq!((outcome.code, outcome.out.as_str()), (Some(2), ""), "{outcome:?}");
    outcome
}

#[test]
fn wrong_usage_is_status_2_and_says_what_is_wrong() {
    for (words, part) in [
        (&["init", "--num-dp-cores=-1"][..], "--num-dp-cores"),
        (&["init", "--num-dp-cores", "-1"], "--num-dp-cores"),
        (&["init", "--num-cp-cores=x"], "--num-cp-cores"),
        (&["init", "--num-cp-cores="], "--num-cp-cores"),
        (&["init", "--conf-dir="], "--conf-dir"),
        (&["init", "here"], "here"),
        (&["describe", "--outptu=json"], "--outptu"),
        (&["desribe"], "describe"),
        (&["int"], "init"),
        (&[], "init"),
    ] {
        let outcome = usage(words);
        assert!(outcome.err.contains(part), "{part:?} is not in {outcome:?}");
    }
}

#[test]
fn help_and_version_go_to_standard_output() {
    let version = run(kcm().arg("--version")).succeeded();
    assert_eq!(version.out, format!("kcm {}\n", env!("CARGO_PKG_VERSION")));
    for words in [&["--help"][..], &["init", "--help"], &["describe", "--help"]] {
        let help = run(kcm().args(words)).succeeded();
        assert!(help.out.contains("Examples:\n  kcm "), "{help:?}");
        assert_eq!(help.err, "");
    }
}

#[test]
fn flags_take_their_value_with_or_without_an_equals_sign() {
    let machine = Machine::new(MANUAL);
    let other = machine.path("other");
    let flag = ["init", "--conf-dir", other.to_str().unwrap()];
    let counts = ["--num-dp-cores", "2", "--num-cp-cores=1"];
    machine.kcm(&[&flag[..], &counts].concat()).succeeded();
    assert_eq!(pools(&other), "0,8 1,9 | 2,10 | 3-7,11-15");
    assert!(!machine.conf_dir().exists(), "the flag comes before KCM_CONF_DIR");
}

#[test]
fn a_malformed_environment_is_an_error_that_names_the_variable() {
    for (name, value, part) in [
        ("KCM_LOG_LEVEL", "loud", "CRITICAL, ERROR, WARNING, INFO or DEBUG"),
        ("KCM_LOCK_TIMEOUT", "soon", "seconds"),
        ("KCM_PROC_FS", "/nowhere", "/nowhere/cmdline"),
        ("KCM_DEV_LSCPU_SYSFS", "/nowhere", "/nowhere/sys/devices/system/cpu"),
    ] {
        let machine = Machine::new(MANUAL);
        let mut command = kcm();
        let command = machine.show_to(command.arg("init")).env(name, value);
        run(command).failed_with(&[part]);
        assert!(!machine.path("etc").exists(), "{name}");
    }
}

#[test]
fn the_log_has_what_its_level_asks_for_and_always_the_error() {
    for (level, kinds) in [
        ("debug", &["INFO", "WARNING"][..]),
        ("Info", &["INFO", "WARNING"]),
        ("WARNING", &["WARNING"]),
        ("ERROR", &[]),
        ("critical", &[]),
    ] {
        let machine = Machine::new(MANUAL).with_cmdline("isolcpus=0-5,8-13");
        let init = |dataplane: &str| {
            let mut command = kcm();
            command.args(["init", "--num-dp-cores", dataplane]);
            run(machine.show_to(&mut command).env("KCM_LOG_LEVEL", level))
        };
        let log = init("4").succeeded();
        for kind in ["INFO", "WARNING"] {
            let expected = kinds.contains(&kind);
            assert_eq!(!log.lines(kind).is_empty(), expected, "{level}: {log:?}");
        }
        init("5").failed_with(&["4 dataplane cores (5 requested)"]);
    }
}

#[test]
fn an_error_is_one_line_whatever_is_in_a_name() {
    let machine = Machine::new(MANUAL);
    let path = machine.path("a\nERROR b\u{1b}[31m");
    std::fs::write(&path, "a file").unwrap();
    for subcommand in ["init", "describe"] {
        let outcome = machine.kcm(&[subcommand, "--conf-dir", path.to_str().unwrap()]);
        let outcome = outcome.failed_with(&["a\u{fffd}ERROR b\u{fffd}[31m"]);
        assert_eq!(outcome.err.lines().count(), 1, "{outcome:?}");
    }
}
