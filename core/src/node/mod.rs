//! A node: its configuration directory together with what the kernel shows of it. Each thing that
//! can be asked of it reads the same way: lock, read, plan, apply.

mod judge;
mod marks;
pub mod pin;
mod pool_judge;
mod reconcile;
mod repair;
mod said;
mod survey;
pub mod target;

use std::num::NonZeroUsize;
use std::path::PathBuf;

use crate::CpuSet;
use crate::allocation::{Allocation, CgroupId, Owner};
use crate::host::cgroup::Hierarchy;
use crate::host::environ;
use crate::host::procfs::{Blind, Procfs};
use crate::host::{self, sysfs};
use crate::notice::Notice;
use crate::plan::allocate::{Nodes, Refusal, Taken, at_a_glance, choose, put, take};
pub use crate::plan::reconcile::Reclaimed;
use crate::plan::reconcile::{Forgotten, Reclaim, reclaim};
use crate::plan::release::release;
use crate::plan::{Change, Slot};
use crate::pool::{Pool, PoolName};
use crate::request::Request;
use crate::state::{self, ConfDir, Contents, Hold, Listing, Memory, Records, Update};
use crate::task::{Glance, Life, Pid};
use judge::Judge;
use marks::Marks;
use pool_judge::PoolJudge;
pub use reconcile::Reconciled;
pub use repair::{Mismatch, NotRepaired};
use said::{damages, forgotten_notice, holders, reclaimed_notices, skipped};
pub use survey::{Nameless, Seeming, Survey};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// A node and where its parts are found.
#[derive(Clone, Debug)]
pub struct Node {
    /// The configuration directory.
    pub conf: ConfDir,
    /// The host's procfs.
    pub procfs: Procfs,
    /// The host's cpuset hierarchy; none where it cannot be seen, so that no container is judged
    /// dead.
    pub hierarchy: Option<Hierarchy>,
    /// The folder that has `sys/`.
    pub sys_root: PathBuf,
}

/// Why a node did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The configuration directory.
    #[error(transparent)]
    State(#[from] state::Error),
    /// The kernel's files.
    #[error(transparent)]
    Host(#[from] host::Error),
    /// The node's topology.
    #[error(transparent)]
    Topology(#[from] sysfs::Error),
    /// Nobody can be judged dead.
    #[error("cannot tell who is alive")]
    Blind(#[from] Blind),
    /// The pool has nothing for this owner.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// What an owner was given is another's by now.
    #[error(
        "{list} was given to {owner}, and to process {other} before that was bound to it: somebody \
         damages files in the configuration directory; start it again"
    )]
    TakenAway {
        /// Which list.
        list: Slot,
        /// Who was given it first.
        owner: Owner,
        /// Who has it now.
        other: Pid,
    },
    /// Another live container has this id.
    #[error(
        "another live container with id {owner} (process {pid}) holds CPUs here; ids must differ, \
         also between runtimes with different --root"
    )]
    OwnerTaken {
        /// The id.
        owner: Owner,
        /// The other's process.
        pid: Pid,
    },
}

/// What an owner was given.
#[derive(Debug)]
pub struct Granted {
    /// Its CPU lists, and the record of them.
    pub allocation: Allocation,
    /// Whether its pool is exclusive.
    pub exclusive: bool,
    /// What its pool says of memory.
    pub memory: Memory,
    /// Until this is dropped others know that the owner is about to be bound; none where it had its
    /// lists already.
    pub hold: Option<Hold>,
}

/// What became of a release.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Released {
    /// The owner's lists are free.
    Freed(Allocation),
    /// There is no such owner.
    Unknown,
    /// The holder is alive: its lists stay with it.
    StillAlive(Allocation),
}

impl Node {
    /// Gives the owner CPU lists of the pool, or those that it has; `notices` gets what an
    /// administrator should hear of, also where nothing is given.
    pub fn allocate(&self, request: &Request, notices: &mut Vec<Notice>) -> Result<Granted, Error> {
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
        self.conf.update(|state| {
            if !state.is_of_boot(&request.process.boot_id)? {
                // Nothing is written into a directory that has no such pool.
                state.pool(&request.pool)?;
                self.enter_boot(state, &request.process.boot_id, notices)?;
            }
            // First, since it may free what an earlier container of this name held.
            let held = self.held_already(state, request, notices)?;
            let Listing { pool, memory, odd } = state.pool(&request.pool)?;
            let exclusive = pool.exclusive;
            if let Some(allocation) = held {
                return Ok(Granted { allocation, exclusive, memory, hold: None });
            }
            let nodes = self.nodes(request.cores)?;
            notices.extend(odd.iter().map(|odd| Notice::warning(odd.to_string())));
            notices.extend(skipped(&pool, request));
            let (lists, mut changes) = match free_at_a_glance(state, &pool, request, &nodes)? {
                Some(lists) => (lists, Vec::new()),
                None => {
                    let judge = self.pool_judge(state, request.cgroup.as_ref(), marks, notices)?;
                    let free = Self::free_by_judgement(&judge, pool, request, &nodes, notices);
                    unsearched.extend(judge.judge.unsearched());
                    free?
                }
            };
            let (allocation, taking) = take(&request.pool, exclusive, &lists, request, now());
            changes.extend(taking);
            let hold = state.apply_and_hold(&changes)?;
            Ok(Granted { allocation, exclusive, memory, hold })
        })
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
        judge.remove_cgroups(&reclaimed, &forgotten);
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

    /// One that knows all records; those that cannot be read are set aside.
    fn pool_judge<'a>(
        &'a self,
        state: &'a Update,
        own: Option<&'a CgroupId>,
        marks: &Marks,
        notices: &mut Vec<Notice>,
    ) -> Result<PoolJudge<'a>, Error> {
        let (records, aside) = readable_records(state)?;
        notices.extend(aside.into_iter().map(|aside| Notice::warning(aside.said)));
        notices.extend(records.too_many(&state.allocations_path()).map(Notice::warning));
        Ok(Judge::new(self, state)?.asked_by(own).after(marks.clone()).knowing(records))
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

