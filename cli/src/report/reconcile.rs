//! What a round of `kcm reconcile` found.

use kcm_core::task::Pid;
use schemars::JsonSchema;
use serde::Serialize;

/// What a round found.
#[derive(Clone, Debug, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ReconcileReport {
    /// Live processes that may run on other CPUs than theirs, by process id.
    pub(crate) mismatched_cpu_masks: Vec<Mismatched>,
    /// What dead processes held, by process id.
    pub(crate) reclaimed_cpu_lists: Vec<Reclaimed>,
}

/// A process that may run on other CPUs than those of its list.
#[derive(Clone, Debug, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Mismatched {
    /// The CPUs that it may run on.
    pub(crate) actual_cpus: Vec<u32>,
    /// Its CPU list.
    pub(crate) cpus: String,
    /// Its process id on the host.
    #[schemars(with = "i32")]
    pub(crate) pid: Pid,
    /// The pool of the list.
    pub(crate) pool: String,
    /// Whether its cgroup was put right; absent where that was not asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) repaired: Option<bool>,
}

/// A CPU list that a dead process held.
#[derive(Clone, Debug, JsonSchema, PartialEq, Serialize)]
pub(crate) struct Reclaimed {
    /// The CPU list.
    pub(crate) cpus: String,
    /// The process id that it had on the host.
    #[schemars(with = "i32")]
    pub(crate) pid: Pid,
    /// The pool of the list.
    pub(crate) pool: String,
}
