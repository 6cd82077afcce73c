//! Deciding, with no IO, no clock and no environment: from what is there and what is asked to the
//! changes that bring the one to the other.

pub mod allocate;
pub mod init;
pub mod reconcile;
pub mod release;

use crate::allocation::{Allocation, Owner};
use crate::pool::PoolName;
use crate::task::Pid;

/// One step in the configuration directory. Steps are applied in the order of a plan, and each is
/// atomic, so a process killed at any instant leaves a prefix of its plan.
///
/// What is taken is written *record, then tasks*; what is given back *tasks, then record*: a
/// record whose PID is in no `tasks` holds nothing, and a PID in `tasks` always has its record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Writes the owner's record.
    PutRecord(Box<Allocation>),
    /// Replaces the content of a list's `tasks`.
    SetTasks {
        /// The list's pool.
        pool: PoolName,
        /// The list's name as it is spelled.
        list: String,
        /// The whole new content.
        pids: Vec<Pid>,
    },
    /// Removes the owner's record.
    RemoveRecord(Owner),
}
