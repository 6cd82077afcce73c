//! Binding to CPUs, and making sure that it holds: the same for the hook at a container's start, for
//! `isolate` and for repair.

use super::target::Target;
use crate::CpuSet;
use crate::host::cgroup::Cgroup;
use crate::host::procfs::Procfs;
use crate::host::scope::{self, Scope};
use crate::host::{self, affinity};
use crate::task::Pid;

/// Why something is not on its CPUs.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The cgroup file system, or procfs.
    #[error(transparent)]
    Host(#[from] host::Error),
    /// systemd.
    #[error(transparent)]
    Scope(#[from] scope::Error),
    /// The kernel refuses an affinity.
    #[error("cannot bind thread {thread} of the container to CPUs {cpus}: {cause}")]
    Bind {
        /// Which thread.
        thread: Pid,
        /// To what.
        cpus: CpuSet,
        /// sched_setaffinity(2).
        cause: std::io::Error,
    },
    /// The kernel has other CPUs than were set.
    #[error(
        "the cgroup {cgroup} is on CPUs {actual} after CPUs {cpus} were set; see who else sets \
         cpusets on this node"
    )]
    Cgroup {
        /// Its path.
        cgroup: String,
        /// What holds.
        actual: CpuSet,
        /// What was set.
        cpus: CpuSet,
    },
    /// A thread has other CPUs than were set.
    #[error(
        "thread {thread} of the container may run on CPUs {actual} after it was bound to {cpus}; \
         see who else sets affinities on this node"
    )]
    Thread {
        /// Which thread.
        thread: Pid,
        /// What holds.
        actual: CpuSet,
        /// What was set.
        cpus: CpuSet,
    },
}

/// Binds a container to exactly these CPUs, and its memory to NUMA nodes where given.
pub fn pin(
    target: &mut Target,
    procfs: &Procfs,
    cpus: &CpuSet,
    memory_nodes: Option<&CpuSet>,
) -> Result<(), Error> {
    restrict(&target.cgroup, target.scope.as_mut(), cpus, memory_nodes)?;
    // Since Linux 6.2 an affinity inherited from the engine outlives a change of the cpuset.
    let pid = target.process.pid;
    let threads = bind_threads(procfs, pid, cpus)?;
    verify_threads(procfs, pid, &threads, cpus)
}

/// Restricts a cgroup to exactly these CPUs, and to NUMA nodes where given; `scope` is systemd's
/// that it is in.
pub fn restrict(
    cgroup: &Cgroup,
    scope: Option<&mut Scope>,
    cpus: &CpuSet,
    memory_nodes: Option<&CpuSet>,
) -> Result<(), Error> {
    if let Some(scope) = scope {
        // First, because systemd writes its own value back on any reload.
        scope.set_cpus(cpus, memory_nodes)?;
    }
    cgroup.set_cpus(cpus)?;
    if let Some(nodes) = memory_nodes {
        cgroup.set_memory_nodes(nodes)?;
    }
    // cgroup v2 accepts CPUs that the parent does not have, and then means all of the parent's.
    let actual = cgroup.effective_cpus()?;
    if actual != *cpus {
        let cgroup = cgroup.path().to_owned();
        return Err(Error::Cgroup { cgroup, actual, cpus: cpus.clone() });
    }
    Ok(())
}

/// Binds every thread, also those that are made meanwhile: from bound ones, so that a listing with
/// no new thread is the last.
fn bind_threads(procfs: &Procfs, pid: Pid, cpus: &CpuSet) -> Result<Vec<Pid>, Error> {
    let mut bound: Vec<Pid> = Vec::new();
    loop {
        let mut new = procfs.threads(pid)?;
        new.retain(|thread| !bound.contains(thread));
        if new.is_empty() {
            return Ok(bound);
        }
        for thread in new {
            match affinity::bind(thread, cpus) {
                Ok(()) => bound.push(thread),
                // It has ended.
                Err(e) if e.raw_os_error() == Some(libc::ESRCH) => bound.push(thread),
                Err(cause) => {
                    return Err(Error::Bind { thread, cpus: cpus.clone(), cause });
                }
            }
        }
    }
}

/// The kernel leaves out of an affinity what the cpuset does not have.
fn verify_threads(procfs: &Procfs, pid: Pid, threads: &[Pid], cpus: &CpuSet) -> Result<(), Error> {
    for &thread in threads {
        match procfs.allowed_cpus(pid, thread)? {
            Some(actual) if actual != *cpus => {
                return Err(Error::Thread { thread, actual, cpus: cpus.clone() });
            }
            _ => {}
        }
    }
    Ok(())
}
