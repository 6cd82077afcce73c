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
