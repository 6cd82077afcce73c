//! Finding what went wrong, and mending what can be mended in the configuration directory alone.

use std::collections::BTreeMap;

use super::marks::Marks;
use super::pool_judge::PoolJudge;
use super::repair::{Live, Lost, Mismatch};
use super::{Aside, Error, Judge, Node, forgotten_notice, now, readable_records};
use crate::CpuSet;
use crate::allocation::{Allocation, CgroupId, Details, Owner};
use crate::host::cgroup::Cgroup;
use crate::host::environ;
use crate::host::mark::{self, Mark};
use crate::notice::Notice;
use crate::plan::reconcile::{Mended, Reclaim, Reclaimed, mend, reclaim, shared_by_mistake};
use crate::plan::{Change, Slot};
use crate::pool::{Pool, PoolName};
use crate::state::{Index, Listing, Update};
use crate::task::{Judged, Life, Pid, Task};
use crate::usage::Usage;

/// How many partitions are watched at the most: each has a descriptor.
const WATCHED: usize = 100;

/// What one look at the node has found.
#[derive(Debug, Default)]
pub struct Reconciled {
    /// Dead tasks that were taken out of their lists, by process id.
    pub reclaimed: Vec<Reclaimed>,
    /// Live ones that run elsewhere than on their CPUs, by process id.
    pub mismatched: Vec<Mismatch>,
    /// Live ones that have their CPUs no more for themselves alone, by owner.
    pub lost: Vec<Lost>,
    /// The cgroups that are to be partitions, a hundred at the most.
    pub partitions: Vec<Cgroup>,
    /// What a person must look at; the rest was done.
    pub failures: Vec<String>,
    /// How much of each pool that could be read is in use now.
    pub usage: Vec<Usage>,
}

impl Node {
    /// Gives back what the dead hold, removes what crashes have left behind, writes anew what was
    /// damaged, and finds whoever does not run where it should. `notices` gets what an administrator
    /// should hear of. No live holder loses its record or its lists.
    pub fn reconcile(&self, notices: &mut Vec<Notice>) -> Result<Reconciled, Error> {
        let (mut found, mut live, unsearched) =
            self.conf.update(|state| self.clean(state, Marks::default(), notices))?;
        if !unsearched.is_empty() {
            let marks = self.search(&unsearched, notices);
            let reclaimed = std::mem::take(&mut found.reclaimed);
            (found, live, _) = self.conf.update(|state| self.clean(state, marks, notices))?;
            found.reclaimed.extend(reclaimed);
        }
        self.put_quotas_of_pods_back(None, notices);
        // Without the lock: there may be thousands of threads to look at, and a repair looks again.
        for task in live {
            let room = found.partitions.len() < WATCHED;
            found.partitions.extend(self.partition_to_be(&task).filter(|_| room));
            match self.lost_partition(&task) {
                Ok(lost) => found.lost.extend(lost),
                Err(error) => found.failures.push(error.to_string()),
            }
            match self.mismatch(task) {
                Ok(mismatch) => found.mismatched.extend(mismatch),
                Err(error) => found.failures.push(error.to_string()),
            }
        }
        found.reclaimed.sort_by_key(|r| (r.pid, r.pool.clone(), r.list.clone()));
        found.mismatched.sort_by_key(|m| (m.pid, m.pool.clone(), m.list.to_string()));
        // One of several lists is told once.
        found.lost.sort_by(|a, b| a.allocation.owner.cmp(&b.allocation.owner));
        found.lost.dedup_by(|a, b| a.allocation.owner == b.allocation.owner);
        Ok(found)
    }

