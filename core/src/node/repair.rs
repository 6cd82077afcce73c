//! Whoever does not run where it should: found, and its cgroup put right.

use std::time::{Duration, SystemTime};

use super::{Error, Judge, Node};
use crate::CpuSet;
use crate::allocation::{Allocation, Owner};
use crate::host::cgroup::{Cgroup, Hierarchy, Place};
use crate::host::scope::{self, Scope};
use crate::pool::{CpuListName, PoolName};
use crate::task::Pid;

/// The time limit that `kcm install` gives the hook: until then a container may not be pinned yet.
const HOOKS_TIMEOUT: Duration = Duration::from_secs(20);

/// A live task.
pub(super) struct Live {
    pub(super) pool: PoolName,
    pub(super) list: CpuListName,
    pub(super) pid: Pid,
    pub(super) record: Option<Allocation>,
    /// The CPUs that it should run on.
    pub(super) cpus: CpuSet,
    /// When its list's `tasks` was last written, where no record says more.
    pub(super) since: Option<SystemTime>,
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
    /// The process is in another cgroup than the record says.
    #[error("its process is not in the recorded cgroup {0}, or not alone there; end it")]
    NotItsCgroup(String),
    /// The process is in no container.
    #[error("it is in no container; bind it with taskset, or end it")]
    NoContainer,
    /// The kernel has other CPUs still.
    #[error("after CPUs {cpus} were set it may run on {actual}; see who else sets cpusets here")]
    InVain {
        /// What was set.
        cpus: CpuSet,
        /// What holds.
        actual: CpuSet,
    },
    /// systemd or the cgroup file system.
    #[error(transparent)]
    Scope(#[from] scope::Error),
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
    /// Whether a live task may run elsewhere than on its CPUs. Not asked of one that is younger
    /// than the hook's time limit, nor of one that is not to be bound.
    pub(super) fn mismatch(&self, task: Live) -> Result<Option<Mismatch>, Error> {
        let Live { pool, list, pid, record, cpus, since } = task;
        let is_settled = match &record {
            Some(record) => record.affinity && !is_young(record.created()),
            None => !is_young(since),
        };
        if !is_settled {
            return Ok(None);
        }
        let cgroup = record.as_ref().and_then(|record| record.cgroup.as_deref());
        Ok(match self.seen(pid, cgroup)? {
            Some(seen) if !seen.is_right(&cpus) => {
                Some(Mismatch { pool, list, pid, actual: seen.all(), allocation: record })
            }
            _ => None,
        })
    }

    /// Where a task may run; none where nothing of it is there any more.
    pub(super) fn seen(&self, pid: Pid, cgroup: Option<&str>) -> Result<Option<Seen>, Error> {
        let mut threads = CpuSet::new();
        for thread in self.procfs.threads(pid)? {
            if let Some(cpus) = self.procfs.allowed_cpus(pid, thread)? {
                threads = threads.union(&cpus);
            }
        }
        let cgroup = cgroup.zip(self.hierarchy.as_ref()).map(|(path, all)| all.at(path));
        let cgroup = match cgroup {
            // In this order: of a cgroup that is gone, those of the one above are told.
            Some(cgroup) => Some(cgroup.effective_cpus()?).filter(|_| cgroup.exists()),
            None => None,
        };
        let is_there = !threads.is_empty() || cgroup.is_some();
        Ok(is_there.then_some(Seen { threads, cgroup }))
    }

    /// Has a container's cgroup have its CPUs again, where it has not; its threads are its own.
    /// Under the lock, since the container may have been restarted, with other CPUs, since we
    /// looked.
    pub fn repair(&self, mismatch: &Mismatch) -> Result<(), NotRepaired> {
        let allocation = mismatch.allocation.as_ref().ok_or(NotRepaired::NoCgroup)?;
        let path = allocation.cgroup.as_deref().ok_or(NotRepaired::NoCgroup)?;
        let hierarchy = self.hierarchy.as_ref().ok_or(NotRepaired::NoHierarchy)?;
        let (pid, cpus) = (allocation.process.pid, allocation.cpus());
        self.conf.update(|state| {
            let is_in = |list: &CpuListName| match state.tasks(&allocation.pool, list.as_str()) {
                Ok(tasks) => tasks.is_some_and(|(pids, _)| pids.contains(&pid)),
                Err(_) => false,
            };
            let is_the_same = state.record(&allocation.owner)?.as_ref() == Some(allocation)
                && allocation.lists.iter().all(is_in)
                && Judge::new(self, state)?.is_alive(allocation, None)?;
            if !is_the_same {
                return Err(NotRepaired::Changed);
            }
            let cgroup = self.cgroup_of_container(hierarchy, allocation, path)?;
            if cgroup.effective_cpus()? != cpus {
                let all = cgroup.processes()?;
                if let Some(mut scope) = Scope::of(&cgroup, |at| Ok(at.processes()? == all))? {
                    // First, because systemd writes its own value back on any reload.
                    scope.set_cpus(&cpus, None)?;
                }
                cgroup.set_cpus(&cpus)?;
            }
            match self.seen(pid, Some(path))? {
                Some(seen) if seen.is_right(&cpus) => Ok(()),
                Some(seen) => Err(NotRepaired::InVain { cpus: cpus.clone(), actual: seen.all() }),
                None => Err(NotRepaired::Changed),
            }
        })
    }

    /// The recorded cgroup, if it is that of the process, and of a container: a record may have
    /// been written by whoever may write the configuration directory.
    fn cgroup_of_container(
        &self,
        hierarchy: &Hierarchy,
        allocation: &Allocation,
        path: &str,
    ) -> Result<Cgroup, NotRepaired> {
        let pid = allocation.process.pid;
        let proc_cgroup = self.procfs.cgroup(pid)?.ok_or(NotRepaired::Changed)?;
        let cgroup = hierarchy.at(path);
        let is_its_own = match hierarchy.place(path, &proc_cgroup) {
            Place::In => true,
            // Its init may have moved below; but then it must bear the container's name, as a
            // group of containers does not, and nobody else may be there.
            Place::Below => {
                is_named_after(&cgroup, &allocation.owner)
                    && self.are_all_with(pid, &cgroup.processes()?)?
            }
            Place::Outside => false,
        };
        if !is_its_own {
            return Err(NotRepaired::NotItsCgroup(path.to_owned()));
        }
        if !self.procfs.is_in_container(pid)? {
            return Err(NotRepaired::NoContainer);
        }
        Ok(cgroup)
    }

    /// Whether all these processes are in the PID namespace of one; with the host's, that says
    /// nothing.
    fn are_all_with(&self, pid: Pid, all: &[Pid]) -> Result<bool, Error> {
        let its = self.procfs.pid_namespace(pid)?;
        for &other in all {
            if self.procfs.pid_namespace(other)? != its {
                return Ok(false);
            }
        }
        Ok(!self.procfs.is_in_the_hosts_pid_namespace(pid)?)
    }
}

/// Whether a cgroup, or the one above it (crun's `container` in a scope), has an owner's id in its
/// name, as runtimes and engines make them.
fn is_named_after(cgroup: &Cgroup, owner: &Owner) -> bool {
    cgroup.path().rsplit('/').take(2).any(|name| name.contains(owner.as_ref()))
}

/// Whether something is younger than the hook's time limit. What is of the future is not: the
/// clock was set.
fn is_young(since: Option<SystemTime>) -> bool {
    let age = since.and_then(|since| SystemTime::now().duration_since(since).ok());
    age.is_some_and(|age| age < HOOKS_TIMEOUT)
}
