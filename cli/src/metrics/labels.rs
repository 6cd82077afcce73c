//! The labels of the metrics. Pool names and these words are all that their values can be.

use kcm_core::pool::PoolName;
use prometheus_client::encoding::EncodeLabelSet;

/// Of a pool.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub(super) struct OfPool {
    pub(super) pool: String,
}

/// Of the CPU lists of a pool in one state: `free` or `held`.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub(super) struct OfLists {
    pub(super) pool: String,
    pub(super) exclusive: bool,
    pub(super) state: &'static str,
}

/// Of what guards an exclusive pool.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub(super) struct OfGuard {
    pub(super) pool: String,
    pub(super) guard: &'static str,
}

/// Of the repairs in a pool that worked, or failed.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub(super) struct OfRepair {
    pool: String,
    result: &'static str,
}

/// Of the rounds that succeeded, or failed.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub(super) struct OfRound {
    result: &'static str,
}

impl OfPool {
    pub(super) fn new(pool: &PoolName) -> Self {
        Self { pool: pool.to_string() }
    }
}

impl OfRepair {
    pub(super) fn that(pool: &str, worked: bool) -> Self {
        Self { pool: pool.to_owned(), result: if worked { "repaired" } else { "failed" } }
    }
}

impl OfRound {
    pub(super) fn that(succeeded: bool) -> Self {
        Self { result: if succeeded { "succeeded" } else { "failed" } }
    }
}
