//! What else may run on CPUs that are meant for somebody alone.

use std::path::Path;

use super::procfs::{Procfs, field_of_stat};
use super::{Error, list, read};
use crate::cpu_set::CpuSet;
use crate::task::Pid;

/// A process that may run on some of the CPUs asked for.
#[derive(Clone, Debug)]
pub struct Neighbour {
    /// It.
    pub pid: Pid,
    /// Its name (`comm`).
    pub name: String,
    /// All CPUs that any of its threads may run on.
    pub cpus: CpuSet,
}

/// Field 9 of `stat`, the kernel's flags of a task (include/linux/sched.h).
pub(crate) const KERNEL_THREAD: u64 = 0x0020_0000;

/// The processes that may run on any of these CPUs; not the kernel's own threads.
pub fn processes(procfs: &Procfs, cpus: &CpuSet) -> Result<Vec<Neighbour>, Error> {
    let mut found = Vec::new();
    for entry in list(procfs.root())? {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        let allowed = allowed(procfs, pid)?;
        if allowed.intersection(cpus).is_empty() || is_kernel_thread(procfs, pid)? {
            continue;
        }
        let name = read(&procfs.root().join(format!("{pid}/comm")))?.unwrap_or_default();
        found.push(Neighbour { pid, name: name.trim().to_owned(), cpus: allowed });
    }
    found.sort_by_key(|neighbour| neighbour.pid);
    Ok(found)
}

fn allowed(procfs: &Procfs, pid: Pid) -> Result<CpuSet, Error> {
    let mut all = CpuSet::new();
    for thread in procfs.threads(pid)? {
        all = all.union(&procfs.allowed_cpus(pid, thread)?.unwrap_or_default());
    }
    Ok(all)
}

/// Whether it is one of the kernel's own threads, which nothing binds or ends.
pub(crate) fn is_kernel_thread(procfs: &Procfs, pid: Pid) -> Result<bool, Error> {
    Ok(flags(procfs, pid)?.is_some_and(|flags| flags & KERNEL_THREAD != 0))
}

/// The kernel's flags of a task; none where it has ended.
pub(crate) fn flags(procfs: &Procfs, pid: Pid) -> Result<Option<u64>, Error> {
    let stat = read(&procfs.root().join(format!("{pid}/stat")))?.unwrap_or_default();
    Ok(flags_in(&stat))
}

/// Whether a `stat` line is that of one of the kernel's own threads.
pub(super) fn is_kernels(stat: &str) -> bool {
    flags_in(stat).is_some_and(|flags| flags & KERNEL_THREAD != 0)
}

fn flags_in(stat: &str) -> Option<u64> {
    field_of_stat(stat, 9).and_then(|flags| flags.parse().ok())
}

/// The interrupts that some device uses and that may be served by any of these CPUs, by number
/// (Documentation/core-api/irq/irq-affinity).
pub fn interrupts(procfs: &Procfs, cpus: &CpuSet) -> Result<Vec<u32>, Error> {
    let mut found = Vec::new();
    for entry in list(&procfs.root().join("irq"))? {
        let Some(number) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        if has_handler(&entry.path())? && !affinity(&entry.path())?.intersection(cpus).is_empty() {
            found.push(number);
        }
    }
    found.sort_unstable();
    Ok(found)
}

/// A folder is each handler's.
fn has_handler(irq: &Path) -> Result<bool, Error> {
    Ok(list(irq)?.iter().any(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())))
}

/// Where it is really served, or, where the kernel does not say, may be.
fn affinity(irq: &Path) -> Result<CpuSet, Error> {
    for name in ["effective_affinity_list", "smp_affinity_list"] {
        let text = read(&irq.join(name))?.unwrap_or_default();
        if let Ok(cpus) = text.trim().parse() {
            return Ok(cpus);
        }
    }
    Ok(CpuSet::new())
}
