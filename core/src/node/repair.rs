//! Whoever does not run where it should: found, and its cgroup put right.

use std::time::Duration;

use super::pin::{Binding, Outcome};
use super::{Error, Judge, NoPartition, Node, pin};
use crate::CpuSet;
use crate::allocation::Allocation;
use crate::host::cgroup::{Cgroup, Hierarchy, Version, of_process};
use crate::host::mark::{self, Mark};
use crate::host::partition::{self, State};
use crate::host::scope::{self, Scope};
use crate::partition::Wish;
use crate::pool::{CpuListName, PoolName};
use crate::state::Under;
use crate::task::Pid;

/// Younger than this, a process without a record may not be bound yet: the original kcm writes
/// `tasks` first.
const YOUTH: Duration = Duration::from_secs(20);

/// A live task.
pub(super) struct Live {
    pub(super) pool: PoolName,
    pub(super) list: CpuListName,
    pub(super) pid: Pid,
    pub(super) record: Option<Allocation>,
    /// The CPUs that it should run on.
    pub(super) cpus: CpuSet,
}

/// Where a task may run, as the kernel has it.
pub(super) struct Seen {
    /// Its threads, together.
    threads: CpuSet,
    /// Its cgroup.
    cgroup: Option<CpuSet>,
}

/// A live task that may run elsewhere than on its CPUs.
#[derive(Clone, Debug)]
pub struct Mismatch {
    /// The list's pool.
    pub pool: PoolName,
    /// The list's name as it is spelled.
    pub list: CpuListName,
    /// The task.
    pub pid: Pid,
    /// Where it may run.
    pub actual: CpuSet,
    /// What it holds; none where no record says so.
    pub allocation: Option<Allocation>,
}

/// A live holder whose cgroup was a partition, or was to be one, and is none.
#[derive(Clone, Debug)]
pub struct Lost {
    /// What it holds.
    pub allocation: Allocation,
    /// What the kernel says of its cgroup.
    pub state: State,
}

/// What is right again.
#[derive(Debug)]
pub struct Repaired {
    /// Why it has its CPUs not for itself alone, which it should.
    pub shared: Option<NoPartition>,
}

