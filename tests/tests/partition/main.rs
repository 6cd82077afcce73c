//! Containers whose cgroup is a cpuset partition: the kernel keeps everybody else off their CPUs.
//! In a guest alone, with Linux 6.8 or newer.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods, missing_docs)]

mod cost;
mod crash;
mod engines;
mod in_the_way;
mod lost;
mod mask;
mod stale;
mod taken;
mod uninstall;
mod wish;

use std::fs;
use std::process::Command;
use std::sync::{Mutex, MutexGuard, Once};

use kcm_core::CpuSet;
use kcm_tests::machine::{Guest, cgroup_file, must_be_the_guest};
use kcm_tests::runtime::Scene;

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
struct Alone {
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

fn alone() -> Alone {
    if must_be_the_guest() == Guest::Systemd {
        // It takes the controller away from all cgroups below the root while no unit wants it.
        static KEPT: Once = Once::new();
        KEPT.call_once(|| {
            let words = ["--quiet", "--property=AllowedCPUs=0-15", "sleep", "100000"];
            assert!(Command::new("systemd-run").args(words).status().unwrap().success());
        });
    }
    assert!(cgroup_file("/", "cpuset.cpus.isolated").exists(), "this kernel has no partitions");
    let guard = ALONE.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    Alone { _guard: guard, before: kernel_complaints().len() }
}

fn read(cgroup: &str, name: &str) -> String {
    fs::read_to_string(cgroup_file(cgroup, name)).unwrap().trim().to_owned()
}

/// What the kernel says of a cgroup.
fn partition(cgroup: &str) -> String {
    read(cgroup, "cpuset.cpus.partition")
}

/// What a cgroup sets aside; nothing if it is gone.
fn aside(cgroup: &str) -> String {
    let text = fs::read_to_string(cgroup_file(cgroup, "cpuset.cpus.exclusive"));
    text.unwrap_or_default().trim().to_owned()
}

/// The CPUs that everybody else has.
fn others_cpus() -> CpuSet {
    CpuSet::parse_possibly_empty(&read("/", "cpuset.cpus.effective")).unwrap()
}

/// Whether everybody else has these.
fn others_have(cpus: &str) -> bool {
    cpus.parse::<CpuSet>().unwrap().is_subset(&others_cpus())
}

/// Has a pool say this of partitions.
fn say(scene: &Scene, pool: &str, policy: &str) {
    fs::write(scene.conf.path().join("pools").join(pool).join("partition"), policy).unwrap();
}

/// A process in a cgroup of the test's own, ended when dropped.
struct Somebody {
    process: std::process::Child,
}

impl Somebody {
    /// In this cgroup, which is made.
    fn in_cgroup(cgroup: &str) -> Self {
        fs::create_dir_all(cgroup_file(cgroup, "")).unwrap();
        let process = Command::new("sleep").arg("1000").spawn().unwrap();
        fs::write(cgroup_file(cgroup, "cgroup.procs"), process.id().to_string()).unwrap();
        Self { process }
    }
}

impl Drop for Somebody {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