    fn clean(
        &self,
        state: &Update,
        marks: Marks,
        notices: &mut Vec<Notice>,
    ) -> Result<(Reconciled, Vec<Live>, Vec<environ::Mark>), Error> {
        let judge = Judge::new(self, state)?.after(marks);
        let boot_id = judge.boot_id.clone();
        state.remove_leftovers()?;
        let (records, aside) = readable_records(state)?;
        let records_too_many = records.too_many(&state.allocations_path());
        let judge = judge.knowing(records).first_of_boot(!state.is_of_boot(&boot_id)?);
        let mut found = Reconciled::default();
        found.failures.extend(records_too_many);
        found.failures.extend(state.odd()?.iter().map(ToString::to_string));
        let mut pools: BTreeMap<PoolName, Option<Pool<Judged>>> = BTreeMap::new();
        for name in state.pool_names()? {
            let pool = self.clean_pool(state, &judge, &name, &mut found, notices);
            let pool = pool.map_err(|error| found.failures.push(error.to_string())).ok();
            pools.insert(name, pool);
        }
        for record in judge.records() {
            // A pool that could not be read says nothing of its lists.
            if !matches!(pools.get(&record.pool), Some(None)) {
                let pool = pools.get(&record.pool).and_then(Option::as_ref);
                if let Err(error) = self.stray(state, &judge, record, pool, &mut found, notices) {
                    found.failures.push(error.to_string());
                }
            }
        }
        let pools: Vec<Pool<Judged>> = pools.into_values().flatten().collect();
        self.write_lost_records(state, &pools, judge.records(), notices)?;
        for Aside { owner, said } in aside {
            // One that was written anew no person has to look at.
            match state.record(&owner) {
                Ok(Some(_)) => notices.push(Notice::warning(said)),
                _ => found.failures.push(said),
            }
        }
        found.failures.extend(still_aside(state)?);
        if state.was_used() {
            state.enter_boot(&boot_id)?;
        }
        let records = state.records()?.readable;
        found.usage = pools.iter().map(|pool| Usage::of(pool, &records)).collect();
        Ok((found, live_tasks(&pools, &records), judge.judge.unsearched()))
    }

    /// One pool as it is without its dead, and with what it lacked.
    fn clean_pool(
        &self,
        state: &Update,
        judge: &PoolJudge<'_>,
        name: &PoolName,
        found: &mut Reconciled,
        notices: &mut Vec<Notice>,
    ) -> Result<Pool<Judged>, Error> {
        let Listing { pool, odd, .. } = state.pool(name)?;
        found.failures.extend(odd.iter().map(ToString::to_string));
        let Reclaim { pool, changes, reclaimed, forgotten } = reclaim(judge.pool(pool)?);
        judge.clean_up(&reclaimed, &forgotten, notices);
        state.apply(&changes)?;
        notices.extend(forgotten.iter().map(forgotten_notice));
        found.reclaimed.extend(reclaimed);
        let (changes, mended) = mend(&pool);
        state.apply(&changes)?;
        notices.extend(mended.iter().flat_map(mended_notices));
        for (slot, tasks) in shared_by_mistake(&pool) {
            found.failures.push(two_holders(&slot, &tasks));
        }
        if pool.exclusive {
            for change in index_changes(state, &pool)? {
                state.apply(std::slice::from_ref(&change))?;
                if let Change::Restore(slot, owner) = change {
                    notices.push(Notice::warning(format!(
                        "wrote the record of {owner} anew, which was lost, as {slot} has a copy of it"
                    )));
                }
            }
        }
        Ok(pool)
    }

    /// A record that names lists which are not there.
    fn stray(
        &self,
        state: &Update,
        judge: &PoolJudge<'_>,
        record: &Allocation,
        pool: Option<&Pool<Judged>>,
        found: &mut Reconciled,
        notices: &mut Vec<Notice>,
    ) -> Result<(), Error> {
        let is_there = |name: &str| {
            pool.is_some_and(|pool| pool.lists.iter().any(|list| list.name.as_str() == name))
        };
        let gone: Vec<&str> =
            record.lists.iter().map(|list| list.as_str()).filter(|name| !is_there(name)).collect();
        if gone.is_empty() {
            return Ok(());
        }
        let (owner, pid, pool) = (&record.owner, record.process.pid, &record.pool);
        match judge.judge.life(record)? {
            Life::Alive => found.failures.push(format!(
                "{owner} (process {pid}) holds CPU lists {} of pool {pool}, which are not there: it \
                 runs on CPUs {}, which others may be given; end it, or make the lists again",
                gone.join(", "),
                record.cpus()
            )),
            // What it holds elsewhere, it holds by its tasks.
            _ if gone.len() < record.lists.len() => {}
            life => {
                state.apply(&[Change::RemoveRecord(owner.clone())])?;
                let owner = owner.clone();
                notices.push(forgotten_notice(&super::Forgotten { owner, pid, life }));
            }
        }
        Ok(())
    }