    /// Gives back what a dead holder of this name has; a live one keeps it.
    pub fn release(&self, owner: &Owner, notices: &mut Vec<Notice>) -> Result<Released, Error> {
        // Nothing of this owner's: no need to wait for anybody. Its record would have been
        // written by an earlier call for the same container, which has ended.
        if let Ok(None) = self.conf.unlocked()?.record(owner) {
            return Ok(Released::Unknown);
        }
        self.conf.update(|state| {
            let Some(record) = self.readable_record(state, owner, notices)? else {
                return Ok(Released::Unknown);
            };
            if Judge::new(self, state)?.is_alive(&record)? {
                return Ok(Released::StillAlive(record));
            }
            self.free(state, &record, notices)?;
            Ok(Released::Freed(record))
        })
    }

    /// Gives back an allocation just made, though its holder is alive.
    pub fn give_back(
        &self,
        allocation: &Allocation,
        notices: &mut Vec<Notice>,
    ) -> Result<(), Error> {
        self.conf.update(|state| match self.readable_record(state, &allocation.owner, notices)? {
            Some(record) if record.process == allocation.process => {
                self.free(state, &record, notices)
            }
            _ => Ok(()),
        })
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

    fn free(
        &self,
        state: &Update,
        record: &Allocation,
        notices: &mut Vec<Notice>,
    ) -> Result<(), Error> {
        let tasks = self.tasks_of(state, record, notices)?;
        // Another owner's, if that PID is in use again.
        let others = match self.procfs.stat(record.process.pid)? {
            Some(_) => state.records()?.readable,
            None => Vec::new(),
        };
        Ok(state.apply(&release(record, &tasks, &others))?)
    }

    /// The PIDs in each list of a record; none for one that is gone or malformed.
    fn tasks_of(
        &self,
        state: &Update,
        record: &Allocation,
        notices: &mut Vec<Notice>,
    ) -> Result<Vec<Option<Vec<Pid>>>, Error> {
        let tasks =
            record.lists.iter().map(|list| match state.tasks(&Slot::new(&record.pool, list)) {
                Ok(found) => Ok(found),
                Err(error) if error.is_content() => {
                    notices.push(Notice::warning(error.to_string()));
                    Ok(None)
                }
                Err(error) => Err(error.into()),
            });
        tasks.collect()
    }

    /// The owner's record; one that cannot be read is set aside and is none.
    fn readable_record(
        &self,
        state: &Update,
        owner: &Owner,
        notices: &mut Vec<Notice>,
    ) -> Result<Option<Allocation>, Error> {
        match state.record(owner) {
            Ok(record) => Ok(record),
            Err(error) if error.is_content() => {
                notices.push(Notice::warning(set_aside(state, owner, &error)));
                Ok(None)
            }
            Err(error) => Err(error.into()),
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

/// A record that was set aside, and what is to be said of it.
struct Aside {
    owner: Owner,
    said: String,
}

/// All records that can be read; the others are set aside.
fn readable_records(state: &Update) -> Result<(Records, Vec<Aside>), Error> {
    let mut records = state.records()?;
    let mut aside = Vec::new();
    for (owner, error) in std::mem::take(&mut records.unreadable) {
        if !error.is_content() {
            // It may be the record of a container that outlives its init.
            return Err(error.into());
        }
        let said = set_aside(state, &owner, &error);
        aside.push(Aside { owner, said });
    }
    Ok((records, aside))
}

/// What cannot be set aside (a folder stands there) counts as absent all the same.
fn set_aside(state: &Update, owner: &Owner, error: &state::Error) -> String {
    match state.set_aside(owner) {
        Ok(()) => format!("{error}; set aside as {owner}.bad"),
        Err(failure) => format!("{error}; {failure}"),
    }
}

/// The union of a shared pool's CPU lists, as far as `usable` goes: for containers that only fall
/// into the default pool, and hold nothing.
pub fn union_of<T>(pool: &Pool<T>, usable: &CpuSet) -> CpuSet {
    let all = pool.lists.iter().fold(CpuSet::new(), |all, l| all.union(l.name.cpus()));
    all.intersection(usable)
}

fn now() -> String {
    let now = OffsetDateTime::now_utc();
    let seconds = now.replace_nanosecond(0).unwrap_or(now);
    seconds.format(&Rfc3339).unwrap_or_default()
}

/// A pool by name, read without the lock: its lists change at `kcm init` alone.
pub fn pool_as_made(conf: &ConfDir, name: &PoolName) -> Result<Pool<Glance>, state::Error> {
    Ok(conf.unlocked()?.pool(name)?.pool)
}
