//! Finding what went wrong, and mending what can be mended in the configuration directory alone.

use std::collections::BTreeMap;

use super::repair::{Live, Mismatch, Seen};
use super::{Error, Judge, Node, malformed, readable_records};
use crate::allocation::Allocation;
use crate::notice::Notice;
use crate::plan::reconcile::{Holder, Reclaimed, Stray, missing, reclaim, settle};
use crate::pool::{Pool, PoolName};
use crate::state::{Listing, Update};
use crate::task::{Pid, Tasks};
use crate::usage::Usage;

/// What one look at the node has found.
#[derive(Debug, Default)]
pub struct Reconciled {
    /// Dead tasks that were taken out of their lists, by process id.
    pub reclaimed: Vec<Reclaimed>,
    /// Live ones that run elsewhere than on their CPUs, by process id.
    pub mismatched: Vec<Mismatch>,
    /// What a person must mend; the rest was done.
    pub failures: Vec<String>,
    /// How much of each pool that could be read is in use now.
    pub usage: Vec<Usage>,
}

impl Node {
    /// Gives back what the dead hold, removes what crashes have left behind, and finds whoever does
    /// not run where it should. `notices` gets what an administrator should hear of.
    pub fn reconcile(&self, notices: &mut Vec<Notice>) -> Result<Reconciled, Error> {
        let (mut found, live) = self.conf.update(|state| self.clean(state, notices))?;
        // Without the lock: there may be thousands of threads to look at, and a repair looks again.
        for task in live {
            match self.mismatch(task) {
                Ok(mismatch) => found.mismatched.extend(mismatch),
                Err(error) => found.failures.push(error.to_string()),
            }
        }
        found.reclaimed.sort_by_key(|r| (r.pid, r.pool.clone(), r.list.clone()));
        found.mismatched.sort_by_key(|m| (m.pid, m.pool.clone(), m.list.to_string()));
        Ok(found)
    }

    fn clean(
        &self,
        state: &Update,
        notices: &mut Vec<Notice>,
    ) -> Result<(Reconciled, Vec<Live>), Error> {
        let mut judge = Judge::new(self, state)?;
        state.remove_leftovers()?;
        let (records, aside) = readable_records(state)?;
        judge.know(records.clone());
        let mut found = Reconciled { failures: aside, ..Reconciled::default() };
        found.failures.extend(state.odd()?.iter().map(ToString::to_string));
        let mut pools: BTreeMap<PoolName, Option<Pool>> = BTreeMap::new();
        for name in state.pool_names()? {
            let pool = self.clean_pool(state, &judge, &name, &mut found);
            let pool = pool.map_err(|error| found.failures.push(error.to_string())).ok();
            pools.insert(name, pool);
        }
        for record in &records {
            if found.reclaimed.iter().any(|r| r.owner.as_ref() == Some(&record.owner)) {
                continue;
            }
            // A pool that could not be read says nothing of its tasks.
            let pool = match pools.get_mut(&record.pool) {
                Some(None) => continue,
                Some(Some(pool)) => Some(pool),
                None => None,
            };
            match self.settle(state, &judge, record, pool) {
                Ok(notice) => notices.extend(notice),
                Err(error) => found.failures.push(error.to_string()),
            }
        }
        let pools: Vec<Pool> = pools.into_values().flatten().collect();
        found.usage = pools.iter().map(|pool| Usage::of(pool, &records)).collect();
        Ok((found, live_tasks(state, &pools, &records)))
    }

    /// One pool as it is without its dead.
    fn clean_pool(
        &self,
        state: &Update,
        judge: &Judge<'_>,
        name: &PoolName,
        found: &mut Reconciled,
    ) -> Result<Pool, Error> {
        let Listing { pool, odd, .. } = state.pool(name)?;
        found.failures.extend(odd.iter().map(ToString::to_string));
        let pool = judge.pool(pool)?;
        found.failures.extend(malformed(&pool));
        let (pool, changes, reclaimed) = reclaim(pool);
        state.apply(&changes)?;
        found.reclaimed.extend(reclaimed);
        Ok(pool)
    }