    /// A holder whose record was lost has its cgroup marked still, which tells whose it is: its record
    /// is written anew, without what was there for people.
    fn write_lost_records(
        &self,
        state: &Update,
        pools: &[Pool<Judged>],
        records: &[Allocation],
        notices: &mut Vec<Notice>,
    ) -> Result<(), Error> {
        let is_known = |owner: &Owner| records.iter().any(|record| record.owner == *owner);
        for pool in pools {
            let mut lists: BTreeMap<Pid, Vec<&crate::pool::CpuListName>> = BTreeMap::new();
            for list in &pool.lists {
                let bare = list.tasks.tasks.iter().filter(|task| task.owner.is_none());
                for task in bare.filter(|task| task.is_alive()) {
                    lists.entry(task.pid).or_default().push(&list.name);
                }
            }
            for (pid, lists) in lists {
                let Some((mark, cgroup)) = self.mark_of(pid)? else { continue };
                let cpus: CpuSet = lists.iter().flat_map(|list| list.cpus().iter()).collect();
                let Some(process) = self.procfs.process(pid)? else { continue };
                if mark.cpus != cpus || is_known(&mark.owner) {
                    continue;
                }
                let record = Allocation {
                    owner: mark.owner.clone(),
                    pool: pool.name.clone(),
                    lists: lists.into_iter().cloned().collect(),
                    process,
                    created_at: now(),
                    cgroup: Some(cgroup.clone()),
                    affinity: true,
                    partition: self.partition_of(&cgroup)?,
                    details: Details::default(),
                };
                self.write_lost_record(state, pool.exclusive, record)?;
                notices.push(Notice::warning(format!(
                    "wrote the record of {} anew, which was lost: process {pid} holds CPUs {cpus} of \
                     pool {}, and its cgroup is marked so",
                    mark.owner, pool.name
                )));
            }
        }
        Ok(())
    }

    fn write_lost_record(
        &self,
        state: &Update,
        exclusive: bool,
        record: Allocation,
    ) -> Result<(), Error> {
        let owner = record.owner.clone();
        let slots: Vec<Slot> =
            record.lists.iter().map(|list| Slot::new(&record.pool, list)).collect();
        let mut changes = vec![Change::PutRecord(Box::new(record))];
        if exclusive {
            changes.extend(slots.into_iter().map(|slot| Change::Index(slot, owner.clone())));
        }
        state.apply(&changes)?;
        Ok(())
    }

    /// The mark of the cgroup that a process is in, or of one above it.
    pub(super) fn mark_of(&self, pid: Pid) -> Result<Option<(Mark, CgroupId)>, Error> {
        let Some(hierarchy) = &self.hierarchy else { return Ok(None) };
        let Some(shown) = self.procfs.cgroup(pid)? else { return Ok(None) };
        let mut at = hierarchy.cgroup_of(&shown);
        while let Some(cgroup) = at.filter(|cgroup| !cgroup.is_root()) {
            if let Some(mark) = mark::of(&cgroup)? {
                let id = CgroupId { path: cgroup.path().to_owned(), inode: cgroup.inode()? };
                return Ok(Some((mark, id)));
            }
            at = cgroup.parent();
        }
        Ok(None)
    }
}

