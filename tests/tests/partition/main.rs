//! Containers whose cgroup is a cpuset partition: the kernel keeps everybody else off their CPUs.
//! In a guest alone, with Linux 6.8 or newer.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods, missing_docs)]

mod cost;
mod crash;
mod deadline;
mod docker;
mod engines;
mod killed;
mod lost;
mod shielded;
mod stale;
mod taken;
mod wish;

use std::fs;
use std::process::Command;

use kcm_tests::machine::cgroup_file;
use kcm_tests::runtime::Scene;

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