    /// Makes a record and the `tasks` of its lists agree.
    fn settle(
        &self,
        state: &Update,
        judge: &Judge<'_>,
        record: &Allocation,
        pool: Option<&mut Pool>,
    ) -> Result<Option<Notice>, Error> {
        let lists = missing(record, pool.as_deref()).unwrap_or_default();
        if lists.is_empty() {
            return Ok(None);
        }
        let holder = match judge.is_alive(record, None)? {
            false => Holder::Dead,
            true if self.runs_on(record)? => Holder::InPlace,
            true => Holder::Elsewhere,
        };
        let exclusive = pool.as_ref().is_none_or(|pool| pool.exclusive);
        let (owner, pid, cpus) = (&record.owner, record.process.pid, record.cpus());
        match settle(record, exclusive, &lists, holder) {
            Some(Stray::Remove(changes)) => {
                state.apply(&changes)?;
                let but = match holder {
                    Holder::Dead => String::new(),
                    Holder::Elsewhere => "; it lives, and was never bound to them".to_owned(),
                    Holder::InPlace => {
                        format!("; it runs on CPUs {cpus}, which others may be given: end it")
                    }
                };
                Ok(Some(Notice::warning(format!(
                    "removed the record of {owner}: process {pid} is in no tasks file{but}"
                ))))
            }
            Some(Stray::PutBack(changes)) => {
                state.apply(&changes)?;
                // The next record must find its lists taken.
                let reread = pool.map(|pool| state.pool(&pool.name).map(|now| (pool, now.pool)));
                if let Some((pool, now)) = reread.transpose()? {
                    *pool = judge.pool(now)?;
                }
                Ok(Some(Notice::warning(format!(
                    "put process {pid} of {owner} back into pool {}: it runs on CPUs {cpus}, and was \
                     in no tasks file there",
                    record.pool
                ))))
            }
            None => Ok(None),
        }
    }

    /// Whether a live holder runs on its CPUs, and on nothing else. A container may be one that
    /// was never pinned, since its hook was killed; `isolate` then lives no more.
    fn runs_on(&self, record: &Allocation) -> Result<bool, Error> {
        if record.cgroup.is_none() {
            return Ok(true);
        }
        let seen = self.seen(record.process.pid, record.cgroup.as_deref())?;
        Ok(seen.is_some_and(|seen: Seen| seen.all() == record.cpus()))
    }
}

/// The live tasks with what is known of each.
fn live_tasks(state: &Update, pools: &[Pool], records: &[Allocation]) -> Vec<Live> {
    let mut live = Vec::new();
    for pool in pools {
        for list in &pool.lists {
            let Tasks::Judged(tasks) = &list.tasks else { continue };
            for task in tasks {
                let record =
                    records.iter().find(|record| Some(&record.owner) == task.owner.as_ref());
                let written = match record {
                    Some(_) => None,
                    None => state.tasks(&pool.name, list.name.as_str()).ok().flatten(),
                };
                live.push(Live {
                    pool: pool.name.clone(),
                    list: list.name.clone(),
                    pid: task.pid,
                    record: record.cloned(),
                    cpus: match record {
                        Some(record) => record.cpus(),
                        None => cpus_of(pool, task.pid),
                    },
                    since: written.map(|(_, written)| written),
                });
            }
        }
    }
    live
}

/// All CPUs of a pool whose lists have this PID.
fn cpus_of(pool: &Pool, pid: Pid) -> crate::CpuSet {
    let has_it = |tasks: &Tasks| match tasks {
        Tasks::Judged(tasks) => tasks.iter().any(|task| task.pid == pid),
        _ => false,
    };
    let lists = pool.lists.iter().filter(|list| has_it(&list.tasks));
    lists.flat_map(|list| list.name.cpus().iter()).collect()
}