/// The changes after which each list of an exclusive pool has its holder's record as its index, and
/// none where it has no holder.
fn index_changes(state: &Update, pool: &Pool<Judged>) -> Result<Vec<Change>, Error> {
    let known = state.records()?;
    let mut changes = Vec::new();
    for list in &pool.lists {
        let slot = Slot::new(&pool.name, &list.name);
        let mut live = list.tasks.tasks.iter().filter(|task| task.is_alive());
        let owner = live.find_map(|task| task.owner.clone());
        match (owner, state.index(&slot, &known)?) {
            (None, Index::None) => {}
            (None, _) => changes.push(Change::ClearIndex(slot)),
            (Some(owner), Index::Known(of))
                if of == owner && !state.is_record_itself(&slot, &owner)? => {}
            (Some(owner), Index::Other(record)) if record.owner == owner => {
                if state.record(&owner)?.is_none() {
                    changes.push(Change::Restore(slot, owner));
                } else {
                    changes.push(Change::Index(slot, owner));
                }
            }
            (Some(owner), _) => changes.push(Change::Index(slot, owner)),
        }
    }
    Ok(changes)
}

fn mended_notices(Mended { slot, damage, put_back, holders }: &Mended) -> Vec<Notice> {
    if let Some(damage) = damage {
        let pids: Vec<String> = holders.iter().map(Pid::to_string).collect();
        let now = match &pids[..] {
            [] => "nobody holds it".to_owned(),
            pids => format!("process {} holds it", pids.join(" and ")),
        };
        let said = format!("wrote tasks of {slot} anew ({now}): {damage}");
        return vec![Notice::warning(said)];
    }
    let put_back = put_back.iter().map(|(pid, owner)| {
        let of = owner.as_ref().map(|owner| format!(" of {owner}")).unwrap_or_default();
        Notice::warning(format!(
            "put process {pid}{of} back into {slot}, which it holds by its record: it was in no tasks \
             file there"
        ))
    });
    put_back.collect()
}

fn two_holders(slot: &Slot, tasks: &[&Task]) -> String {
    let who = tasks.iter().map(|task| match &task.owner {
        Some(owner) => format!("{owner} (process {})", task.pid),
        None => format!("process {}", task.pid),
    });
    let who: Vec<String> = who.collect();
    format!(
        "{slot} has {} holders: {}; end all but one of them, and run kcm reconcile",
        who.len(),
        who.join(" and ")
    )
}

/// Records that were set aside, and could not be written anew; what is left of the others is
/// removed.
fn still_aside(state: &Update) -> Result<Vec<String>, Error> {
    let folder = state.allocations_path();
    let mut said = Vec::new();
    for name in state.aside()? {
        let owner = name.split(".bad").next().and_then(|owner| owner.parse().ok());
        let is_there = |owner: Owner| matches!(state.record(&owner), Ok(Some(_)));
        if owner.is_some_and(is_there) && state.remove_aside(&name).is_ok() {
            continue;
        }
        said.push(format!(
            "{}: a record that could not be read, set aside; whoever holds lists by it can be neither \
             named nor repaired: restart that container, or end it, and then remove the file",
            folder.join(name).display()
        ));
    }
    Ok(said)
}

/// The live tasks with what is known of each.
pub(super) fn live_tasks(pools: &[Pool<Judged>], records: &[Allocation]) -> Vec<Live> {
    let records: BTreeMap<&Owner, &Allocation> =
        records.iter().map(|record| (&record.owner, record)).collect();
    let mut live = Vec::new();
    for pool in pools {
        let bare = cpus_by_pid(pool);
        for list in &pool.lists {
            for task in list.tasks.tasks.iter().filter(|task| task.is_alive()) {
                let record = task.owner.as_ref().and_then(|owner| records.get(owner));
                live.push(Live {
                    pool: pool.name.clone(),
                    list: list.name.clone(),
                    pid: task.pid,
                    record: record.map(|&record| record.clone()),
                    cpus: match record {
                        Some(record) => record.cpus(),
                        None => bare.get(&task.pid).cloned().unwrap_or_default(),
                    },
                });
            }
        }
    }
    live
}

/// All CPUs of a pool whose lists have a PID, for each.
pub(super) fn cpus_by_pid(pool: &Pool<Judged>) -> BTreeMap<Pid, CpuSet> {
    let mut cpus: BTreeMap<Pid, CpuSet> = BTreeMap::new();
    for list in &pool.lists {
        for task in &list.tasks.tasks {
            let its = cpus.entry(task.pid).or_default();
            *its = its.union(list.name.cpus());
        }
    }
    cpus
}
