//! Binding threads to CPUs.

use std::io;

use super::sys;
use crate::cpu_set::CpuSet;
use crate::task::Pid;

/// Binds one thread to CPUs (`sched_setaffinity(2)`). The kernel silently leaves out those that
/// the thread's cpuset does not have: read [`super::procfs::Procfs::allowed_cpus`] back.
pub fn bind(thread: Pid, cpus: &CpuSet) -> io::Result<()> {
    sys::set_affinity(thread.as_raw(), cpus)
}

/// Binds the calling thread to CPUs, which every process that it starts inherits.
pub fn bind_self(cpus: &CpuSet) -> io::Result<()> {
    sys::set_affinity(0, cpus)
}

/// The CPUs that the calling thread may run on.
pub fn own() -> io::Result<CpuSet> {
    sys::affinity()
}

/// The CPUs among `all` that the calling thread could be bound to: those of its cpuset. They are
/// not those that it may run on now: a caller may have confined it, and a process starts outside of
/// isolated CPUs. Found by trying, so that no cgroup file system is needed; the affinity is then as
/// before.
pub fn reachable(all: &CpuSet) -> io::Result<CpuSet> {
    let before = own()?;
    bind_self(all)?;
    let reachable = own();
    bind_self(&before)?;
    Ok(reachable?.intersection(all))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_reachable_is_found_also_by_a_confined_thread_which_stays_confined() {
        let all = reachable(&(0..4096).collect()).unwrap();
        let first: CpuSet = all.first().into_iter().collect();
        bind_self(&first).unwrap();
        assert_eq!((own().unwrap(), reachable(&all).unwrap()), (first.clone(), all.clone()));
        assert_eq!(own().unwrap(), first);
        assert!(bind_self(&CpuSet::from_iter([8191])).is_err());
        bind_self(&all).unwrap();
    }
}
