//! Who is dead.
//!
//! An owner is dead if its process is (absent, another with its PID, of another boot, or a zombie
//! with no other thread) *and* its container's cgroup is gone or holds no process (a container with
//! the host's PID namespace may outlive its init) or, for `isolate`, nobody has its record locked,
//! as all do that it started. Nobody is judged through a procfs that may hide
//! processes, and no container where the cgroup file system may hide its cgroup.

use std::time::{Duration, SystemTime};

use nix::time::{ClockId, clock_gettime};

use super::{Error, Node};
use crate::allocation::Allocation;
use crate::pool::{Pool, PoolName};
use crate::state::Contents;
use crate::task::{Pid, Task, Tasks};

pub(super) struct Judge<'a> {
    node: &'a Node,
    state: &'a Contents,
    boot_id: String,
    booted: SystemTime,
    records: Vec<Allocation>,
}

impl<'a> Judge<'a> {
    /// An error where the host's processes cannot be seen.
    pub(super) fn new(node: &'a Node, state: &'a Contents) -> Result<Self, Error> {
        node.procfs.sees_the_host()?;
        let boot_id = node.procfs.boot_id()?;
        Ok(Self { node, state, boot_id, booted: booted(), records: Vec::new() })
    }

    /// Has it know whose PIDs are whose.
    pub(super) fn know(&mut self, records: Vec<Allocation>) {
        self.records = records;
    }

    /// Whether a holder is alive. `own_cgroup` is that of the container that asks: whatever is in
    /// it now is not an earlier container of the same name.
    pub(super) fn is_alive(
        &self,
        record: &Allocation,
        own_cgroup: Option<&str>,
    ) -> Result<bool, Error> {
        // Nothing outlives a boot; what has its cgroup's name now is somebody else.
        if record.process.boot_id != self.boot_id {
            return Ok(false);
        }
        if self.node.procfs.is_alive(&record.process)? {
            return Ok(true);
        }
        match (record.cgroup.as_deref(), &self.node.hierarchy) {
            (None, _) => Ok(self.state.is_held(&record.owner)?),
            (Some(path), _) if Some(path) == own_cgroup => Ok(false),
            (Some(path), Some(hierarchy)) if hierarchy.is_whole() => {
                Ok(hierarchy.at(path).is_populated()?)
            }
            (Some(_), _) => Ok(true),
        }
    }

    /// Reads and judges every list of a pool that nobody has looked into.
    pub(super) fn pool(&self, mut pool: Pool) -> Result<Pool, Error> {
        for list in &mut pool.lists {
            if list.tasks != Tasks::Unread {
                continue;
            }
            list.tasks = match self.state.tasks(&pool.name, list.name.as_str()) {
                Ok(None) => Tasks::Empty,
                Ok(Some((pids, written))) => Tasks::Judged(
                    pids.into_iter()
                        .map(|pid| self.task(&pool.name, list.name.as_str(), pid, written))
                        .collect::<Result<_, Error>>()?,
                ),
                Err(error) => Tasks::Malformed(error.to_string()),
            };
        }
        Ok(pool)
    }

    /// Judges a PID in a list's `tasks`, which was last written at `written`. One without a record
    /// (the original kcm's, or somebody's hand) is alive while it exists, unless it is of an
    /// earlier boot.
    fn task(
        &self,
        pool: &PoolName,
        list: &str,
        pid: Pid,
        written: SystemTime,
    ) -> Result<Task, Error> {
        let mut owner = None;
        for record in self.records.iter().filter(|record| record.holds(pool, list, pid)) {
            owner = Some(record.owner.clone());
            if self.is_alive(record, None)? {
                return Ok(Task { pid, owner, alive: true });
            }
        }
        let alive = owner.is_none() && written >= self.booted && {
            let stat = self.node.procfs.stat(pid)?;
            stat.is_some()
        };
        Ok(Task { pid, owner, alive })
    }
}

/// When this boot began: now, less what has passed since (clock_gettime(2), CLOCK_BOOTTIME).
fn booted() -> SystemTime {
    let up = clock_gettime(ClockId::CLOCK_BOOTTIME).map_or(Duration::ZERO, Duration::from);
    SystemTime::now().checked_sub(up).unwrap_or(SystemTime::UNIX_EPOCH)
}
