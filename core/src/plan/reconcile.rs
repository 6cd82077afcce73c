//! Giving back what the dead hold, and making records and `tasks` agree.

use std::collections::BTreeMap;

use crate::allocation::{Allocation, Owner};
use crate::plan::Change;
use crate::pool::{CpuList, Pool, PoolName};
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
            // The original kcm may write a PID twice.
            if reclaimed.iter().any(|r: &Reclaimed| r.pid == pid && r.list == list.name.as_str()) {
                continue;
            }
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

/// What is known of the holder of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holder {
    /// Nothing of it lives.
    Dead,
    /// It lives, but not on the CPUs of the record: its allocation was never finished.
    Elsewhere,
    /// It lives, on the CPUs of the record.
    InPlace,
}

/// What to do with a record whose PID is not in the `tasks` of all its lists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stray {
    /// It holds nothing: these changes remove it.
    Remove(Vec<Change>),
    /// Its holder runs on those CPUs all the same, and its `tasks` were lost: these changes put its
    /// PID back.
    PutBack(Vec<Change>),
}

/// The lists of a record in whose `tasks` its PID is not; none where that cannot be told, because
/// one of them is malformed. `pool` is the record's, judged; none for one that is gone.
pub fn missing<'a>(record: &Allocation, pool: Option<&'a Pool>) -> Option<Vec<Missing<'a>>> {
    let find = |name: &str| pool?.lists.iter().find(|list| list.name.as_str() == name);
    let mut missing = Vec::new();
    for held in &record.lists {
        let list = find(held.as_str());
        let is_there = |tasks: &[Task]| tasks.iter().any(|task| task.pid == record.process.pid);
        match list.map(|list| &list.tasks) {
            Some(Tasks::Malformed(_) | Tasks::Unread) => return None,
            Some(Tasks::Judged(tasks)) if is_there(tasks) => {}
            _ => missing.push(list),
        }
    }
    Some(missing)
}

/// A list that a record names; none where the pool has no such list any more.
type Missing<'a> = Option<&'a CpuList>;

/// What to do with a record, some of whose lists do not have its PID. Nothing where its PID is in
/// others of its lists, but cannot be in all: a list is somebody else's by now, or gone.
pub fn settle(
    record: &Allocation,
    exclusive: bool,
    missing: &[Missing<'_>],
    holder: Holder,
) -> Option<Stray> {
    let is_open = |list: &CpuList| !exclusive || list.tasks.is_free();
    let open: Option<Vec<&CpuList>> =
        missing.iter().map(|list| list.filter(|list| is_open(list))).collect();
    match (holder, open) {
        (Holder::InPlace, Some(lists)) if !lists.is_empty() => {
            let pid = record.process.pid;
            Some(Stray::PutBack(lists.iter().map(|list| put(&record.pool, list, pid)).collect()))
        }
        _ if !missing.is_empty() && missing.len() == record.lists.len() => {
            Some(Stray::Remove(vec![Change::RemoveRecord(record.owner.clone())]))
        }
        _ => None,
    }
}

fn put(pool: &PoolName, list: &CpuList, pid: Pid) -> Change {
    let others = match &list.tasks {
        Tasks::Judged(tasks) => tasks.iter().map(|task| task.pid).collect(),
        _ => Vec::new(),
    };
    let pids = others.into_iter().chain([pid]).collect();
    Change::SetTasks { pool: pool.clone(), list: list.name.to_string(), pids }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::task::Process;

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
                list(
                    "1",
                    Tasks::Judged(vec![
                        task(7, Some("dead"), false),
                        task(9, None, false),
                        task(9, None, false),
                    ]),
                ),
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
    #[test]
    fn a_record_without_tasks_goes_unless_its_holder_is_in_place() {
        let pid = |raw: i32| Pid::try_from(raw).unwrap();
        let record = Allocation {
            owner: "c".parse().unwrap(),
            pool: "p".parse().unwrap(),
            lists: vec!["0".parse().unwrap(), "1".parse().unwrap()],
            process: Process { pid: pid(7), start_time: Some(1), boot_id: "b".into() },
            created_at: "now".into(),
            cgroup: None,
            affinity: true,
            details: Default::default(),
        };
        let tasks =
            |raw: i32| Tasks::Judged(vec![Task { pid: pid(raw), owner: None, alive: true }]);
        let pool = |zero: Tasks, one: Tasks| {
            let list = |name: &str, tasks| CpuList { name: name.parse().unwrap(), tasks };
            Pool::new("p".parse().unwrap(), true, vec![list("0", zero), list("1", one)])
        };
        let set = |list: &str| Change::SetTasks {
            pool: "p".parse().unwrap(),
            list: list.into(),
            pids: vec![pid(7)],
        };
        let remove = || Some(Stray::Remove(vec![Change::RemoveRecord("c".parse().unwrap())]));
        let put_back =
            |lists: &[&str]| Some(Stray::PutBack(lists.iter().map(|list| set(list)).collect()));
        use Holder::{Dead, Elsewhere, InPlace};
        for (pool, holder, expected) in [
            (pool(Tasks::Empty, Tasks::Empty), Dead, remove()),
            (pool(Tasks::Empty, Tasks::Empty), Elsewhere, remove()),
            (pool(Tasks::Empty, Tasks::Empty), InPlace, put_back(&["0", "1"])),
            (pool(tasks(7), Tasks::Empty), InPlace, put_back(&["1"])),
            (pool(tasks(7), Tasks::Empty), Elsewhere, None),
            (pool(tasks(7), tasks(7)), InPlace, None),
            (pool(Tasks::Empty, tasks(9)), InPlace, remove()),
            (pool(tasks(7), tasks(9)), InPlace, None),
            (pool(tasks(8), tasks(9)), Dead, remove()),
        ] {
            let missing = missing(&record, Some(&pool)).unwrap();
            assert_eq!(settle(&record, true, &missing, holder), expected, "{pool:?} {holder:?}");
        }
        let malformed = pool(Tasks::Empty, Tasks::Malformed("x".into()));
        assert!(missing(&record, Some(&malformed)).is_none());
        let gone = missing(&record, None).unwrap();
        assert_eq!(settle(&record, true, &gone, Dead), remove());
        assert_eq!(settle(&record, true, &gone, InPlace), remove());
    }
}
