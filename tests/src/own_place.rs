//! A place of a test's own in the cpuset hierarchy, so that what `kcm isolate` makes and removes there
//! is no other test's.

use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};

use nix::unistd::gettid;

use crate::machine::{cgroup_file, is_cgroup_v2, make_cgroup, remove_cgroup, sysfs_cpus, until};

static PLACES: AtomicUsize = AtomicUsize::new(0);

/// A cgroup in which this thread is, and what it starts from here on; gone when dropped. On cgroup v2
/// it is where everybody is: threads do not move there, and tests run one at a time.
#[derive(Debug)]
pub struct OwnPlace {
    cgroup: Option<String>,
}

impl OwnPlace {
    /// Moves this thread.
    pub fn enter() -> Self {
        if is_cgroup_v2() {
            return Self { cgroup: None };
        }
        let nth = PLACES.fetch_add(1, Ordering::Relaxed);
        let cgroup = format!("/kcm-test-place-{}-{nth}", std::process::id());
        make_cgroup(&cgroup, &sysfs_cpus("cpu/online").to_string());
        fs::write(cgroup_file(&cgroup, "tasks"), gettid().to_string()).unwrap();
        Self { cgroup: Some(cgroup) }
    }

    /// Waits until nobody is in the cgroups that isolates of this thread have made.
    pub fn is_empty() {
        let own = fs::read_to_string("/proc/thread-self/cgroup").unwrap();
        let is_cpusets = |line: &&str| line.contains(":cpuset:") || line.starts_with("0::");
        let line = own.lines().find(is_cpusets).unwrap();
        let folder = cgroup_file(line.rsplit(':').next().unwrap(), "");
        let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        let is_isolates =
            |path: &PathBuf| path.file_name().unwrap().to_str().unwrap().starts_with("isolate-");
        for left in entries.filter(is_isolates) {
            until("the cgroup of a killed isolate to be empty", || {
                let procs = fs::read_to_string(left.join("cgroup.procs"));
                procs.map_or(true, |pids| pids.is_empty()).then_some(())
            });
        }
    }
}

impl Drop for OwnPlace {
    fn drop(&mut self) {
        if let Some(cgroup) = &self.cgroup {
            fs::write(cgroup_file("/", "tasks"), gettid().to_string()).unwrap();
            remove_cgroup(cgroup);
        }
    }
}
