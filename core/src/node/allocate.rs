//! Giving an owner CPU lists: those that are free at a glance, or that are when everything is known.

use std::num::NonZeroUsize;

use super::judge::Judge;
use super::marks::Marks;
use super::pool_judge::PoolJudge;
use super::said::{damages, forgotten_notice, holders, reclaimed_notices, skipped};
use super::{Error, Node, now};
use crate::allocation::{Allocation, CgroupId};
use crate::host::shield_state::{StateFile, shielded_units};
use crate::host::{environ, sysfs};
use crate::notice::Notice;
use crate::partition::{Policy, Wish};
use crate::plan::allocate::{Nodes, Taken, at_a_glance, choose, put, take};
use crate::plan::reconcile::{Reclaim, reclaim};
use crate::plan::{Change, Slot};
use crate::pool::Pool;
use crate::request::Request;
use crate::state::{Contents, Hold, Listing, Memory, Turn, Update};
use crate::task::{Glance, Judged, Life, Pid};

/// What an owner was given.
#[derive(Debug)]
pub struct Granted {
    /// Its CPU lists, and the record of them.
    pub allocation: Allocation,
    /// Whether its pool is exclusive.
    pub exclusive: bool,
    /// What its pool says of memory.
    pub memory: Memory,
    /// What its pool and its own wish say of a partition.
    pub partition: Wish,
    /// The lock's file, for what is done under the lock once more.
    pub turn: Option<Turn>,
    /// Until this is dropped others know that the owner is about to be bound; none where it had its
    /// lists already.
    pub hold: Option<Hold>,
}

impl Node {
    /// Gives the owner CPU lists of the pool, or those that it has; `notices` gets what an
    /// administrator should hear of, also where nothing is given.
    pub fn allocate(&self, request: &Request, notices: &mut Vec<Notice>) -> Result<Granted, Error> {
        let mut first = Vec::new();
        let refusal = match self.allocate_from(request, &mut first) {
            Err(Error::Refused(refusal)) => refusal,
            result => {
                notices.append(&mut first);
                return result;
            }
        };
        let shield = shielded_units(&StateFile::default(), &request.process.boot_id);
        if let Some(usable) = self.obtainable(request, &shield)? {
            return self.allocate_from(&Request { usable, ..request.clone() }, notices);
        }
        notices.append(&mut first);
        Err(self.shielded(request, &shield, refusal))
    }

    /// Does so from what the owner may use now.
    fn allocate_from(
        &self,
        request: &Request,
        notices: &mut Vec<Notice>,
    ) -> Result<Granted, Error> {
        let mut first = Vec::new();
        let mut unsearched = Vec::new();
        match self.allocate_after(&Marks::default(), request, &mut first, &mut unsearched) {
            Err(Error::Refused(_)) if !unsearched.is_empty() => {
                let marks = self.search(&unsearched, notices);
                self.allocate_after(&marks, request, notices, &mut Vec::new())
            }
            result => {
                notices.append(&mut first);
                result
            }
        }
    }

    /// Does so, when this is known of marks; `unsearched` gets what should be known, too.
    fn allocate_after(
        &self,
        marks: &Marks,
        request: &Request,
        notices: &mut Vec<Notice>,
        unsearched: &mut Vec<environ::Mark>,
    ) -> Result<Granted, Error> {
        let (granted, turn) = self.conf.update_and_keep(|state| {
            if !state.is_of_boot(&request.process.boot_id)? {
                // Nothing is written into a directory that has no such pool.
                state.pool(&request.pool)?;
                self.enter_boot(state, &request.process.boot_id, notices)?;
            }
            // First, since it may free what an earlier container of this name held.
            let held = self.held_already(state, request, notices)?;
            let Listing { pool, memory, partition, odd } = state.pool(&request.pool)?;
            let exclusive = pool.exclusive;
            let policy = match partition {
                Some(policy) => policy,
                None if exclusive => state.partition(&request.pool)?,
                // Its CPUs are nobody's alone, whatever it says.
                None => Policy::default(),
            };
            let partition = self.wish(request, exclusive, policy, notices)?;
            let granted = |allocation, hold| Granted {
                allocation,
                exclusive,
                memory,
                partition,
                turn: None,
                hold,
            };
            if let Some(allocation) = held {
                return Ok(granted(allocation, None));
            }
            let nodes = self.nodes(request.cores)?;
            notices.extend(odd.iter().map(|odd| Notice::warning(odd.to_string())));
            let glanced = free_at_a_glance(state, &pool, request, &nodes);
            if !matches!(glanced, Ok(None)) {
                notices.extend(skipped(&pool, request, |glance| *glance == Glance::Empty));
            }
            let (lists, mut changes) = match glanced? {
                Some(lists) => (lists, Vec::new()),
                None => {
                    let judge = self.pool_judge(state, request.cgroup.as_ref(), marks, notices)?;
                    let free = Self::free_by_judgement(&judge, pool, request, &nodes, notices);
                    unsearched.extend(judge.judge.unsearched());
                    free?
                }
            };
            let (allocation, taking) =
                take(&request.pool, exclusive, &lists, request, partition.kind, now());
            changes.extend(taking);
            let hold = state.apply_and_hold(&changes)?;
            Ok::<_, Error>(granted(allocation, hold))
        })?;
        Ok(Granted { turn, ..granted })
    }

