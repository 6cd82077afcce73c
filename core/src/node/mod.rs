//! A node: its configuration directory together with what the kernel shows of it. Each thing that
//! can be asked of it reads the same way: lock, read, plan, apply.

mod allocate;
mod judge;
mod marks;
mod partition;
pub mod pin;
mod pool_judge;
mod quota;
mod reconcile;
mod repair;
mod said;
mod survey;
pub mod target;

use std::path::PathBuf;

use crate::CpuSet;
use crate::allocation::{Allocation, CgroupId, Owner};
use crate::host::cgroup::Hierarchy;
use crate::host::procfs::{Blind, Procfs};
use crate::host::{self, sysfs};
use crate::notice::Notice;
use crate::partition::{Disallowed, Kind};
use crate::plan::Slot;
use crate::plan::allocate::Refusal;
use crate::plan::reconcile::Forgotten;
pub use crate::plan::reconcile::Reclaimed;
use crate::plan::release::release;
use crate::pool::{Pool, PoolName};
use crate::state::{self, ConfDir, Records, Update};
use crate::task::{Glance, Pid};
pub use allocate::Granted;
use judge::Judge;
use marks::Marks;
pub use partition::{Left, NoPartition};
use pool_judge::PoolJudge;
pub use quota::NotLifted;
pub use reconcile::Reconciled;
pub use repair::{Lost, Mismatch, NotRepaired, Repaired};
use said::forgotten_notice;
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
    /// The shield keeps what the pool has from where this owner is.
    #[error(
        "the shield keeps CPUs {cpus} off {unit}, where nothing has them but as a cpuset partition; start \
         it outside of {unit}, have the pool's containers be partitions where the kernel can (kcm init \
         --partition={pool}=root), or take the shield off (kcm shield off): {refusal}"
    )]
    Shielded {
        /// The systemd unit right below the root.
        unit: String,
        /// The pool's CPUs that it has not.
        cpus: CpuSet,
        /// The pool.
        pool: PoolName,
        /// What it has to give otherwise.
        refusal: Box<Refusal>,
    },
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
    /// The container's annotation and its pool do not agree.
    #[error(transparent)]
    Disallowed(#[from] Disallowed),
    /// The pool requires what this node cannot.
    #[error(
        "pool {pool} requires a cpuset partition ({kind}) for each of its containers, and {why}; choose \
         another pool, or have the administrator take back the word required (kcm init \
         --partition={pool}=auto)"
    )]
    NoPartitions {
        /// The pool.
        pool: PoolName,
        /// Which kind.
        kind: Kind,
        /// What is missing.
        why: &'static str,
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
        // Before the record goes, which alone says where.
        self.give_partition_back(record, notices);
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
