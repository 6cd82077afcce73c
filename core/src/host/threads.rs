//! Threads of the machine: who each is, where it ran last, and for how long it has run.

use super::neighbours::is_kernels;
use super::procfs::{Procfs, field, field_of_stat};
use super::{Error, list, read};
use crate::cpu_set::CpuSet;
use crate::task::Pid;

/// Who a thread is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Its own name (`comm`).
    pub name: String,
    /// The process that it is of.
    pub process: Pid,
    /// Whether it is the kernel's own.
    pub is_kernels: bool,
    /// `/proc/<pid>/cgroup`.
    pub cgroup: String,
}

/// Who this thread is; none where it has ended, or is about to: then it is in no cgroup any more.
pub fn identity(procfs: &Procfs, thread: Pid) -> Result<Option<Identity>, Error> {
    // A thread has such a folder, too, by which it is not listed (proc_pid(5)).
    let folder = procfs.root().join(thread.to_string());
    let Some(cgroup) = procfs.cgroup(thread)? else { return Ok(None) };
    let Some(status) = read(&folder.join("status"))? else { return Ok(None) };
    // Last: what was read before is of a thread that had not begun to end.
    let Some(stat) = read(&folder.join("stat"))? else { return Ok(None) };
    let process = field(&status, "Tgid").and_then(|pid| pid.parse().ok()).unwrap_or(thread);
    let Some((name, _, _)) = parts_of_stat(&stat).filter(|_| !is_ending(&stat)) else {
        return Ok(None);
    };
    Ok(Some(Identity { name: name.to_owned(), process, is_kernels: is_kernels(&stat), cgroup }))
}

/// A thread at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Thread {
    /// Its number.
    pub id: Pid,
    /// The CPU that it runs on, or ran on last.
    pub cpu: u32,
    /// Whether it runs or waits for a CPU.
    pub is_runnable: bool,
    /// For how long it has run, in nanoseconds.
    pub run_time: u64,
    /// How often it was given a CPU.
    pub runs: u64,
}

/// All threads that run on one of these CPUs, or ran there last, and whose run times the kernel tells
/// (`CONFIG_SCHED_INFO`).
pub fn on(procfs: &Procfs, cpus: &CpuSet) -> Result<Vec<Thread>, Error> {
    let mut found = Vec::new();
    for process in procfs.pids()? {
        // One that ends meanwhile has no threads.
        let folder = procfs.root().join(format!("{process}/task"));
        for entry in list(&folder)? {
            let Some(id) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
                continue;
            };
            let Some(stat) = read(&entry.path().join("stat"))? else { continue };
            let Some((_, cpu, is_runnable)) = parts_of_stat(&stat) else { continue };
            if !cpus.contains(cpu) {
                continue;
            }
            let times = read(&entry.path().join("schedstat"))?.unwrap_or_default();
            if let Some((run_time, runs)) = parse_times(&times) {
                found.push(Thread { id, cpu, is_runnable, run_time, runs });
            }
        }
    }
    Ok(found)
}

/// Name, CPU (field 39 of proc_pid_stat(5)), and whether its state is `R`.
fn parts_of_stat(stat: &str) -> Option<(&str, u32, bool)> {
    let name = stat.split_once('(')?.1.rsplit_once(')')?.0;
    Some((name, field_of_stat(stat, 39)?.parse().ok()?, field_of_stat(stat, 3)? == "R"))
}

/// Whether it has begun to end (`PF_EXITING`, include/linux/sched.h), which it does before it leaves
/// its cgroup.
fn is_ending(stat: &str) -> bool {
    const EXITING: u64 = 0x4;
    let flags = field_of_stat(stat, 9).and_then(|flags| flags.parse::<u64>().ok());
    flags.is_some_and(|flags| flags & EXITING != 0)
}

/// Time on a CPU, time in wait for one, times that it got one
/// (Documentation/scheduler/sched-stats, `/proc/<pid>/schedstat`).
fn parse_times(schedstat: &str) -> Option<(u64, u64)> {
    let mut words = schedstat.split_ascii_whitespace().map(str::parse);
    Some((words.next()?.ok()?, words.nth(1)?.ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_of_ones_own_is_found_where_it_runs_and_has_run() {
        let procfs = Procfs::new("/proc");
        let cpu = super::super::affinity::own().unwrap().first().unwrap();
        super::super::affinity::bind_self(&CpuSet::from_iter([cpu])).unwrap();
        let own = Pid::try_from(nix::unistd::gettid().as_raw()).unwrap();
        let here = || {
            let all = on(&procfs, &CpuSet::from_iter([cpu])).unwrap();
            all.into_iter().find(|thread| thread.id == own).unwrap()
        };
        let before = here();
        let clock = || {
            let own = nix::time::ClockId::CLOCK_THREAD_CPUTIME_ID;
            std::time::Duration::from(nix::time::clock_gettime(own).unwrap()).as_millis()
        };
        let begun = clock();
        while clock() < begun + 50 {}
        let after = here();
        assert!(after.is_runnable && after.cpu == cpu, "{after:?}");
        let ran = after.run_time - before.run_time;
        assert!((20_000_000..10_000_000_000).contains(&ran), "{before:?} {after:?}");
        let identity = identity(&procfs, own).unwrap().unwrap();
        assert_eq!(identity.process.as_raw(), std::process::id() as i32);
        assert!(!identity.is_kernels && !identity.cgroup.is_empty(), "{identity:?}");
    }

    #[test]
    fn one_that_has_ended_is_nobody() {
        let procfs = Procfs::new("/proc");
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let pid = Pid::try_from(child.id() as i32).unwrap();
        while !procfs.stat(pid).unwrap().unwrap().ended {
            std::thread::yield_now();
        }
        assert_eq!(identity(&procfs, pid).unwrap(), None, "a zombie");
        child.wait().unwrap();
        assert_eq!(identity(&procfs, pid).unwrap(), None);
    }

    #[test]
    fn kthreadd_is_the_kernels_and_a_name_may_hold_anything() {
        let procfs = Procfs::new("/proc");
        if let Some(two) = identity(&procfs, "2".parse().unwrap()).unwrap() {
            assert_eq!(two.is_kernels, two.name == "kthreadd", "{two:?}");
        }
        // Captured on Linux 6.18; the name is a hostile program's.
        let stat = "4711 (a) R 1 (b)) S 1 4711 4711 0 -1 4194560 100 0 0 0 1 2 0 0 20 0 1 0 242639 \
                    2129920 200 18446744073709551615 1 1 0 0 0 0 0 0 0 0 0 0 17 1 0 0";
        assert_eq!(parts_of_stat(stat), Some(("a) R 1 (b)", 1, false)));
        assert_eq!(parse_times("12 3 4\n"), Some((12, 4)));
        assert_eq!((parse_times(""), parse_times("1 2"), parse_times("x 2 3")), (None, None, None));
    }
}
