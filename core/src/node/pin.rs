//! Binding to CPUs, and making sure that it holds: the same for the hook at a container's start, for
//! `isolate` and for repair.

use super::target::Target;
use super::{Granted, NoPartition, Node};
use crate::CpuSet;
use crate::host::cgroup::Cgroup;
use crate::host::partition::{InTheWay, Taken};
use crate::host::procfs::Procfs;
use crate::host::scope::{self, Scope};
use crate::host::systemd::Restriction;
use crate::host::{self, affinity};
use crate::partition::{Kind, Wish};
use crate::state::Under;
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
    /// No partition, where its pool requires one.
    #[error("it cannot have its CPUs for itself alone, which its pool requires: {0}")]
    NoPartition(#[from] NoPartition),
    /// Nobody can tell who else has its CPUs.
    #[error("cannot look who else has its CPUs: {0}")]
    NotLookedAt(#[source] NoPartition),
    /// Somebody has its CPUs for himself alone.
    #[error(
        "CPUs {cpus} are not to be had: {other}; have no two CPU lists with the same CPUs, or end it"
    )]
    Anothers {
        /// The CPUs.
        cpus: CpuSet,
        /// Who.
        other: InTheWay,
    },
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
    /// The kernel has other CPUs than were set, and why it has.
    #[error("the cgroup {cgroup} is on CPUs {actual} after CPUs {cpus} were set: {why}")]
    Others {
        /// Its path.
        cgroup: String,
        /// What holds.
        actual: CpuSet,
        /// What was set.
        cpus: CpuSet,
        /// Who else has a claim on them.
        why: Box<NoPartition>,
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

/// What something is bound to.
#[derive(Clone, Copy, Debug)]
pub struct Binding<'a> {
    /// Exactly these CPUs.
    pub cpus: &'a CpuSet,
    /// Those that the cgroup above has now; none where that is not known.
    pub usable: Option<&'a CpuSet>,
    /// These NUMA nodes; none for its memory as it is.
    pub memory_nodes: Option<&'a CpuSet>,
    /// Whether nobody else is to have the CPUs.
    pub partition: Wish,
    /// Whether systemd is to lift its CFS quota.
    pub is_unthrottled: bool,
    /// What this process has of the lock, under which a partition is taken.
    pub under: Under<'a>,
}

impl<'a> Binding<'a> {
    /// To CPUs that others may have as well.
    pub fn plain(cpus: &'a CpuSet) -> Self {
        Self {
            cpus,
            usable: None,
            memory_nodes: None,
            partition: Wish::PLAIN,
            is_unthrottled: false,
            under: Under::Nothing,
        }
    }

    /// To what an owner was given.
    pub fn granted(granted: &'a Granted, cpus: &'a CpuSet) -> Self {
        let (partition, under) = (granted.partition, granted.turn.as_ref().into());
        Self { partition, under, ..Self::plain(cpus) }
    }
}

/// What came of the wish for a partition.
#[derive(Debug)]
pub enum Outcome {
    /// There was none.
    Plain,
    /// The cgroup is one.
    Partition(Kind, Taken),
    /// It is not, and others may run on its CPUs.
    Shared(NoPartition),
}

/// Binds a container to CPUs, and its memory to NUMA nodes where given.
pub fn pin(node: &Node, target: &mut Target, binding: Binding<'_>) -> Result<Outcome, Error> {
    let outcome = restrict(node, &target.cgroup, target.scope.as_mut(), binding)?;
    // Since Linux 6.2 an affinity inherited from the engine outlives a change of the cpuset.
    let (pid, cpus) = (target.process.pid, binding.cpus);
    let threads = bind_threads(&node.procfs, pid, cpus)?;
    verify_threads(&node.procfs, pid, &threads, cpus)?;
    Ok(outcome)
}

/// Restricts a cgroup to CPUs, and to NUMA nodes where given; `scope` is systemd's that it is in.
pub fn restrict(
    node: &Node,
    cgroup: &Cgroup,
    scope: Option<&mut Scope>,
    binding: Binding<'_>,
) -> Result<Outcome, Error> {
    let Binding { cpus, usable, memory_nodes, partition, is_unthrottled, under } = binding;
    if usable.is_some_and(|usable| !cpus.is_subset(usable)) && node.has_partitions() {
        // Before they are given to it: an earlier holder's partition may have them still. Beside one
        // that somebody is in nothing is written at all.
        let in_the_way = node.clear_way(under, cgroup, cpus).map_err(Error::NotLookedAt)?;
        let has_them = |it: &&InTheWay| matches!(it, InTheWay::Partition(..));
        if let Some(other) = in_the_way.iter().find(has_them) {
            return Err(Error::Anothers { cpus: cpus.clone(), other: other.clone() });
        }
    }
    if let Some(scope) = scope {
        // First, because systemd writes its own value back on any reload.
        scope.restrict(Restriction { cpus, memory_nodes, is_unthrottled })?;
    }
    cgroup.set_cpus(cpus)?;
    if let Some(nodes) = memory_nodes {
        cgroup.set_memory_nodes(nodes)?;
    }
    let outcome = match partition.kind {
        None => Outcome::Plain,
        Some(kind) => match node.take_partition(under, cgroup, cpus, kind) {
            Ok(taken) => Outcome::Partition(kind, taken),
            Err(why) if partition.required => return Err(Error::NoPartition(why)),
            Err(why) => Outcome::Shared(why),
        },
    };
    // cgroup v2 accepts CPUs that the parent does not have, and then means all of the parent's.
    let mut actual = cgroup.effective_cpus()?;
    if actual != *cpus && matches!(outcome, Outcome::Plain) && node.has_partitions() {
        // It does not have those either that an earlier holder's partition has still.
        node.clear_way(under, cgroup, cpus).map_err(Error::NotLookedAt)?;
        actual = cgroup.effective_cpus()?;
    }
    if actual != *cpus {
        let cgroup = cgroup.path().to_owned();
        if let Outcome::Shared(why) = outcome {
            return Err(Error::Others { cgroup, actual, cpus: cpus.clone(), why: why.into() });
        }
        return Err(Error::Cgroup { cgroup, actual, cpus: cpus.clone() });
    }
    Ok(outcome)
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
