//! How much of a pool is in use: numbers for monitoring.

use std::collections::{BTreeSet, HashMap};
use std::time::SystemTime;

use crate::allocation::{Allocation, Owner};
use crate::plan::Slot;
use crate::pool::{CpuList, Pool, PoolName};
use crate::state::{Contents, Error};
use crate::task::{Glance, Judged, Life, Pid, Task, TasksFile};

/// How much of a pool is in use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Usage {
    /// The pool.
    pub pool: PoolName,
    /// Whether each CPU list has one owner at the most.
    pub exclusive: bool,
    /// The lists that nobody is in.
    pub free: Lists,
    /// The others: also one whose `tasks` is malformed, since nobody is given it.
    pub held: Lists,
    /// Processes in the lists, each counted once however many lists it holds.
    pub tasks: usize,
    /// When the oldest allocation record of a process in the lists was made; none without records.
    pub oldest: Option<SystemTime>,
}

/// Some CPU lists.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lists {
    /// How many they are.
    pub lists: usize,
    /// How many CPUs they have.
    pub cpus: usize,
}

impl Usage {
    /// Of a pool that somebody has looked into.
    pub fn of(pool: &Pool<Judged>, records: &[Allocation]) -> Self {
        let (mut free, mut held) = (Lists::default(), Lists::default());
        let (mut pids, mut owners) = (BTreeSet::new(), BTreeSet::new());
        for list in &pool.lists {
            let sum = if list.tasks.is_free() { &mut free } else { &mut held };
            sum.lists += 1;
            sum.cpus += list.name.cpus().len();
            for task in list.tasks.tasks.iter().filter(|task| task.is_alive()) {
                pids.insert(task.pid);
                owners.extend(&task.owner);
            }
        }
        let records = records
            .iter()
            .filter(|record| record.pool == pool.name && owners.contains(&record.owner));
        Self {
            pool: pool.name.clone(),
            exclusive: pool.exclusive,
            free,
            held,
            tasks: pids.len(),
            oldest: records.filter_map(Allocation::created).min(),
        }
    }
}

/// Of each pool that can be read. Nobody is judged dead: what is in a `tasks` counts.
pub fn read(contents: &Contents) -> Result<Vec<Usage>, Error> {
    let records = contents.records()?.readable;
    let pools = contents.pool_names()?.into_iter();
    let pools = pools
        .filter_map(|name| Some(look_into(contents, contents.pool(&name).ok()?.pool, &records)));
    Ok(pools.map(|pool| Usage::of(&pool, &records)).collect())
}

/// A pool with all that is in its `tasks`, dead or alive.
fn look_into(contents: &Contents, pool: Pool<Glance>, records: &[Allocation]) -> Pool<Judged> {
    let Pool { name, exclusive, lists } = pool;
    let owners: HashMap<(Pid, &str), &Owner> = records
        .iter()
        .filter(|record| record.pool == name)
        .flat_map(|record| {
            let lists = record.lists.iter();
            lists.map(|list| ((record.process.pid, list.as_str()), &record.owner))
        })
        .collect();
    let lists = lists.into_iter().map(|list| {
        let file = contents.tasks_file(&Slot::new(&name, &list.name), exclusive);
        let file = file.map(|file| file.unwrap_or(TasksFile::Blank));
        let file =
            file.unwrap_or_else(|e| TasksFile::Damaged { cause: e.to_string(), pids: vec![] });
        let pids = match &file {
            TasksFile::Pids(pids) => &pids[..],
            _ => &[],
        };
        let tasks = pids.iter().map(|&pid| Task {
            pid,
            owner: owners.get(&(pid, list.name.as_str())).map(|&owner| owner.clone()),
            life: Life::Alive,
            is_written: true,
        });
        let tasks = tasks.collect();
        CpuList { tasks: Judged { file, tasks }, name: list.name }
    });
    let lists = lists.collect();
    Pool { name, exclusive, lists }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::task::Process;

    fn task(pid: i32, owner: Option<&str>, alive: bool) -> Task {
        let owner = owner.map(|owner| owner.parse().unwrap());
        let life = if alive { Life::Alive } else { Life::Dead };
        Task { pid: pid.try_into().unwrap(), owner, life, is_written: true }
    }

    fn judged(tasks: Vec<Task>) -> Judged {
        Judged { file: TasksFile::Pids(tasks.iter().map(|task| task.pid).collect()), tasks }
    }

    fn record(owner: &str, pool: &str, created_at: &str) -> Allocation {
        Allocation {
            owner: owner.parse().unwrap(),
            pool: pool.parse().unwrap(),
            lists: vec!["0".parse().unwrap()],
            process: Process { pid: Pid::INIT, start_time: None, boot_id: String::new() },
            created_at: created_at.into(),
            cgroup: None,
            affinity: true,
            partition: None,
            details: Default::default(),
        }
    }

    #[test]
    fn lists_and_their_cpus_are_free_or_held_and_a_process_counts_once() {
        let list = |name: &str, tasks| CpuList { name: name.parse().unwrap(), tasks };
        let lists = vec![
            list("0-3", judged(vec![])),
            list("4", judged(vec![task(7, None, false)])),
            list("5-6", judged(vec![task(8, Some("several"), true)])),
            list("7-8", judged(vec![task(8, Some("several"), true), task(9, None, true)])),
            list(
                "9",
                Judged {
                    file: TasksFile::Damaged { cause: "x".into(), pids: vec![] },
                    tasks: vec![],
                },
            ),
        ];
        let pool = Pool::new("p".parse().unwrap(), true, lists);
        let records = [
            record("several", "p", "1970-01-01T00:01:40Z"),
            record("nobody", "p", "1970-01-01T00:00:01Z"),
            record("malformed", "p", "long ago"),
            record("elsewhere", "q", "1970-01-01T00:00:01Z"),
        ];
        assert_eq!(
            Usage::of(&pool, &records),
            Usage {
                pool: "p".parse().unwrap(),
                exclusive: true,
                free: Lists { lists: 2, cpus: 5 },
                held: Lists { lists: 3, cpus: 5 },
                tasks: 2,
                oldest: Some(SystemTime::UNIX_EPOCH + Duration::from_secs(100)),
            }
        );
    }
}