    /// Lists that are free when everything is known of the pool, and the changes that make them so.
    fn free_by_judgement(
        judge: &PoolJudge<'_>,
        pool: Pool<Glance>,
        request: &Request,
        nodes: &Nodes,
        notices: &mut Vec<Notice>,
    ) -> Result<(Vec<Taken>, Vec<Change>), Error> {
        let pool = judge.pool(pool)?;
        notices.extend(damages(&pool).map(Notice::warning));
        let Reclaim { pool, changes, reclaimed, forgotten } = reclaim(pool);
        judge.clean_up(&reclaimed, &forgotten, notices);
        let is_nobodys = |judged: &Judged| !pool.exclusive || judged.live() == 0;
        notices.extend(skipped(&pool, request, is_nobodys));
        let chosen =
            choose(&pool, request, nodes).inspect_err(|_| notices.extend(holders(&pool)))?;
        notices.extend(reclaimed_notices(&reclaimed));
        notices.extend(forgotten.iter().map(forgotten_notice));
        let lists = chosen.into_iter().map(|i| &pool.lists[i]);
        let lists = lists.map(|list| (list.name.clone(), list.tasks.living()));
        Ok((lists.collect(), changes))
    }

    /// The first writer of a boot frees all that was held before: what a power cut has left of it
    /// may not say so by itself.
    fn enter_boot(
        &self,
        state: &Update,
        boot_id: &str,
        notices: &mut Vec<Notice>,
    ) -> Result<(), Error> {
        let judge = self.pool_judge(state, None, &Marks::default(), notices)?.first_of_boot(true);
        for name in state.pool_names()? {
            // Whatever is wrong with another pool is not this caller's.
            let Ok(Listing { pool, .. }) = state.pool(&name) else { continue };
            let Reclaim { changes, reclaimed, .. } = reclaim(judge.pool(pool)?);
            state.apply(&changes)?;
            notices.extend(reclaimed_notices(&reclaimed));
        }
        Ok(state.enter_boot(boot_id)?)
    }

    /// Makes sure, when an owner was bound and marked, that what it was given is its own still: whoever
    /// damages one file after the other while it is bound may have had it taken for one that never was.
    pub fn confirm(&self, granted: &mut Granted, notices: &mut Vec<Notice>) -> Result<(), Error> {
        let is_in_place = granted.hold.as_ref().map_or(Ok(true), Hold::is_in_place)?;
        if is_in_place {
            return Ok(());
        }
        let Allocation { owner, pool, lists, process, .. } = &granted.allocation;
        let hold = self.conf.update(|state| {
            let judge = self.pool_judge(state, None, &Marks::default(), notices)?;
            let pool = judge.pool(state.pool(pool)?.pool)?;
            let mut ours = Vec::new();
            for list in lists {
                let there = pool.lists.iter().find(|there| there.name == *list);
                let living = there.map(|there| there.tasks.living()).unwrap_or_default();
                let other = living.iter().find(|&&pid| pid != process.pid);
                if let (true, Some(&other)) = (pool.exclusive, other) {
                    let (list, owner) = (Slot::new(&pool.name, list), owner.clone());
                    return Err(Error::TakenAway { list, owner, other });
                }
                ours.push((list.clone(), living));
            }
            let hold = state.apply_and_hold(&put(&granted.allocation, pool.exclusive, &ours))?;
            notices.push(Notice::warning(format!(
                "wrote anew what {owner} was given: its record was damaged while it was bound"
            )));
            Ok(hold)
        })?;
        granted.hold = hold;
        Ok(())
    }

    /// The owner's allocation if this very process has one; one of a dead process of the same name
    /// is given back, one of another live process is an error.
    fn held_already(
        &self,
        state: &Update,
        request: &Request,
        notices: &mut Vec<Notice>,
    ) -> Result<Option<Allocation>, Error> {
        let Some(record) = self.readable_record(state, &request.owner, notices)? else {
            return Ok(None);
        };
        let tasks = self.tasks_of(state, &record, notices)?;
        let holding = |pids: &Option<Vec<Pid>>| {
            pids.as_ref().is_some_and(|pids| pids.contains(&record.process.pid))
        };
        if record.process == request.process {
            if tasks.iter().all(holding) && record.pool == request.pool {
                return Ok(Some(record));
            }
        } else if self.holds(state, &record, tasks.iter().any(holding), request.cgroup.as_ref())? {
            let (owner, pid) = (request.owner.clone(), record.process.pid);
            return Err(Error::OwnerTaken { owner, pid });
        }
        self.free(state, &record, notices)?;
        Ok(None)
    }

    /// Whether a record's holder has its lists still.
    fn holds(
        &self,
        state: &Contents,
        record: &Allocation,
        is_written: bool,
        own: Option<&CgroupId>,
    ) -> Result<bool, Error> {
        let judge = Judge::new(self, state)?.asked_by(own);
        match is_written {
            true => judge.is_alive(record),
            false => Ok(judge.life(record)? == Life::Alive),
        }
    }

    fn nodes(&self, cores: NonZeroUsize) -> Result<Nodes, Error> {
        match cores.get() {
            1 => Ok(Nodes::new()),
            _ => Ok(sysfs::numa_nodes(&self.sys_root)?),
        }
    }
}

/// Lists of an exclusive pool that are free without a doubt: `tasks` is there and empty, and no
/// record says otherwise, which the list's index would.
fn free_at_a_glance(
    state: &Update,
    pool: &Pool<Glance>,
    request: &Request,
    nodes: &Nodes,
) -> Result<Option<Vec<Taken>>, Error> {
    let Some(chosen) = at_a_glance(pool, request, nodes)? else { return Ok(None) };
    let mut lists = Vec::new();
    for list in chosen.into_iter().map(|i| &pool.lists[i]) {
        if state.is_indexed(&Slot::new(&pool.name, &list.name))? {
            return Ok(None);
        }
        lists.push((list.name.clone(), Vec::new()));
    }
    Ok(Some(lists))
}
