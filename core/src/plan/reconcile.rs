//! Giving back what the dead hold.

use std::collections::BTreeMap;

use crate::allocation::Owner;
use crate::plan::Change;
use crate::pool::{Pool, PoolName};
use crate::task::{Pid, Task, Tasks};

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

/// The changes that free a pool of the dead, the pool as it is afterwards, and who they were.
/// Lists that nobody looked into stay as they are.
pub fn reclaim(pool: Pool) -> (Pool, Vec<Change>, Vec<Reclaimed>) {
    let Pool { name, exclusive, mut lists } = pool;
    let (mut changes, mut reclaimed) = (Vec::new(), Vec::new());
    let mut owners: BTreeMap<Owner, bool> = BTreeMap::new();
    for list in &mut lists {
        let Tasks::Judged(tasks) = &mut list.tasks else { continue };
        let (live, dead): (Vec<Task>, Vec<Task>) = tasks.drain(..).partition(|task| task.alive);
        *tasks = live;
        owners.extend(tasks.iter().filter_map(|task| Some((task.owner.clone()?, true))));
        if dead.is_empty() {
            continue;
        }
        changes.push(Change::SetTasks {
            pool: name.clone(),
            list: list.name.to_string(),
            pids: tasks.iter().map(|task| task.pid).collect(),
        });
        for Task { pid, owner, .. } in dead {
            if let Some(owner) = &owner {
                owners.entry(owner.clone()).or_insert(false);
            }
            reclaimed.push(Reclaimed {
                pool: name.clone(),
                list: list.name.to_string(),
                pid,
                owner,
            });
        }
    }
    let gone = owners.into_iter().filter(|(_, alive)| !alive);
    changes.extend(gone.map(|(owner, _)| Change::RemoveRecord(owner)));
    (Pool { name, exclusive, lists }, changes, reclaimed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pool::CpuList;

    #[test]
    fn the_dead_leave_the_tasks_first_and_the_records_after() {
        let task = |pid: i32, owner: Option<&str>, alive| Task {
            pid: Pid::try_from(pid).unwrap(),
            owner: owner.map(|o| o.parse().unwrap()),
            alive,
        };
        let list = |name: &str, tasks| CpuList { name: name.parse().unwrap(), tasks };
        let pool = Pool::new(
            "p".parse().unwrap(),
            true,
            vec![
                list("0", Tasks::Judged(vec![task(7, Some("dead"), false)])),
                list("1", Tasks::Judged(vec![task(7, Some("dead"), false), task(9, None, false)])),
                list("2", Tasks::Judged(vec![task(8, Some("live"), true)])),
                list("3", Tasks::Unread),
            ],
        );
        let (pool, changes, reclaimed) = reclaim(pool);
        let empty = |list: &str| Change::SetTasks {
            pool: "p".parse().unwrap(),
            list: list.into(),
            pids: vec![],
        };
        let removed = Change::RemoveRecord("dead".parse().unwrap());
        assert_eq!(changes, [empty("0"), empty("1"), removed]);
        assert_eq!(reclaimed.iter().map(|r| r.pid.as_raw()).collect::<Vec<_>>(), [7, 7, 9]);
        assert!(pool.lists[0].tasks.is_free() && pool.lists[1].tasks.is_free());
        assert!(!pool.lists[2].tasks.is_free() && pool.lists[3].tasks == Tasks::Unread);
    }
}
