//! A guest for one test alone, whose kernel has cpuset partitions, and what that says of them.

use std::fs;
use std::process::Command;
use std::sync::{Mutex, MutexGuard, Once};

use kcm_core::CpuSet;

use crate::machine::{Guest, cgroup_file, must_be_the_guest};

/// One test at a time: they look at the whole machine.
static ALONE: Mutex<()> = Mutex::new(());

/// What its own tests hold for a kernel that has lost track of itself.
fn kernel_complaints() -> Vec<String> {
    let log = Command::new("dmesg").output().unwrap();
    let log = String::from_utf8_lossy(&log.stdout).into_owned();
    let bad = |line: &&str| ["WARNING: ", "BUG", "Oops"].iter().any(|word| line.contains(word));
    log.lines().filter(bad).map(str::to_owned).collect()
}

/// Holds the machine for one test, after which the kernel must have had nothing to complain of.
#[derive(Debug)]
pub struct Alone {
    _guard: MutexGuard<'static, ()>,
    before: usize,
}

impl Drop for Alone {
    fn drop(&mut self) {
        let now = kernel_complaints();
        if now.len() > self.before && !std::thread::panicking() {
            panic!("the kernel complains: {:#?}", &now[self.before..]);
        }
    }
}

/// Waits for the machine.
pub fn alone() -> Alone {
    if must_be_the_guest() == Guest::Systemd {
        // It takes the controller away from all cgroups below the root while no unit wants it. In a
        // slice of its own: beside docker's containers nobody may be given their CPUs.
        static KEPT: Once = Once::new();
        KEPT.call_once(|| {
            let words = ["--quiet", "--slice=kcmtestkeeper.slice", "--property=AllowedCPUs=0-15"];
            let mut keeper = Command::new("systemd-run");
            assert!(keeper.args(words).args(["sleep", "100000"]).status().unwrap().success());
        });
    }
    assert!(cgroup_file("/", "cpuset.cpus.isolated").exists(), "this kernel has no partitions");
    let guard = ALONE.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    Alone { _guard: guard, before: kernel_complaints().len() }
}

fn read(cgroup: &str, name: &str) -> String {
    fs::read_to_string(cgroup_file(cgroup, name)).unwrap().trim().to_owned()
}

/// What the kernel says of a cgroup: `member`, `root`, `root invalid (why)`, …
pub fn partition(cgroup: &str) -> String {
    read(cgroup, "cpuset.cpus.partition")
}

/// What a cgroup sets aside; nothing if it is gone.
pub fn aside(cgroup: &str) -> String {
    let text = fs::read_to_string(cgroup_file(cgroup, "cpuset.cpus.exclusive"));
    text.unwrap_or_default().trim().to_owned()
}

/// The CPUs that everybody else has.
fn others_cpus() -> CpuSet {
    CpuSet::parse_possibly_empty(&read("/", "cpuset.cpus.effective")).unwrap()
}

/// Whether everybody else has these.
pub fn others_have(cpus: &str) -> bool {
    cpus.parse::<CpuSet>().unwrap().is_subset(&others_cpus())
}
