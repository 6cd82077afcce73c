//! Who is dead.
//!
//! An owner is dead if its process is (absent, another with its PID, of another boot, or a zombie
//! with no other thread) *and* its cgroup is gone, another of the same path, another owner's by now,
//! or holds no process (a container with the host's PID namespace may outlive its init) or, for an
//! `isolate` without a cgroup, nobody has its record or its index locked, as all do that it started, *and* no
//! process is marked as its ([`super::marks`]). Nobody is judged through a procfs that may hide processes, and no container where the cgroup file system
//! may hide its cgroup. No clock is asked.

use std::cell::RefCell;
use std::collections::HashMap;

use super::marks::Marks;
use super::pool_judge::PoolJudge;
use super::{Error, Node};
use crate::allocation::{Allocation, CgroupId};
use crate::host::environ;
use crate::host::mark::{self, Mark};
use crate::state::{Contents, Records};
use crate::task::{Life, Process};

/// Judges one record at a time, whatever others there are.
pub(super) struct Judge<'a> {
    pub(super) node: &'a Node,
    pub(super) state: &'a Contents,
    pub(super) boot_id: String,
    /// Whether start times can be compared.
    same_clock: bool,
    /// The processes that were looked at.
    seen: RefCell<HashMap<Process, bool>>,
    /// The cgroup of the container that asks: whatever is in it now is not an earlier one's.
    own: Option<&'a CgroupId>,
    /// What was found of marks in the environments of processes.
    marks: Marks,
    /// What was not looked for yet, and has to be.
    unsearched: RefCell<Vec<environ::Mark>>,
}

impl<'a> Judge<'a> {
    /// An error where the host's processes cannot be seen.
    pub(super) fn new(node: &'a Node, state: &'a Contents) -> Result<Self, Error> {
        node.procfs.sees_the_host()?;
        let (boot_id, same_clock) = (node.procfs.boot_id()?, node.procfs.clock_is_the_hosts());
        let (marks, seen, unsearched) = (Marks::default(), RefCell::default(), RefCell::default());
        Ok(Self { node, state, boot_id, same_clock, seen, own: None, marks, unsearched })
    }

    /// On behalf of a container that is alone in its cgroup.
    pub(super) fn asked_by(self, own: Option<&'a CgroupId>) -> Self {
        Self { own, ..self }
    }

    /// After these marks were looked for.
    pub(super) fn after(self, marks: Marks) -> Self {
        Self { marks, ..self }
    }

    /// The marks that it would have to know about to judge all that it was asked.
    pub(super) fn unsearched(&self) -> Vec<environ::Mark> {
        self.unsearched.take()
    }

    /// With all records before it, so that it can tell whose PIDs are whose.
    pub(super) fn knowing(self, records: Records) -> PoolJudge<'a> {
        PoolJudge::new(self, records)
    }

    /// Whether anything of a holder is alive.
    pub(super) fn is_alive(&self, record: &Allocation) -> Result<bool, Error> {
        // Nothing outlives a boot; what has its cgroup's name now is somebody else.
        if record.process.boot_id != self.boot_id {
            return Ok(false);
        }
        if self.is_running(&record.process)? {
            return Ok(true);
        }
        let Some(cgroup) = &record.cgroup else {
            return Ok(self.state.is_held(record)? || self.may_be_marked(record));
        };
        if self.own.is_some_and(|own| is_the_same(own, cgroup)) {
            return Ok(false);
        }
        let Some(hierarchy) = self.node.hierarchy.as_ref().filter(|h| h.is_whole()) else {
            return Ok(true);
        };
        let now = hierarchy.at(&cgroup.path);
        let Some(inode) = now.inode()? else { return Ok(false) };
        if cgroup.inode.is_some_and(|recorded| recorded != inode) {
            return Ok(false);
        }
        // A later container's in the same folder.
        if mark::of(&now)?.is_some_and(|mark| mark.owner != record.owner) {
            return Ok(false);
        }
        Ok(now.is_populated()?)
    }

    fn is_running(&self, process: &Process) -> Result<bool, Error> {
        if let Some(&is_running) = self.seen.borrow().get(process) {
            return Ok(is_running);
        }
        let is_running = self.node.procfs.is_alive(process, self.same_clock)?;
        self.seen.borrow_mut().insert(process.clone(), is_running);
        Ok(is_running)
    }

    /// Whether some process is marked as started by an `isolate`; so it is for now where nobody has
    /// looked yet, which takes too long under the lock.
    fn may_be_marked(&self, record: &Allocation) -> bool {
        let Some(mark) = environ::Mark::of(record) else { return false };
        self.marks.may_be_somewhere(&mark).unwrap_or_else(|| {
            self.unsearched.borrow_mut().push(mark);
            true
        })
    }

    /// What became of a holder of which no `tasks` tells.
    pub(super) fn life(&self, record: &Allocation) -> Result<Life, Error> {
        Ok(match self.is_alive(record)? {
            false => Life::Dead,
            true if self.is_bound(record)? => Life::Alive,
            true => Life::NeverBound,
        })
    }

    /// Whether a live holder came to its CPUs, or somebody is about to bring it there. The hook
    /// marks a cgroup when it has bound it, and has the record locked until it ends.
    fn is_bound(&self, record: &Allocation) -> Result<bool, Error> {
        // In this order: a hook that has ended has bound its container, or never will.
        if self.state.is_held(record)? {
            return Ok(true);
        }
        let (Some(cgroup), Some(hierarchy)) = (&record.cgroup, &self.node.hierarchy) else {
            return Ok(true);
        };
        let now = hierarchy.at(&cgroup.path);
        if mark::of(&now)?.is_some_and(|mark| mark == Mark::on(record)) {
            return Ok(true);
        }
        if !mark::can_be_seen(&self.node.procfs) {
            return Ok(true);
        }
        // kcm 0.1 left no mark.
        if cgroup.inode.is_some() {
            return Ok(false);
        }
        let seen = self.node.seen(record.process.pid, Some(record))?;
        Ok(seen.is_some_and(|seen| seen.all() == record.cpus()))
    }
}

fn is_the_same(own: &CgroupId, recorded: &CgroupId) -> bool {
    own.path == recorded.path
        && (own.inode == recorded.inode || own.inode.is_none() || recorded.inode.is_none())
}
