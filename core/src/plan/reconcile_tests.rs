use super::*;
use crate::pool::CpuList;

fn pid(raw: i32) -> Pid {
    Pid::try_from(raw).unwrap()
}

fn slot(list: &str) -> Slot {
    Slot::new(&"p".parse().unwrap(), list)
}

fn owner(name: &str) -> Owner {
    name.parse().unwrap()
}

fn task(raw: i32, owner: Option<&str>, life: Life) -> Task {
    let owner = owner.map(|name| name.parse().unwrap());
    Task { pid: pid(raw), owner, life, is_written: true }
}

/// One that holds its list by its record alone.
fn unwritten(raw: i32, owner: &str, life: Life) -> Task {
    Task { is_written: false, ..task(raw, Some(owner), life) }
}

fn list(name: &str, tasks: Vec<Task>) -> CpuList<Judged> {
    let written = tasks.iter().filter(|task| task.is_written).map(|task| task.pid);
    let file = TasksFile::Pids(written.collect());
    CpuList { name: name.parse().unwrap(), tasks: Judged { file, tasks } }
}

fn with_file(file: TasksFile, list: CpuList<Judged>) -> CpuList<Judged> {
    CpuList { tasks: Judged { file, ..list.tasks }, ..list }
}

fn pool(lists: Vec<CpuList<Judged>>) -> Pool<Judged> {
    Pool::new("p".parse().unwrap(), true, lists)
}

use Life::{Alive, Dead, NeverBound};

#[test]
fn the_dead_leave_the_tasks_first_then_the_indexes_and_the_records_last() {
    let found = reclaim(pool(vec![
        list("0", vec![task(7, Some("dead"), Dead)]),
        list("1", vec![task(7, Some("dead"), Dead), task(9, None, Dead)]),
        list("2", vec![task(8, Some("live"), Alive)]),
        list("3", vec![task(5, None, Alive), task(6, None, Dead)]),
    ]));
    assert_eq!(
        found.changes,
        [
            Change::SetTasks(slot("0"), vec![]),
            Change::SetTasks(slot("1"), vec![]),
            Change::SetTasks(slot("3"), vec![pid(5)]),
            Change::RemoveIndex(slot("0"), owner("dead")),
            Change::RemoveIndex(slot("1"), owner("dead")),
            Change::RemoveRecord(owner("dead")),
        ]
    );
    assert_eq!(found.reclaimed.iter().map(|r| r.pid.as_raw()).collect::<Vec<_>>(), [7, 7, 9, 6]);
    assert_eq!(found.forgotten, []);
    let free: Vec<bool> = found.pool.lists.iter().map(|list| list.tasks.is_free()).collect();
    assert_eq!(free, [true, true, false, false]);
}

#[test]
fn a_record_that_holds_nothing_goes_and_is_told_once() {
    let found = reclaim(pool(vec![
        list("0", vec![unwritten(7, "dead", Dead)]),
        list("1", vec![unwritten(8, "failed", NeverBound)]),
        list("2", vec![unwritten(9, "lost", Alive)]),
        // It holds the one by its tasks, and never came to the other.
        list("3", vec![task(10, Some("half"), Alive)]),
        list("4", vec![unwritten(10, "half", NeverBound)]),
    ]));
    let lives: Vec<_> = found.forgotten.iter().map(|f| (f.owner.as_ref(), f.life)).collect();
    assert_eq!(lives, [("dead", Dead), ("failed", NeverBound)]);
    assert_eq!(
        found.changes,
        [
            Change::RemoveIndex(slot("0"), owner("dead")),
            Change::RemoveIndex(slot("1"), owner("failed")),
            Change::RemoveIndex(slot("4"), owner("half")),
            Change::RemoveRecord(owner("dead")),
            Change::RemoveRecord(owner("failed")),
        ]
    );
    let free: Vec<bool> = found.pool.lists.iter().map(|list| list.tasks.is_free()).collect();
    assert_eq!(free, [true, true, false, false, true]);
}

#[test]
fn whoever_holds_a_list_is_put_back_and_what_is_damaged_is_kept_beside() {
    let damaged = || TasksFile::Damaged { cause: "why".into(), pids: vec![] };
    let (changes, mended) = mend(&pool(vec![
        list("0", vec![task(7, Some("a"), Alive)]),
        list("1", vec![task(7, Some("a"), Alive), unwritten(8, "b", Alive)]),
        with_file(TasksFile::Blank, list("2", vec![])),
        with_file(TasksFile::Blank, list("3", vec![unwritten(9, "c", Alive)])),
        with_file(damaged(), list("4", vec![unwritten(10, "d", Alive)])),
        with_file(damaged(), list("5", vec![])),
    ]));
    assert_eq!(
        changes,
        [
            Change::SetTasks(slot("1"), vec![pid(7), pid(8)]),
            Change::SetTasks(slot("2"), vec![]),
            Change::SetTasks(slot("3"), vec![pid(9)]),
            Change::SetAside(slot("4")),
            Change::SetTasks(slot("4"), vec![pid(10)]),
            Change::SetAside(slot("5")),
            Change::SetTasks(slot("5"), vec![]),
        ]
    );
    let told: Vec<_> = mended
        .iter()
        .map(|m| (m.slot.list.as_str(), m.damage.is_some(), m.put_back.len(), m.holders.len()))
        .collect();
    assert_eq!(
        told,
        [
            ("1", false, 1, 2),
            ("2", true, 0, 0),
            ("3", true, 1, 1),
            ("4", true, 1, 1),
            ("5", true, 0, 0)
        ]
    );
}

#[test]
fn two_owners_of_an_exclusive_list_are_told() {
    let lists = || {
        vec![
            list("0", vec![task(7, Some("a"), Alive), task(8, Some("b"), Alive)]),
            list("1", vec![task(7, Some("a"), Alive), task(9, None, Alive)]),
            list("2", vec![task(8, Some("b"), Alive), task(6, Some("c"), Dead)]),
        ]
    };
    let found = pool(lists());
    let slots: Vec<Slot> = shared_by_mistake(&found).into_iter().map(|(slot, _)| slot).collect();
    assert_eq!(slots, [slot("0"), slot("1")]);
    let shared = Pool { exclusive: false, ..pool(lists()) };
    assert_eq!(shared_by_mistake(&shared).len(), 0);
}
