//! Giving back what one owner holds.

use crate::allocation::Allocation;
use crate::plan::{Change, Slot};
use crate::task::Pid;

/// The changes that take a holder's PID out of its lists, and its record away. `tasks` has the
/// PIDs in each list of the allocation, in its order; none for a list that is gone or damaged,
/// which stays as it is. Where one of the `others` holds a list with the same PID, the PID in it is
/// that later process's, and stays.
pub fn release(
    allocation: &Allocation,
    tasks: &[Option<Vec<Pid>>],
    others: &[Allocation],
) -> Vec<Change> {
    let pid = allocation.process.pid;
    let slots: Vec<Slot> =
        allocation.lists.iter().map(|list| Slot::new(&allocation.pool, list)).collect();
    let mut changes = Vec::new();
    for (slot, pids) in slots.iter().zip(tasks) {
        let is_anothers = others.iter().any(|other| {
            other.owner != allocation.owner && other.holds(&slot.pool, &slot.list, pid)
        });
        match pids {
            Some(pids) if pids.contains(&pid) && !is_anothers => {
                let rest = pids.iter().copied().filter(|&other| other != pid).collect();
                changes.push(Change::SetTasks(slot.clone(), rest));
            }
            _ => {}
        }
    }
    let owner = || allocation.owner.clone();
    changes.extend(slots.into_iter().map(|slot| Change::RemoveIndex(slot, owner())));
    changes.push(Change::RemoveRecord(owner()));
    changes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::task::Process;

    #[test]
    fn only_the_holders_own_pid_leaves_and_the_record_goes_last() {
        let pid = |n: i32| Pid::try_from(n).unwrap();
        let allocation = Allocation {
            owner: "c1".parse().unwrap(),
            pool: "p".parse().unwrap(),
            lists: ["0", "1", "2", "3"].map(|name| name.parse().unwrap()).to_vec(),
            process: Process { pid: pid(7), start_time: Some(1), boot_id: "b".into() },
            created_at: "now".into(),
            cgroup: None,
            affinity: true,
            partition: None,
            details: Default::default(),
        };
        let tasks = [Some(vec![pid(7)]), Some(vec![pid(5), pid(7)]), Some(vec![pid(9)]), None];
        let slot = |list: &str| Slot::new(&"p".parse().unwrap(), list);
        let set = |list: &str, pids: Vec<Pid>| Change::SetTasks(slot(list), pids);
        let c1 = || "c1".parse().unwrap();
        let forgotten = ["0", "1", "2", "3"].map(|list| Change::RemoveIndex(slot(list), c1()));
        let gone = || forgotten.iter().cloned().chain([Change::RemoveRecord(c1())]);
        let other = |owner: &str, list: &str| Allocation {
            owner: owner.parse().unwrap(),
            lists: vec![list.parse().unwrap()],
            ..allocation.clone()
        };
        let both = [set("0", vec![]), set("1", vec![pid(5)])].into_iter().chain(gone());
        let changes = release(&allocation, &tasks, &[other("c1", "0"), other("c2", "9")]);
        assert_eq!(changes, both.collect::<Vec<_>>());
        let one = [set("1", vec![pid(5)])].into_iter().chain(gone());
        let changes = release(&allocation, &tasks, &[other("c2", "0")]);
        assert_eq!(changes, one.collect::<Vec<_>>());
    }
}
