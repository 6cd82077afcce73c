//! CFS quotas: none throttles a container on CPUs that it has for itself alone.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods, missing_docs)]

mod crash;
mod pods;
mod runtimes;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard};

use kcm_tests::machine::{cgroup_file, is_cgroup_v2, kill_and_wait, until};
use kcm_tests::stand_in::StandIn;

/// One test at a time: `kcm reconcile` looks at all pods of the machine.
static ALONE: Mutex<()> = Mutex::new(());

fn alone() -> MutexGuard<'static, ()> {
    ALONE.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// A file of the cpu controller's.
fn cpu_file(cgroup: &str, name: &str) -> PathBuf {
    match is_cgroup_v2() {
        true => cgroup_file(cgroup, name),
        false => Path::new("/sys/fs/cgroup/cpu").join(cgroup.trim_start_matches('/')).join(name),
    }
}

/// A cgroup's quota as cgroup v2 writes it, also where it is v1.
fn quota(cgroup: &str) -> String {
    let read = |name| fs::read_to_string(cpu_file(cgroup, name)).unwrap().trim().to_owned();
    match is_cgroup_v2() {
        true => read("cpu.max"),
        false => {
            let [time, period] = ["cpu.cfs_quota_us", "cpu.cfs_period_us"].map(read);
            format!("{} {period}", if time == "-1" { "max" } else { &time })
        }
    }
}

/// Gives a cgroup a quota of so much time in the kernel's own period.
fn set_quota(cgroup: &str, time: &str) {
    match is_cgroup_v2() {
        true => fs::write(cpu_file(cgroup, "cpu.max"), time).unwrap(),
        false => fs::write(cpu_file(cgroup, "cpu.cfs_quota_us"), time).unwrap(),
    }
}

/// How often a cgroup was kept from running.
fn throttled(cgroup: &str) -> u64 {
    let text = fs::read_to_string(cpu_file(cgroup, "cpu.stat")).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("nr_throttled "));
    line.unwrap().parse().unwrap()
}

/// The cgroup of a pod, as a kubelet with the driver `cgroupfs` names it; gone when dropped.
struct Pod {
    top: String,
    path: String,
}

impl Pod {
    /// With a quota of so much time.
    fn new(time: &str) -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let top = format!("/kubelet-kcmtest{}x{number}", std::process::id());
        let path = format!("{top}/kubepods/burstable/pod1");
        make(&path);
        set_quota(&path, time);
        Self { top, path }
    }

    fn quota(&self) -> String {
        quota(&self.path)
    }

    /// A container in it, which is gone with its cgroup when it is ended.
    fn container(&self, id: &str) -> InPod {
        let stand_in = StandIn::new(id);
        let cgroup = format!("{}/{id}", self.path);
        make(&cgroup);
        let procs = cgroup_file(&cgroup, "cgroup.procs");
        fs::write(procs, stand_in.pid().to_string()).unwrap();
        InPod { stand_in, cgroup }
    }
}

impl Drop for Pod {
    fn drop(&mut self) {
        let path = PathBuf::from(&self.path);
        for level in path.ancestors().filter(|level| level.starts_with(&self.top)) {
            remove(level.to_str().unwrap());
        }
    }
}

/// A stand-in for a container in a pod.
struct InPod {
    stand_in: StandIn,
    cgroup: String,
}

impl InPod {
    /// Ends it as a runtime does, which then calls poststop.
    fn end(&self) {
        kill_and_wait(self.stand_in.pid());
        remove(&self.cgroup);
    }
}

impl Drop for InPod {
    fn drop(&mut self) {
        self.end();
    }
}

/// Makes a cgroup with what is above it, in which processes may run, with the controllers cpuset and cpu.
fn make(cgroup: &str) {
    let mut at = String::new();
    for name in cgroup.trim_start_matches('/').split('/') {
        let above = at.clone();
        at = format!("{at}/{name}");
        if is_cgroup_v2() {
            let control = cgroup_file(&above, "cgroup.subtree_control");
            fs::write(control, "+cpuset +cpu").unwrap();
        }
        if cgroup_file(&at, "").exists() {
            continue;
        }
        fs::create_dir(cgroup_file(&at, "")).unwrap();
        if !is_cgroup_v2() {
            let _ = fs::create_dir(cpu_file(&at, ""));
            for file in ["cpuset.cpus", "cpuset.mems"] {
                let text = fs::read(cgroup_file(&above, file)).unwrap();
                fs::write(cgroup_file(&at, file), text).unwrap();
            }
        }
    }
}

/// Removes a cgroup that has nobody in it any more.
fn remove(cgroup: &str) {
    for folder in [cgroup_file(cgroup, ""), cpu_file(cgroup, "")] {
        until("a cgroup to be removed", || {
            let _ = fs::remove_dir(&folder);
            (!folder.exists()).then_some(())
        });
    }
}
