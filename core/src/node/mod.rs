//! A node: its configuration directory together with what the kernel shows of it. Each thing that
//! can be asked of it reads the same way: lock, read, plan, apply.

mod judge;
mod reconcile;
mod repair;

use std::num::NonZeroUsize;
use std::path::PathBuf;

use crate::allocation::{Allocation, Owner};
use crate::host::cgroup::Hierarchy;
use crate::host::procfs::{Blind, Procfs};
use crate::host::{self, sysfs};
use crate::notice::Notice;
use crate::plan::allocate::{Choice, Nodes, Refusal, choose, skip_reason, take};
pub use crate::plan::reconcile::Reclaimed;
use crate::plan::reconcile::reclaim;
use crate::plan::release::release;
use crate::pool::{Pool, PoolName};
use crate::request::Request;
use crate::state::{self, ConfDir, Listing, Memory, Records, Update};
use crate::task::{Pid, Tasks};
use judge::Judge;
pub use reconcile::Reconciled;
pub use repair::{Mismatch, NotRepaired};
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
#[derive(Clone, Debug)]
pub struct Granted {
    /// Its CPU lists, and the record of them.
    pub allocation: Allocation,
    /// Whether its pool is exclusive.
    pub exclusive: bool,
    /// What its pool says of memory.
    pub memory: Memory,
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
        self.conf.update(|state| {
            // First, since it may free what an earlier container of this name held.
            let held = self.held_already(state, request, notices)?;
            let Listing { mut pool, memory, odd } = state.pool(&request.pool)?;
            let exclusive = pool.exclusive;
            if let Some(allocation) = held {
                return Ok(Granted { allocation, exclusive, memory });
            }
            let nodes = self.nodes(request.cores)?;
            notices.extend(odd.iter().map(|odd| Notice::warning(odd.to_string())));
            notices.extend(skipped(&pool, request));
            let mut choice = choose(&pool, request, &nodes)?;
            let (mut changes, mut reclaimed) = (Vec::new(), Vec::new());
            if choice == Choice::LookCloser {
                (pool, changes, reclaimed) = reclaim(self.look_into(state, pool, notices)?);
                choice = choose(&pool, request, &nodes)
                    .inspect_err(|_| notices.extend(holders(&pool)))?;
            }
            let chosen = match choice {
                Choice::Take(lists) => lists,
                // Everything was looked into.
                Choice::LookCloser => Vec::new(),
            };
            let (allocation, taking) = take(&pool, &chosen, request, now());
            changes.extend(taking);
            match request.cgroup {
                Some(_) => state.apply(&changes)?,
                None => state.apply_and_hold(&changes)?,
            }
            notices.extend(reclaimed.iter().map(reclaimed_notice));
            Ok(Granted { allocation, exclusive, memory })
        })
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
            if Judge::new(self, state)?.is_alive(&record, None)? {
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
        } else if tasks.iter().any(holding)
            && Judge::new(self, state)?.is_alive(&record, request.cgroup.as_deref())?
        {
            let (owner, pid) = (request.owner.clone(), record.process.pid);
            return Err(Error::OwnerTaken { owner, pid });
        }
        self.free(state, &record, notices)?;
        Ok(None)
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
            record.lists.iter().map(|list| match state.tasks(&record.pool, list.as_str()) {
                Ok(found) => Ok(found.map(|(pids, _)| pids)),
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

    /// Reads and judges every list that nobody has looked into.
    fn look_into(
        &self,
        state: &Update,
        pool: Pool,
        notices: &mut Vec<Notice>,
    ) -> Result<Pool, Error> {
        let (records, aside) = readable_records(state)?;
        notices.extend(aside.into_iter().map(Notice::warning));
        let mut judge = Judge::new(self, state)?;
        judge.know(records);
        let known: Vec<String> = malformed(&pool).collect();
        let pool = judge.pool(pool)?;
        let new = malformed(&pool).filter(|cause| !known.contains(cause));
        notices.extend(new.map(Notice::warning));
        Ok(pool)
    }

    fn nodes(&self, cores: NonZeroUsize) -> Result<Nodes, Error> {
        match cores.get() {
            1 => Ok(Nodes::new()),
            _ => Ok(sysfs::numa_nodes(&self.sys_root)?),
        }
    }
}

/// All records that can be read; the others are set aside, and said to be.
fn readable_records(state: &Update) -> Result<(Vec<Allocation>, Vec<String>), Error> {
    let Records { readable, unreadable } = state.records()?;
    let mut aside = Vec::new();
    for (owner, error) in unreadable {
        if !error.is_content() {
            // It may be the record of a container that outlives its init.
            return Err(error.into());
        }
        aside.push(set_aside(state, &owner, &error));
    }
    Ok((readable, aside))
}

/// What cannot be set aside (a folder stands there) counts as absent all the same.
fn set_aside(state: &Update, owner: &Owner, error: &state::Error) -> String {
    match state.set_aside(owner) {
        Ok(()) => format!("{error}; set aside as {owner}.bad"),
        Err(failure) => format!("{error}; {failure}"),
    }
}

/// Why lists of a pool are out of use.
fn malformed(pool: &Pool) -> impl Iterator<Item = String> {
    pool.lists.iter().filter_map(|list| match &list.tasks {
        Tasks::Malformed(cause) => Some(cause.clone()),
        _ => None,
    })
}

fn skipped(pool: &Pool, request: &Request) -> Vec<Notice> {
    let reasons = pool.lists.iter().filter_map(|list| {
        let reason = skip_reason(list, &request.usable)?;
        Some(Notice::warning(format!(
            "skipping CPU list {list} of pool {pool}: {reason}",
            list = list.name,
            pool = pool.name
        )))
    });
    reasons.collect()
}

fn reclaimed_notice(Reclaimed { pool, list, pid, owner }: &Reclaimed) -> Notice {
    let owner = owner.as_ref().map(|owner| format!(" of {owner}")).unwrap_or_default();
    Notice::warning(format!(
        "reclaimed CPU list {list} of pool {pool}: process {pid}{owner} is dead"
    ))
}

/// Who holds a pool's lists: for the log alone, since it names other tenants' containers.
fn holders(pool: &Pool) -> Option<Notice> {
    let held = pool.lists.iter().filter_map(|list| match &list.tasks {
        Tasks::Judged(tasks) => {
            let who = tasks.iter().map(|task| match &task.owner {
                Some(owner) => format!("{owner} (process {})", task.pid),
                None => format!("process {}", task.pid),
            });
            let who: Vec<String> = who.collect();
            (!who.is_empty()).then(|| format!("{} by {}", list.name, who.join(" and ")))
        }
        _ => None,
    });
    let held: Vec<String> = held.collect();
    let text = || format!("held in pool {}: {}", pool.name, held.join("; "));
    (!held.is_empty()).then(|| Notice::confidential(text()))
}

/// The union of a shared pool's CPU lists, as far as `usable` goes: for containers that only fall
/// into the default pool, and hold nothing.
pub fn union_of(pool: &Pool, usable: &crate::CpuSet) -> crate::CpuSet {
    let all = pool.lists.iter().fold(crate::CpuSet::new(), |all, l| all.union(l.name.cpus()));
    all.intersection(usable)
}

fn now() -> String {
    let now = OffsetDateTime::now_utc();
    let seconds = now.replace_nanosecond(0).unwrap_or(now);
    seconds.format(&Rfc3339).unwrap_or_default()
}

/// A pool by name, read without the lock: its lists change at `kcm init` alone.
pub fn pool_as_made(conf: &ConfDir, name: &PoolName) -> Result<Pool, state::Error> {
    Ok(conf.unlocked()?.pool(name)?.pool)
}
