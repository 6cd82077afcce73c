//! Running reconcile, and what it prints: every byte of it, since other programs read it.

use std::process::Command;

use kcm_tests::conf_dir::ConfDir;
use kcm_tests::kcm::{Outcome, kcm, run};

use super::elders;

/// All that is printed where nothing is amiss.
pub(crate) const NOTHING: &str =
    "{\n  \"mismatchedCpuMasks\": [],\n  \"reclaimedCpuLists\": []\n}\n";

/// A PID that no process ever has: the kernel's are below 4,194,304 (proc_sys_kernel(5), pid_max).
pub(crate) const NOBODY: i32 = 4_194_305;

/// `kcm reconcile` of a directory, with these flags.
pub(crate) fn command(conf: &ConfDir, flags: &[&str]) -> Command {
    elders::start();
    let mut command = kcm();
    command.arg("reconcile").args(flags).env("KCM_CONF_DIR", conf.path());
    command
}

/// Reconciles a directory once.
pub(crate) fn reconcile(conf: &ConfDir, flags: &[&str]) -> Outcome {
    run(&mut command(conf, flags))
}

/// One entry of what is printed.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    order: (i32, String, String),
    text: String,
}

/// That a dead PID was taken out of a list.
pub(crate) fn reclaimed(pool: &str, list: &str, pid: i32) -> Entry {
    let text = format!(
        "    {{\n      \"cpus\": \"{list}\",\n      \"pid\": {pid},\n      \"pool\": \
         \"{pool}\"\n    }}"
    );
    Entry { order: (pid, pool.into(), list.into()), text }
}

/// That a PID is on other CPUs than those of its list.
pub(crate) fn mismatched(pool: &str, list: &str, pid: i32, actual: &[u32]) -> Entry {
    drifted(pool, list, pid, actual, "")
}

/// The same, with what became of its repair.
pub(crate) fn repaired(pool: &str, list: &str, pid: i32, actual: &[u32], is: bool) -> Entry {
    drifted(pool, list, pid, actual, &format!(",\n      \"repaired\": {is}"))
}

fn drifted(pool: &str, list: &str, pid: i32, actual: &[u32], outcome: &str) -> Entry {
    let actual: Vec<String> = actual.iter().map(|cpu| format!("        {cpu}")).collect();
    let text = format!(
        "    {{\n      \"actualCpus\": [\n{}\n      ],\n      \"cpus\": \"{list}\",\n      \
         \"pid\": {pid},\n      \"pool\": \"{pool}\"{outcome}\n    }}",
        actual.join(",\n")
    );
    Entry { order: (pid, pool.into(), list.into()), text }
}

/// What is printed of these, given in any order.
pub(crate) fn document(mismatched: &[Entry], reclaimed: &[Entry]) -> String {
    format!(
        "{{\n  \"mismatchedCpuMasks\": {},\n  \"reclaimedCpuLists\": {}\n}}\n",
        array(mismatched),
        array(reclaimed)
    )
}

fn array(entries: &[Entry]) -> String {
    if entries.is_empty() {
        return "[]".into();
    }
    let mut entries = entries.to_vec();
    entries.sort_by(|a, b| a.order.cmp(&b.order));
    let texts: Vec<String> = entries.into_iter().map(|entry| entry.text).collect();
    format!("[\n{}\n  ]", texts.join(",\n"))
}

/// Fails the test unless this is printed, and there is nothing to complain of.
#[track_caller]
pub(crate) fn must_print(conf: &ConfDir, flags: &[&str], expected: &str) -> Outcome {
    let outcome = reconcile(conf, flags).succeeded();
    assert_eq!(outcome.out, expected, "{outcome:?}");
    assert_eq!(outcome.lines("ERROR"), [""; 0], "{outcome:?}");
    outcome
}

/// Fails the test unless exactly these are reclaimed, for good, and nothing is mismatched.
#[track_caller]
pub(crate) fn must_reclaim(conf: &ConfDir, dead: &[(&str, &str, i32)]) {
    let dead: Vec<Entry> =
        dead.iter().map(|&(pool, list, pid)| reclaimed(pool, list, pid)).collect();
    must_print(conf, &[], &document(&[], &dead));
    let after = conf.snapshot();
    must_print(conf, &[], NOTHING);
    assert_eq!(conf.snapshot(), after, "the second run found something to write");
}
