//! `kcm node-report`, the built program: the report byte for byte, each check with what makes it
//! fail, and the loop of `--interval`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods, missing_docs)]

mod checks;
mod documents;
mod interval;
mod isolation;
#[path = "../init/machine.rs"]
mod machine;
mod malformed;
mod this_machine;
#[path = "../init/tmpfs.rs"]
mod tmpfs;
mod unreadable;

use std::path::Path;

use kcm_tests::conf_dir::ConfDir;
use kcm_tests::kcm::{Outcome, kcm, run};
use machine::{MANUAL, Machine};
use serde_json::Value;

/// Runs a subcommand for a directory, on a made-up machine.
fn on(machine: &Machine, conf_dir: &Path, subcommand: &str) -> Outcome {
    run(machine.show_to(kcm().arg(subcommand)).env("KCM_CONF_DIR", conf_dir))
}

/// The report as JSON.
fn parse(outcome: &Outcome) -> Value {
    serde_json::from_str(&outcome.out).unwrap_or_else(|e| panic!("{e}: {outcome:?}"))
}

/// What the check of the directory says, and that `ok` agrees with it.
#[track_caller]
fn errors(report: &Value) -> Vec<String> {
    let check = &report["checks"]["configDirectory"];
    let errors: Vec<String> = serde_json::from_value(check["errors"].clone()).unwrap();
    assert_eq!(check["ok"], errors.is_empty(), "{check}");
    errors
}

/// What is said of a directory on a machine, where nothing may be changed and nothing but the
/// report may fail.
#[track_caller]
fn errors_of(machine: &Machine, conf: &ConfDir) -> Vec<String> {
    let before = conf.snapshot();
    let outcome = on(machine, conf.path(), "node-report").succeeded();
    assert_eq!(conf.snapshot(), before, "nothing is changed");
    errors(&parse(&outcome))
}

/// The operator manual's machine: 16 CPUs, all of them online.
fn sixteen_cpus() -> Machine {
    Machine::new(MANUAL)
}