/// Why a cgroup was not put right.
#[derive(Debug, thiserror::Error)]
pub enum NotRepaired {
    /// Nobody says which cgroup is its own.
    #[error("it has no allocation record with a cgroup: bind it with taskset, or end it")]
    NoCgroup,
    /// The cgroup file system is not here.
    #[error(
        "the host's cgroup file system is not to be seen; mount it and set KCM_CGROUP_FS to that path"
    )]
    NoHierarchy,
    /// It has ended, or was restarted.
    #[error("it has ended or was restarted meanwhile")]
    Changed,
    /// The cgroup of that path is another one now.
    #[error("the cgroup {0} is another than the recorded one; restart the container")]
    NotItsCgroup(String),
    /// It was given its CPUs by kcm 0.1, which left no proof of whose the cgroup is.
    #[error(
        "its record is of kcm 0.1, which does not prove that the cgroup {0} is its own; restart the \
         container"
    )]
    Unproven(String),
    /// Nothing but the record, which others may have written, says whose the cgroup is.
    #[error(
        "nothing proves that the cgroup {cgroup} is its own: the hook's mark on it {found}; restart \
         the container"
    )]
    NotMarked {
        /// The cgroup.
        cgroup: String,
        /// What its mark is.
        found: String,
    },
    /// This process may not look at marks.
    #[error("whose the cgroup {0} is can be seen with CAP_SYS_ADMIN alone; run it as root")]
    Unseen(String),
    /// A cgroup above it lacks CPUs.
    #[error(
        "{above} has no CPUs {missing} any more (cgroup v1 takes a CPU that goes offline out of every group \
         for good), and kcm changes no cgroup but the container's; give them back with: {commands}"
    )]
    ParentLacks {
        /// The topmost that lacks them.
        above: String,
        /// What it lacks.
        missing: CpuSet,
        /// What to type.
        commands: String,
    },
    /// Its process was moved out.
    #[error(
        "its process is in cgroup {now} and no more in its own, {own} (cgroup v1 moves out whom it leaves no \
         CPU); restart the container"
    )]
    MovedOut {
        /// Where it is.
        now: String,
        /// Its own.
        own: String,
    },
    /// The kernel has other CPUs still.
    #[error("after CPUs {cpus} were set it may run on {actual}; see who else sets cpusets here")]
    InVain {
        /// What was set.
        cpus: CpuSet,
        /// What holds.
        actual: CpuSet,
    },
    /// systemd.
    #[error(transparent)]
    Scope(#[from] scope::Error),
    /// The cgroup does not take its CPUs.
    #[error(transparent)]
    Pin(#[from] pin::Error),
    /// The configuration directory, or the kernel's files.
    #[error(transparent)]
    Node(#[from] Error),
}

impl From<crate::state::Error> for NotRepaired {
    fn from(error: crate::state::Error) -> Self {
        Self::Node(error.into())
    }
}

impl From<crate::host::Error> for NotRepaired {
    fn from(error: crate::host::Error) -> Self {
        Self::Node(error.into())
    }
}

impl Seen {
    /// All CPUs that the task may run on.
    pub(super) fn all(&self) -> CpuSet {
        self.cgroup.iter().fold(self.threads.clone(), |all, cgroup| all.union(cgroup))
    }

    /// A program may bind its own threads to some of its CPUs; its cgroup must have them all.
    fn is_right(&self, cpus: &CpuSet) -> bool {
        self.threads.is_subset(cpus) && self.cgroup.as_ref().is_none_or(|cgroup| cgroup == cpus)
    }
}

impl Node {
    /// Whether a live task may run elsewhere than on its CPUs. Not asked of one that is about to be
    /// bound, nor of one that is not to be.
    pub(super) fn mismatch(&self, task: Live) -> Result<Option<Mismatch>, Error> {
        let Live { pool, list, pid, record, cpus } = task;
        if !self.is_settled(pid, record.as_ref())? {
            return Ok(None);
        }
        Ok(match self.seen(pid, record.as_ref())? {
            Some(seen) if !seen.is_right(&cpus) => {
                Some(Mismatch { pool, list, pid, actual: seen.all(), allocation: record })
            }
            _ => None,
        })
    }

    fn is_settled(&self, pid: Pid, record: Option<&Allocation>) -> Result<bool, Error> {
        match record {
            Some(record) if !record.affinity => Ok(false),
            // The hook has the record locked as long as it is at work, `isolate` as long as it lives.
            Some(record) if record.cgroup.is_some() => {
                Ok(!self.conf.unlocked()?.is_held(record)?)
            }
            Some(_) => Ok(true),
            None => {
                let stat = self.procfs.stat(pid)?;
                Ok(stat.is_some_and(|stat| self.procfs.age(stat) >= YOUTH))
            }
        }
    }

    /// Whether a live task has its CPUs no more for itself alone, which it should.
    pub(super) fn lost_partition(&self, task: &Live) -> Result<Option<Lost>, Error> {
        let Some(record) = task.record.as_ref().filter(|record| record.partition.is_some()) else {
            return Ok(None);
        };
        if !self.is_settled(task.pid, Some(record))? {
            return Ok(None);
        }
        let lost = self.lost(record)?;
        Ok(lost.map(|state| Lost { allocation: record.clone(), state }))
    }

    /// A live task's cgroup, if it is to be a partition.
    pub(super) fn partition_to_be(&self, task: &Live) -> Option<Cgroup> {
        let record = task.record.as_ref().filter(|record| record.partition.is_some())?;
        Some(self.hierarchy.as_ref()?.at(record.cgroup_path()?))
    }

    /// What the kernel says of a cgroup that should be a partition and is none that holds.
    fn lost(&self, record: &Allocation) -> Result<Option<State>, Error> {
        let cgroup = record.cgroup_path().zip(self.hierarchy.as_ref());
        let Some((path, hierarchy)) = cgroup.filter(|_| record.partition.is_some()) else {
            return Ok(None);
        };
        let state = hierarchy.at(path).partition()?;
        Ok(state.filter(|state| !matches!(state, State::Valid(_))))
    }

    /// Where a task may run; none where nothing of it is there any more. For an `isolate`, whose own
    /// process keeps off the CPUs that it gives away, where those may run that it has started.
    pub(super) fn seen(
        &self,
        pid: Pid,
        record: Option<&Allocation>,
    ) -> Result<Option<Seen>, Error> {
        let cgroup = record.and_then(Allocation::cgroup_path);
        let cgroup = cgroup.zip(self.hierarchy.as_ref()).map(|(path, all)| all.at(path));
        let pids = match (record.is_some_and(Allocation::is_isolates), &cgroup) {
            (false, _) => vec![pid],
            (true, Some(cgroup)) => cgroup.processes()?,
            (true, None) => self.procfs.descendants(pid),
        };
        let mut threads = CpuSet::new();
        for pid in pids {
            for thread in self.procfs.threads(pid)? {
                if let Some(cpus) = self.procfs.allowed_cpus(pid, thread)? {
                    threads = threads.union(&cpus);
                }
            }
        }
        let cgroup = match cgroup {
            // In this order: of a cgroup that is gone, those of the one above are told.
            Some(cgroup) => Some(cgroup.effective_cpus()?).filter(|_| cgroup.exists()),
            None => None,
        };
        let is_there = !threads.is_empty() || cgroup.is_some();
        Ok(is_there.then_some(Seen { threads, cgroup }))
    }

    /// Has a container's cgroup have its CPUs again, where it has not, and for itself alone where it
    /// was so; its threads are its own. Under the lock, since the container may have been restarted,
    /// with other CPUs, since we looked.
    pub fn repair(&self, allocation: Option<&Allocation>) -> Result<Repaired, NotRepaired> {
        let allocation = allocation.ok_or(NotRepaired::NoCgroup)?;
        if allocation.cgroup.is_none() {
            return Err(NotRepaired::NoCgroup);
        }
        let hierarchy = self.hierarchy.as_ref().ok_or(NotRepaired::NoHierarchy)?;
        let (pid, cpus) = (allocation.process.pid, allocation.cpus());
        self.conf.update(|state| {
            let is_the_same = state.record(&allocation.owner)?.as_ref() == Some(allocation)
                && Judge::new(self, state)?.is_alive(allocation)?;
            if !is_the_same {
                return Err(NotRepaired::Changed);
            }
            let cgroup = self.cgroup_of(hierarchy, allocation)?;
            let mut shared = None;
            if cgroup.effective_cpus()? != cpus || self.lost(allocation)?.is_some() {
                let all = cgroup.processes()?;
                let mut scope =
                    Scope::of(&cgroup, self.conf.deadline(), |at| Ok(at.processes()? == all))?;
                let partition = Wish { kind: allocation.partition, ..Wish::PLAIN };
                let under = Under::Lock(state);
                partition::forget(&cgroup)?;
                let usable = match scope.as_ref().map_or(&cgroup, Scope::cgroup).parent() {
                    Some(above) => Some(above.effective_cpus()?.union(&cgroup.effective_cpus()?)),
                    None => None,
                };
                let usable = usable.as_ref();
                let binding = Binding { partition, under, usable, ..Binding::plain(&cpus) };
                let restricted = pin::restrict(self, &cgroup, scope.as_mut(), binding);
                if restricted.is_err() {
                    lacking(&cgroup, &cpus)?;
                }
                if let Outcome::Shared(why) = restricted? {
                    shared = Some(why);
                }
            }
            match self.seen(pid, Some(allocation))? {
                Some(seen) if seen.is_right(&cpus) => Ok(Repaired { shared }),
                Some(seen) => match self.moved_out(hierarchy, &cgroup, allocation)? {
                    Some(now) => Err(NotRepaired::MovedOut { now, own: cgroup.path().to_owned() }),
                    None => Err(NotRepaired::InVain { cpus: cpus.clone(), actual: seen.all() }),
                },
                None => Err(NotRepaired::Changed),
            }
        })
    }

    /// Where a container's init is, if not in its cgroup or below it. (The process of an `isolate` is
    /// kcm's own, which is never there.)
    fn moved_out(
        &self,
        hierarchy: &Hierarchy,
        own: &Cgroup,
        allocation: &Allocation,
    ) -> Result<Option<String>, Error> {
        if allocation.is_isolates() {
            return Ok(None);
        }
        let now = of_process(hierarchy, &self.procfs, allocation.process.pid)?;
        let elsewhere = now.filter(|now| !own.contains(now));
        Ok(elsewhere.map(|now| now.path().to_owned()))
    }

    /// The recorded cgroup, if it is proven to be the owner's. A record proves nothing: whoever may
    /// write the configuration directory may have written it. The mark does: nobody else can set it.
    pub(super) fn cgroup_of(
        &self,
        hierarchy: &Hierarchy,
        allocation: &Allocation,
    ) -> Result<Cgroup, NotRepaired> {
        let recorded = allocation.cgroup.as_ref().ok_or(NotRepaired::NoCgroup)?;
        let path = || recorded.path.clone();
        let Some(inode) = recorded.inode else { return Err(NotRepaired::Unproven(path())) };
        let cgroup = hierarchy.at(&recorded.path);
        match cgroup.inode()? {
            None => return Err(NotRepaired::Changed),
            Some(now) if now != inode => return Err(NotRepaired::NotItsCgroup(path())),
            Some(_) => {}
        }
        let found = match mark::of(&cgroup)? {
            Some(mark) if mark == Mark::on(allocation) => return Ok(cgroup),
            Some(mark) => format!("says CPUs {} of {}", mark.cpus, mark.owner),
            None if !mark::can_be_seen(&self.procfs) => return Err(NotRepaired::Unseen(path())),
            None => "is not there".to_owned(),
        };
        Err(NotRepaired::NotMarked { cgroup: path(), found })
    }
}

/// An error that names the topmost cgroup above this one that lacks CPUs, and what gives them back.
/// On cgroup v1 the kernel takes a CPU that goes offline out of every group, and puts it back into
/// none (admin-guide/cgroup-v1/cpusets, section 1.4).
fn lacking(cgroup: &Cgroup, cpus: &CpuSet) -> Result<(), NotRepaired> {
    let mut commands = Vec::new();
    let mut topmost = None;
    let mut at = cgroup.parent();
    while let Some(above) = at.filter(|above| !above.is_root()) {
        let has = above.effective_cpus()?;
        let missing = cpus.difference(&has);
        let own = above.own_cpus()?;
        if !missing.is_empty() && (above.version() == Version::V1 || !own.is_empty()) {
            let file = above.folder().join("cpuset.cpus");
            commands.push(format!("echo {} > {}", own.union(cpus), file.display()));
            topmost = Some((above.path().to_owned(), missing));
        }
        at = above.parent();
    }
    commands.reverse();
    match topmost {
        Some((above, missing)) => {
            Err(NotRepaired::ParentLacks { above, missing, commands: commands.join("; ") })
        }
        None => Ok(()),
    }
}
