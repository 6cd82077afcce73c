//! What somebody asks of a pool.

use std::num::NonZeroUsize;

use crate::allocation::{CgroupId, Details, Owner};
use crate::cpu_set::CpuSet;
use crate::partition::Choice;
use crate::pool::PoolName;
use crate::task::Process;

/// One owner's wish for CPU lists of one pool.
#[derive(Clone, Debug)]
pub struct Request {
    /// Who will hold them.
    pub owner: Owner,
    /// The process they are for.
    pub process: Process,
    /// The pool.
    pub pool: PoolName,
    /// How many CPU lists of an exclusive pool; of no meaning for a shared one.
    pub cores: NonZeroUsize,
    /// The CPUs that the owner may use at all: its parent cgroup's effective cpuset, or its own
    /// allowed CPUs. Never an offline one.
    pub usable: CpuSet,
    /// CPUs that it wants no others than; none for any.
    pub within: Option<CpuSet>,
    /// The cgroup that the lists are for; none for an `isolate` without one of its own.
    pub cgroup: Option<CgroupId>,
    /// False where the owner asked not to be bound to the CPUs.
    pub affinity: bool,
    /// The cpuset partition that it asks for, where its pool lets it choose; none where it asks for
    /// nothing.
    pub partition: Option<Choice>,
    /// The CPUs that it had when its checkpoint was made, which it gets again if they are free.
    pub had: Option<CpuSet>,
    /// What to record of the owner, for people.
    pub details: Details,
}
