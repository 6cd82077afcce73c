//! Binding a container to its CPUs, and making sure that it is bound.

use kcm_core::CpuSet;
use kcm_core::host::procfs::Procfs;
use kcm_core::host::{self, affinity, scope};
use kcm_core::task::Pid;

use crate::target::Target;

/// Why a container is not on its CPUs.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error(transparent)]
    Host(#[from] host::Error),
    #[error(transparent)]
    Scope(#[from] scope::Error),
    #[error("cannot bind thread {thread} of the container to CPUs {cpus}: {cause}")]
    Bind { thread: Pid, cpus: CpuSet, cause: std::io::Error },
    #[error(
        "the container's cgroup {cgroup} is on CPUs {actual} after CPUs {cpus} were set; see who \
         else sets cpusets on this node"
    )]
    Cgroup { cgroup: String, actual: CpuSet, cpus: CpuSet },
    #[error(
        "thread {thread} of the container may run on CPUs {actual} after it was bound to {cpus}; \
         see who else sets affinities on this node"
    )]
    Thread { thread: Pid, actual: CpuSet, cpus: CpuSet },
}

/// Binds the container to exactly these CPUs, and its memory to NUMA nodes where given.
pub(crate) fn pin(
    target: &mut Target,
    procfs: &Procfs,
    cpus: &CpuSet,
    memory_nodes: Option<&CpuSet>,
) -> Result<(), Error> {
    if let Some(scope) = &mut target.scope {
        // First, because systemd writes its own value back on any reload.
        scope.set_cpus(cpus, memory_nodes)?;
    }
    target.cgroup.set_cpus(cpus)?;
    if let Some(nodes) = memory_nodes {
        target.cgroup.set_memory_nodes(nodes)?;
    }
    // Since Linux 6.2 an affinity inherited from the engine outlives a change of the cpuset.
    let threads = bind_threads(procfs, target.process.pid, cpus)?;
    verify(target, procfs, &threads, cpus)
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

/// Reads back what holds: cgroup v2 accepts CPUs that the parent does not have and then means all
/// of the parent's, and the kernel leaves out of an affinity what the cpuset does not have.
fn verify(target: &Target, procfs: &Procfs, threads: &[Pid], cpus: &CpuSet) -> Result<(), Error> {
    let actual = target.cgroup.effective_cpus()?;
    if actual != *cpus {
        let cgroup = target.cgroup.path().to_owned();
        return Err(Error::Cgroup { cgroup, actual, cpus: cpus.clone() });
    }
    let pid = target.process.pid;
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
