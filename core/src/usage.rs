//! How much of a pool is in use: numbers for monitoring.

use std::collections::BTreeSet;
use std::time::SystemTime;

use crate::allocation::Allocation;
use crate::pool::{Pool, PoolName};
use crate::state::{Contents, Error};
use crate::task::{Pid, Task, Tasks};

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
    pub fn of(pool: &Pool, records: &[Allocation]) -> Self {
        let (mut free, mut held) = (Lists::default(), Lists::default());
        let (mut pids, mut owners) = (BTreeSet::new(), BTreeSet::new());
        for list in &pool.lists {
            let sum = if list.tasks.is_free() { &mut free } else { &mut held };
            sum.lists += 1;
            sum.cpus += list.name.cpus().len();
            let Tasks::Judged(tasks) = &list.tasks else { continue };
            for task in tasks.iter().filter(|task| task.alive) {
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
fn look_into(contents: &Contents, mut pool: Pool, records: &[Allocation]) -> Pool {
    for list in pool.lists.iter_mut().filter(|list| list.tasks == Tasks::Unread) {
        let owner = |pid: Pid| {
            let mut of = records.iter().filter(|r| r.holds(&pool.name, list.name.as_str(), pid));
            of.next().map(|record| record.owner.clone())
        };
        list.tasks = match contents.tasks(&pool.name, list.name.as_str()) {
            Ok(Some((pids, _))) => {
                let tasks = pids.into_iter();
                Tasks::Judged(
                    tasks.map(|pid| Task { pid, owner: owner(pid), alive: true }).collect(),
                )
            }
            Ok(None) => Tasks::Empty,
            Err(error) => Tasks::Malformed(error.to_string()),
        };
    }
    pool
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::pool::CpuList;
    use crate::task::Process;

    fn task(pid: i32, owner: Option<&str>, alive: bool) -> Task {
        let owner = owner.map(|owner| owner.parse().unwrap());
        Task { pid: pid.try_into().unwrap(), owner, alive }
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
            details: Default::default(),
        }
    }

    #[test]
    fn lists_and_their_cpus_are_free_or_held_and_a_process_counts_once() {
        let list = |name: &str, tasks| CpuList { name: name.parse().unwrap(), tasks };
        let lists = vec![
            list("0-3", Tasks::Empty),
            list("4", Tasks::Judged(vec![task(7, None, false)])),
            list("5-6", Tasks::Judged(vec![task(8, Some("several"), true)])),
            list("7-8", Tasks::Judged(vec![task(8, Some("several"), true), task(9, None, true)])),
            list("9", Tasks::Malformed("x".into())),
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
