//! Containers whose cgroup is a cpuset partition: the kernel keeps everybody else off their CPUs.
//! In a guest alone, with Linux 6.8 or newer.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods, missing_docs)]

mod cost;
mod crash;
mod deadline;
mod docker;
mod engines;
mod in_the_way;
mod killed;
mod lost;
mod mask;
mod shielded;
mod stale;
mod taken;
mod uninstall;
mod wish;

use std::fs;
use std::path::Path;
use std::process::Command;

use kcm_tests::kcm::{kcm, run};
use kcm_tests::machine::cgroup_file;
use kcm_tests::runtime::Scene;
use serde_json::Value;

/// What node-report says of one guard of a directory's pool: its state, and how it is.
fn guard(conf: &Path, pool: &str, name: &str) -> (String, String) {
    let report = run(kcm().arg("node-report").env("KCM_CONF_DIR", conf)).succeeded().out;
    let report: Value = serde_json::from_str(&report).unwrap();
    let guard = &report["checks"]["isolation"]["pools"][pool][name];
    let text = |key: &str| guard[key].as_str().unwrap_or_else(|| panic!("{report}")).to_owned();
    (text("state"), text("message"))
}

/// Fails the test unless the guard `partition` of a directory's pool is so.
#[track_caller]
fn must_be_guarded(conf: &Path, pool: &str, state: &str, message: &str) {
    assert_eq!(guard(conf, pool, "partition"), (state.to_owned(), message.to_owned()));
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
