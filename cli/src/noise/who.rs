//! Whose a thread is: an owner's of the CPU that it runs on, or somebody else's.

use std::collections::{HashMap, HashSet};

use kcm_core::CpuSet;
use kcm_core::host::cgroup::{Hierarchy, Place};
use kcm_core::host::procfs::Procfs;
use kcm_core::host::threads::{self, Identity};
use kcm_core::task::Pid;

/// Who holds CPUs.
#[derive(Clone, Debug)]
pub(super) struct Holder {
    /// For people.
    pub(super) name: String,
    pub(super) cpus: CpuSet,
    /// The path of its cgroup: whatever is in it or below is its own.
    pub(super) cgroup: Option<String>,
    /// Where it has none: these processes, and their descendants.
    pub(super) processes: HashSet<Pid>,
}

/// Whom the threads are that were seen.
pub(super) struct Who {
    procfs: Procfs,
    hierarchy: Option<Hierarchy>,
    holders: Vec<Holder>,
    seen: HashMap<i32, Option<Identity>>,
    /// Whom the processes descended from when they were seen: later they may have ended, or been
    /// given another parent.
    ancestors: HashMap<Pid, HashSet<Pid>>,
}

/// So many are looked at.
const THREADS: usize = 1 << 15;

/// A process's ancestors, at the most.
const DEPTH: usize = 64;

impl Who {
    pub(super) fn new(procfs: Procfs, hierarchy: Option<Hierarchy>, holders: Vec<Holder>) -> Self {
        Self { procfs, hierarchy, holders, seen: HashMap::new(), ancestors: HashMap::new() }
    }

    /// Looks at a thread as long as it is there, unless it was looked at before.
    pub(super) fn look(&mut self, thread: i32) {
        if self.seen.len() < THREADS && thread > 0 && !self.seen.contains_key(&thread) {
            let found = Pid::try_from(thread).ok();
            let found = found.and_then(|id| threads::identity(&self.procfs, id).ok().flatten());
            if let Some(process) = found.as_ref().map(|found| found.process) {
                self.trace_back(process);
            }
            self.seen.insert(thread, found);
        }
    }

    /// Takes note of a process's ancestors, where a holder is known by nothing else.
    fn trace_back(&mut self, process: Pid) {
        if self.holders.iter().all(|holder| holder.cgroup.is_some()) && self.hierarchy.is_some() {
            return;
        }
        let ancestors = self.ancestors.entry(process).or_default();
        let mut next = process;
        for _ in 0..DEPTH {
            ancestors.insert(next);
            match self.procfs.parent(next) {
                Ok(Some(parent)) if parent != next => next = parent,
                _ => return,
            }
        }
    }

    /// Looks once more at those that are still there: who was just made when it was looked at may be
    /// in its own cgroup, under its own name, by now.
    pub(super) fn look_again(&mut self) {
        for (&thread, known) in &mut self.seen {
            let found = Pid::try_from(thread).ok();
            let found = found.and_then(|id| threads::identity(&self.procfs, id).ok().flatten());
            if found.is_some() {
                *known = found;
            }
        }
    }

    /// Who a thread is, if it was there when it was looked at.
    pub(super) fn identity(&self, thread: i32) -> Option<&Identity> {
        self.seen.get(&thread)?.as_ref()
    }

    /// The owner of a CPU that a thread is of; none: it is foreign there. `parents` says who made
    /// whom, for those that had ended before anybody could look.
    pub(super) fn owner(
        &self,
        cpu: u32,
        thread: i32,
        parents: &HashMap<i32, i32>,
    ) -> Option<&Holder> {
        let mut thread = thread;
        for _ in 0..DEPTH {
            match self.identity(thread) {
                Some(found) => return self.holder_of(cpu, found),
                None => thread = *parents.get(&thread)?,
            }
        }
        None
    }

    fn holder_of(&self, cpu: u32, found: &Identity) -> Option<&Holder> {
        if found.is_kernels {
            return None;
        }
        let mut here = self.holders.iter().filter(|holder| holder.cpus.contains(cpu));
        here.find(|holder| match (&holder.cgroup, &self.hierarchy) {
            (Some(cgroup), Some(hierarchy)) => {
                hierarchy.place(cgroup, &found.cgroup) != Place::Outside
            }
            _ => self.descends(found.process, &holder.processes),
        })
    }

    /// Whether a process is one of these, or descended from one when it was seen.
    fn descends(&self, process: Pid, from: &HashSet<Pid>) -> bool {
        self.ancestors.get(&process).is_some_and(|ancestors| !ancestors.is_disjoint(from))
    }

    /// The names of those that hold a CPU.
    pub(super) fn holders(&self, cpu: u32) -> Vec<String> {
        let here = self.holders.iter().filter(|holder| holder.cpus.contains(cpu));
        here.map(|holder| holder.name.clone()).collect()
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods)]
mod tests {
    use super::*;

    fn own() -> Pid {
        Pid::try_from(std::process::id() as i32).unwrap()
    }

    fn holder(cpus: &str, cgroup: Option<&str>, processes: &[Pid]) -> Holder {
        let (cpus, cgroup) = (cpus.parse().unwrap(), cgroup.map(str::to_owned));
        Holder {
            name: cgroup.clone().unwrap_or_default(),
            cpus,
            cgroup,
            processes: processes.iter().copied().collect(),
        }
    }

    #[test]
    fn a_child_is_its_ancestors_and_one_that_has_ended_is_its_makers() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let pid = child.id() as i32;
        let mut who = Who::new(Procfs::new("/proc"), None, vec![holder("3", None, &[own()])]);
        who.look(pid);
        // What it was when it was seen counts.
        child.kill().unwrap();
        child.wait().unwrap();
        let parents = HashMap::from([(-1, pid), (-2, -1), (-3, -3)]);
        assert!(who.identity(pid).is_some());
        for (cpu, thread, expected) in [
            (3, pid, true),
            (4, pid, false),
            (3, -1, true),
            (3, -2, true),
            (3, -3, false),
            (3, -4, false),
        ] {
            assert_eq!(who.owner(cpu, thread, &parents).is_some(), expected, "{cpu} {thread}");
        }
        assert_eq!(who.holders(3).len(), 1);
        assert!(who.holders(4).is_empty());
    }

    #[test]
    fn what_is_in_an_owners_cgroup_is_its_own_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("cgroup.controllers"), "cpuset\n").unwrap();
        let hierarchy = Hierarchy::find(folder.path(), "0::/init.scope\n").unwrap();
        let holders = vec![holder("3", Some("/a.slice/x.scope"), &[own()])];
        let mut who = Who::new(Procfs::new("/proc"), Some(hierarchy), holders);
        for (thread, cgroup, is_kernels, expected) in [
            (1, "0::/a.slice/x.scope\n", false, true),
            (2, "0::/a.slice/x.scope/container\n", false, true),
            (3, "0::/a.slice/x.scope.evil\n", false, false),
            (4, "0::/a.slice\n", false, false),
            (5, "0::/a.slice/x.scope\n", true, false),
        ] {
            let cgroup = cgroup.to_owned();
            let found = Identity { name: "x".into(), process: own(), is_kernels, cgroup };
            who.seen.insert(thread, Some(found));
            let is_owners = who.owner(3, thread, &HashMap::new()).is_some();
            assert_eq!(is_owners, expected, "{thread}");
        }
    }
}
