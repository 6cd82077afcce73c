//! Giving back what the dead hold, and making records and `tasks` agree.

use std::collections::{BTreeMap, BTreeSet};

use crate::allocation::Owner;
use crate::plan::{Change, Slot};
use crate::pool::{Pool, PoolName};
use crate::task::{Judged, Life, Pid, Task, TasksFile};

/// A dead task that was taken out of a CPU list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reclaimed {
    /// The list's pool.
    pub pool: PoolName,
    /// The list's name as it is spelled.
    pub list: String,
    /// The process that is dead.
    pub pid: Pid,
    /// Whose it was, where a record says so.
    pub owner: Option<Owner>,
}

/// A record that held nothing, and was removed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Forgotten {
    /// Whose it was.
    pub owner: Owner,
    /// Its process.
    pub pid: Pid,
    /// What became of that.
    pub life: Life,
}

/// A pool without its dead.
#[derive(Debug)]
pub struct Reclaim {
    /// The pool as it is when the changes are made.
    pub pool: Pool<Judged>,
    /// What frees it of them.
    pub changes: Vec<Change>,
    /// Who they were.
    pub reclaimed: Vec<Reclaimed>,
    /// Records of holders that were in no `tasks`.
    pub forgotten: Vec<Forgotten>,
}

/// Frees a pool of the dead, and of those that were never bound.
pub fn reclaim(pool: Pool<Judged>) -> Reclaim {
    let Pool { name, exclusive, mut lists } = pool;
    let (mut changes, mut indexes, mut reclaimed) = (Vec::new(), Vec::new(), Vec::new());
    let mut unwritten: BTreeMap<Owner, Forgotten> = BTreeMap::new();
    let (mut gone, mut living) = (BTreeSet::new(), BTreeSet::new());
    for list in &mut lists {
        let slot = || Slot::new(&name, &list.name);
        let (live, ended): (Vec<Task>, Vec<Task>) =
            list.tasks.tasks.drain(..).partition(Task::is_alive);
        living.extend(live.iter().filter_map(|task| task.owner.clone()));
        if ended.iter().any(|task| task.is_written)
            && let TasksFile::Pids(pids) = &mut list.tasks.file
        {
            *pids = live.iter().map(|task| task.pid).collect();
            changes.push(Change::SetTasks(slot(), pids.clone()));
        }
        for Task { pid, owner, life, is_written } in ended {
            if let Some(owner) = &owner {
                gone.insert(owner.clone());
                // Whoever lives needs one, be it another's: so the list is looked at closely.
                if live.is_empty() {
                    indexes.push(Change::RemoveIndex(slot(), owner.clone()));
                }
            }
            match (is_written, owner) {
                (true, owner) => {
                    let (pool, list) = (name.clone(), list.name.to_string());
                    reclaimed.push(Reclaimed { pool, list, pid, owner });
                }
                (false, Some(owner)) => {
                    unwritten.insert(owner.clone(), Forgotten { owner, pid, life });
                }
                (false, None) => {}
            }
        }
        list.tasks.tasks = live;
    }
    changes.append(&mut indexes);
    let gone = gone.difference(&living).cloned();
    changes.extend(gone.map(Change::RemoveRecord));
    let is_told = |owner: &Owner| {
        living.contains(owner) || reclaimed.iter().any(|r| r.owner.as_ref() == Some(owner))
    };
    let forgotten = unwritten.into_values().filter(|f| !is_told(&f.owner)).collect();
    Reclaim { pool: Pool { name, exclusive, lists }, changes, reclaimed, forgotten }
}

/// A list's `tasks` that was written anew.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mended {
    /// The list.
    pub slot: Slot,
    /// What was wrong with it; none where only processes were missing.
    pub damage: Option<String>,
    /// Those that were not in it, and hold it.
    pub put_back: Vec<(Pid, Option<Owner>)>,
    /// All that hold it.
    pub holders: Vec<Pid>,
}

/// The changes after which each `tasks` of a pool names those that hold its list, and no more; a
/// damaged one is kept beside it.
pub fn mend(pool: &Pool<Judged>) -> (Vec<Change>, Vec<Mended>) {
    let (mut changes, mut mended) = (Vec::new(), Vec::new());
    for list in &pool.lists {
        let Judged { file, tasks } = &list.tasks;
        let live = tasks.iter().filter(|task| task.is_alive());
        let put_back: Vec<_> = live
            .filter(|task| !task.is_written)
            .map(|task| (task.pid, task.owner.clone()))
            .collect();
        let slot = Slot::new(&pool.name, &list.name);
        let damage = match file {
            TasksFile::Pids(_) if put_back.is_empty() => continue,
            TasksFile::Pids(_) => None,
            TasksFile::Blank => Some("it is missing, or was emptied by a power cut".to_owned()),
            TasksFile::Damaged { cause, .. } => {
                changes.push(Change::SetAside(slot.clone()));
                Some(cause.clone())
            }
        };
        let holders = list.tasks.living();
        changes.push(Change::SetTasks(slot.clone(), holders.clone()));
        mended.push(Mended { slot, damage, put_back, holders });
    }
    (changes, mended)
}

/// The lists of an exclusive pool with more than one live holder, and who they are.
pub fn shared_by_mistake(pool: &Pool<Judged>) -> Vec<(Slot, Vec<&Task>)> {
    if !pool.exclusive {
        return Vec::new();
    }
    let lists = pool.lists.iter().filter_map(|list| {
        let live: Vec<&Task> = list.tasks.tasks.iter().filter(|task| task.is_alive()).collect();
        let owners: BTreeSet<_> = live
            .iter()
            .map(|task| (&task.owner, task.owner.is_none().then_some(task.pid)))
            .collect();
        (owners.len() > 1).then(|| (Slot::new(&pool.name, &list.name), live))
    });
    lists.collect()
}

#[cfg(test)]
#[path = "reconcile_tests.rs"]
mod tests;
