//! Those that hold CPU lists: containers, and processes that nobody has a record of.

use std::fs;
use std::process::{Child, Command, Stdio};

use kcm_tests::conf_dir::ConfDir;
use kcm_tests::hook::HookCall;
use kcm_tests::machine::{cgroup_file, start_time, until};
use kcm_tests::stand_in::{StandIn, new_id};

/// A pool `p` of these lists.
pub(crate) fn pool(lists: &[&str]) -> ConfDir {
    ConfDir::new(&[("p", true, lists)])
}

/// A container in namespaces of its own, as those of real runtimes are.
pub(crate) fn container(role: &str) -> StandIn {
    in_own_namespaces(role, Command::new("sleep").arg("600"))
}

/// A container with this program as its init.
pub(crate) fn in_own_namespaces(role: &str, program: &Command) -> StandIn {
    StandIn::in_own_namespaces(&new_id(role), program)
}

/// Has the hook give this container lists of pool `p`, and pin it.
#[track_caller]
pub(crate) fn give(conf: &ConfDir, container: &StandIn, lists: usize) {
    HookCall::create_cores(conf.path(), container, "p", lists).run().must_succeed();
}

/// A container to which the hook has given a list of pool `p`.
#[track_caller]
pub(crate) fn holder(conf: &ConfDir, role: &str) -> StandIn {
    let container = container(role);
    give(conf, &container, 1);
    container
}

/// Puts PIDs into a list by hand.
pub(crate) fn write_tasks(conf: &ConfDir, pool: &str, list: &str, pids: &[i32]) {
    let pids: Vec<String> = pids.iter().map(i32::to_string).collect();
    fs::write(conf.tasks_path(pool, list), pids.join(",")).unwrap();
}

/// Puts a PID without a record into list 0 of pool `p`, of a process that is older than the 20 s
/// within which the original kcm may not have bound it yet.
pub(crate) fn write_old_tasks(conf: &ConfDir, pid: i32) {
    write_tasks(conf, "p", "0", &[pid]);
    until("the process to be old", || (age(pid) > 20.5).then_some(()));
}

/// For how long a process has run, in seconds.
pub(crate) fn age(pid: i32) -> f64 {
    let uptime = fs::read_to_string("/proc/uptime").unwrap();
    let uptime: f64 = uptime.split_whitespace().next().unwrap().parse().unwrap();
    // proc_pid_stat(5): in clock ticks, of which there are 100 a second on x86-64.
    uptime - start_time(pid) as f64 / 100.0
}

/// The CPUs of a container's cgroup are set by somebody else.
pub(crate) fn drift(container: &StandIn, cpus: &str) {
    fs::write(cgroup_file(&container.cgroup().path(), "cpuset.cpus"), cpus).unwrap();
    assert_eq!(container.cgroup().cpus(), cpus);
}

/// Binds one thread to CPUs, as somebody else would.
pub(crate) fn taskset(thread: i32, cpus: &str) {
    let output = Command::new("taskset").args(["-p", "-c", cpus, &thread.to_string()]).output();
    let output = output.unwrap();
    assert!(output.status.success(), "{output:?}");
    assert_eq!(allowed_cpus(thread), cpus);
}

/// The CPUs that a thread may run on.
pub(crate) fn allowed_cpus(thread: i32) -> String {
    let status = fs::read_to_string(format!("/proc/{thread}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
    line.unwrap().trim().to_owned()
}

/// A process that no record tells of; killed when dropped.
#[derive(Debug)]
pub(crate) struct Process(Child);

impl Process {
    /// One that does nothing.
    pub(crate) fn sleeping() -> Self {
        Self::running(Command::new("sleep").arg("600"))
    }

    /// One that does this.
    pub(crate) fn running(command: &mut Command) -> Self {
        Self(command.stdin(Stdio::null()).stdout(Stdio::null()).spawn().unwrap())
    }

    /// Its PID.
    pub(crate) fn pid(&self) -> i32 {
        self.0.id() as i32
    }

    /// Ends it, and gives the PID that nobody has any more.
    pub(crate) fn end(self) -> i32 {
        self.pid()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
