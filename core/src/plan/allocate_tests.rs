use super::*;
use crate::task::{Pid, Process, Task};

fn tasks(text: &str) -> Tasks {
    let judged =
        |alive| Tasks::Judged(vec![Task { pid: Pid::try_from(7).unwrap(), owner: None, alive }]);
    match text {
        "free" => Tasks::Empty,
        "unread" => Tasks::Unread,
        "dead" => judged(false),
        "live" => judged(true),
        "bad" => Tasks::Malformed("'x' is no process id".into()),
        n => {
            let task = Task { pid: Pid::try_from(8).unwrap(), owner: None, alive: true };
            Tasks::Judged(vec![task; n.parse().unwrap()])
        }
    }
}

fn pool(exclusive: bool, lists: &str) -> Pool {
    let lists = lists.split_whitespace().map(|word| {
        let (name, state) = word.split_once('=').unwrap();
        CpuList { name: name.parse().unwrap(), tasks: tasks(state) }
    });
    Pool::new("p".parse().unwrap(), exclusive, lists.collect())
}

fn request(cores: usize, usable: &str) -> Request {
    Request {
        owner: "c1".parse().unwrap(),
        process: Process {
            pid: Pid::try_from(42).unwrap(),
            start_time: Some(1),
            boot_id: "b".into(),
        },
        pool: "p".parse().unwrap(),
        cores: cores.try_into().unwrap(),
        usable: usable.parse().unwrap(),
        cgroup: Some("/c1".into()),
        affinity: true,
        details: Default::default(),
    }
}

fn two_nodes() -> Nodes {
    [(0, "0-7".parse().unwrap()), (1, "8-15".parse().unwrap())].into()
}

/// The names that `choose` takes, or what it says instead.
fn chosen(pool: &Pool, cores: usize, usable: &str) -> String {
    match choose(pool, &request(cores, usable), &two_nodes()) {
        Ok(Choice::Take(lists)) => {
            let names = lists.iter().map(|&i| pool.lists[i].name.as_str());
            names.collect::<Vec<_>>().join(" ")
        }
        Ok(Choice::LookCloser) => "look closer".into(),
        Err(refusal) => refusal.to_string(),
    }
}

#[test]
fn one_core_gets_the_first_free_list_by_lowest_cpu() {
    for (lists, expected) in [
        ("10=free 2=free", "2"),
        ("2=live 10=free", "10"),
        ("2=unread 10=free", "10"),
        ("2=dead 10=free", "2"),
        ("2=bad 10=free", "10"),
        ("2=unread 10=unread", "look closer"),
        ("2=bad 10=unread", "look closer"),
    ] {
        assert_eq!(chosen(&pool(true, lists), 1, "0-15"), expected, "{lists}");
    }
}

#[test]
fn a_list_that_may_not_be_used_is_passed_over() {
    assert_eq!(chosen(&pool(true, "0-1=free 2-3=free"), 1, "1-15"), "2-3");
}

#[test]
fn refusals_name_the_pool_the_count_and_the_remedy() {
    for (lists, cores, usable, expected) in [
        ("2=live 3=live", 1, "0-15", "No free cpu lists in pool p: 2 of 2 are held (1 wanted)"),
        ("2=live 3=free", 2, "0-15", "No free cpu lists in pool p: 1 of 2 are held (2 wanted)"),
        ("2=free 3=free", 3, "0-15", "3 cores requested of pool p, which has 2; ask for 2"),
        ("2=free 3=free", 1, "8-9", "only 0 of 2 CPU lists of pool p can be used here (1 wanted)"),
        ("", 1, "0-15", "pool p has no CPU lists on this node; choose another pool"),
    ] {
        let text = chosen(&pool(true, lists), cores, usable);
        assert!(text.starts_with(expected), "{lists}: {text}");
    }
}

#[test]
fn several_cores_stay_on_one_numa_node_where_they_fit() {
    for (lists, cores, expected) in [
        // Both nodes fit: the one with fewer free ones, so that larger wishes still fit later.
        ("0=free 1=free 2=free 8=free 9=free", 2, "8 9"),
        // A tie: the lower node.
        ("0=free 1=free 8=free 9=free", 2, "0 1"),
        // Only node 0 fits.
        ("0=free 1=free 2=free 8=free 9=free", 3, "0 1 2"),
        // Neither fits: over the fewest nodes, the fuller one first.
        ("0=free 8=free 9=free", 3, "0 8 9"),
        // Neither fits as far as is known.
        ("0=free 1=unread 8=free", 2, "look closer"),
        ("0=free 1=dead 8=free", 2, "0 1"),
    ] {
        assert_eq!(chosen(&pool(true, lists), cores, "0-15"), expected, "{lists}");
    }
}

#[test]
fn a_shared_pool_gives_the_list_with_the_fewest_live_tasks() {
    for (lists, expected) in [
        ("0=2 4=1 8=3", "4"),
        ("0=1 4=1", "0"),
        ("0=1 4=dead", "4"),
        ("0=1 4=unread", "look closer"),
        ("0=bad 4=9", "4"),
    ] {
        assert_eq!(chosen(&pool(false, lists), 3, "0-15"), expected, "{lists}");
    }
}

#[test]
fn taking_writes_the_record_before_the_tasks() {
    let pool = pool(false, "0-1=live");
    let (allocation, changes) = take(&pool, &[0], &request(1, "0-15"), "now".into());
    let set = Change::SetTasks {
        pool: "p".parse().unwrap(),
        list: "0-1".into(),
        pids: vec![Pid::try_from(7).unwrap(), Pid::try_from(42).unwrap()],
    };
    assert_eq!(changes, [Change::PutRecord(Box::new(allocation.clone())), set]);
    assert_eq!(allocation.cpus().to_string(), "0-1");
}
