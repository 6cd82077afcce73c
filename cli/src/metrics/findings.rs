//! What a round has found, as far as metrics tell of it.

use std::collections::BTreeSet;

use kcm_core::host::cgroup::Cgroup;
use kcm_core::node::Reconciled;
use kcm_core::pool::PoolName;
use kcm_core::state::ConfDir;
use kcm_core::usage::{self, Usage};

use crate::guards::judge::judge;
use crate::guards::look::look_at;
use crate::guards::{Facts, Guarded};
use crate::machine::Machine;

/// What a round has found. A command fills in what it has seen anyway.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    is_watched: bool,
    /// None where the pools could not be read, or nobody looked.
    pub(super) usage: Option<Vec<Usage>>,
    /// None in a command that does not reconcile.
    pub(super) reconciled: Option<PoolsOf>,
    /// The pool of each repair that was tried, and whether it worked.
    pub(super) repairs: Vec<(PoolName, bool)>,
    /// None where the pools could not be read, or nobody looked.
    pub(super) guarded: Option<Vec<Guarded>>,
    failures: Vec<String>,
    /// Cgroups that are partitions, whose change does not wait for the next round.
    pub(crate) partitions: Vec<Cgroup>,
}

/// The pools of what reconcile has found, each as often as it is in its report.
#[derive(Debug)]
pub(super) struct PoolsOf {
    pub(super) reclaimed: Vec<PoolName>,
    pub(super) mismatched: Vec<PoolName>,
    /// Of each owner without its partition.
    pub(super) lost: Vec<PoolName>,
}

impl Findings {
    /// For a round; of one that is watched, metrics will tell.
    pub(crate) fn of_a_round(is_watched: bool) -> Self {
        Self { is_watched, ..Self::default() }
    }

    /// Reconcile has found this.
    pub(crate) fn reconciled(&mut self, found: &Reconciled) {
        self.usage = Some(found.usage.clone());
        self.failures.extend(found.failures.iter().cloned());
        self.partitions = found.partitions.clone();
        self.reconciled = Some(PoolsOf {
            reclaimed: found.reclaimed.iter().map(|r| r.pool.clone()).collect(),
            mismatched: found.mismatched.iter().map(|m| m.pool.clone()).collect(),
            lost: found.lost.iter().map(|lost| lost.allocation.pool.clone()).collect(),
        });
    }

    /// A repair was tried.
    pub(crate) fn repaired(&mut self, pool: &PoolName, worked: bool) {
        self.repairs.push((pool.clone(), worked));
    }

    /// Sees how much of the pools is in use, where metrics will tell of it: for a command that has
    /// not looked itself. A directory that cannot be read makes the round one that failed.
    pub(crate) fn look_at(&mut self, dir: &ConfDir) {
        if !self.is_watched {
            return;
        }
        match dir.read(usage::read) {
            // That there was no lock is told by whoever reads the directory for its result.
            Ok((usage, _)) => self.usage = Some(usage),
            Err(error) => self.failures.push(error.to_string()),
        }
    }

    /// Sees what guards the exclusive pools of those that were seen, where metrics will tell of it: for a
    /// command that has not looked itself.
    pub(crate) fn look_for_guards(&mut self, machine: &Machine, dir: &ConfDir) {
        if !self.is_watched {
            return;
        }
        let seen = self.usage.iter().flatten().filter(|usage| usage.exclusive);
        let seen: BTreeSet<&PoolName> = seen.map(|usage| &usage.pool).collect();
        let facts = look_at(machine, dir, |pool| seen.contains(pool));
        self.guarded = facts.ok().map(|facts| judge(&facts));
    }

    /// There is this to guard exclusive pools.
    pub(crate) fn guarded(&mut self, facts: Option<&Facts>) {
        self.guarded = facts.map(judge);
    }

    /// Why the round is one that failed, though it went on to its end.
    pub(super) fn failure(&self) -> Option<String> {
        match &self.failures[..] {
            [] => None,
            [only] => Some(only.clone()),
            [first, more @ ..] => Some(format!("{first} (and {} more)", more.len())),
        }
    }
}
