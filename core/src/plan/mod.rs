//! Deciding, with no IO, no clock and no environment: from what is there and what is asked to the
//! changes that bring the one to the other.

pub mod allocate;
pub mod init;
pub mod reconcile;
pub mod release;
pub mod shield;
pub mod workqueues;

use crate::allocation::{Allocation, Owner};
use crate::pool::PoolName;
use crate::task::Pid;

/// One step in the configuration directory. Steps are applied in the order of a plan, and each is
/// atomic, so a process killed at any instant leaves a prefix of its plan.
///
/// What is taken is written *record, index, tasks*; what is given back *tasks, index, record*. A
/// record alone and a PID in `tasks` alone both hold a list, so every prefix of either is safe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Writes the owner's record.
    PutRecord(Box<Allocation>),
    /// Has a list's index be a copy of the owner's record, which is there.
    Index(Slot, Owner),
    /// Replaces the content of a list's `tasks`.
    SetTasks(Slot, Vec<Pid>),
    /// Keeps a damaged `tasks` beside its place.
    SetAside(Slot),
    /// Makes a list's index, which alone is left of the owner's record, its record and index again.
    Restore(Slot, Owner),
    /// Removes a list's index if it is of the owner.
    RemoveIndex(Slot, Owner),
    /// Removes a list's index, whatever it is.
    ClearIndex(Slot),
    /// Removes the owner's record.
    RemoveRecord(Owner),
}

/// A CPU list by its names.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slot {
    /// The list's pool.
    pub pool: PoolName,
    /// The list's name as it is spelled.
    pub list: String,
}

impl Slot {
    /// The list of these names.
    pub fn new(pool: &PoolName, list: impl ToString) -> Self {
        Self { pool: pool.clone(), list: list.to_string() }
    }
}

impl std::fmt::Display for Slot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "CPU list {} of pool {}", self.list, self.pool)
    }
}
