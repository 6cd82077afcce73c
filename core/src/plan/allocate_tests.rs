use super::*;
use crate::task::{Life, Process, Task, TasksFile};

fn judged(lives: &[Life]) -> Judged {
    let task = |(number, &life): (usize, &Life)| Task {
        pid: Pid::try_from(i32::try_from(number).unwrap() + 7).unwrap(),
        owner: None,
        life,
        is_written: true,
    };
    let tasks: Vec<Task> = lives.iter().enumerate().map(task).collect();
    Judged { file: TasksFile::Pids(tasks.iter().map(|task| task.pid).collect()), tasks }
}

fn state(text: &str) -> Judged {
    let damaged = |tasks: Judged| {
        let cause = "'x' is no process id".into();
        Judged { file: TasksFile::Damaged { cause, pids: vec![] }, ..tasks }
    };
    match text {
        "free" => judged(&[]),
        "blank" => Judged { file: TasksFile::Blank, ..judged(&[]) },
        "dead" => judged(&[Life::Dead]),
        "failed" => judged(&[Life::NeverBound]),
        "live" => judged(&[Life::Alive]),
        "bad" => damaged(judged(&[])),
        "bad-live" => damaged(judged(&[Life::Alive])),
        n => judged(&vec![Life::Alive; n.parse().unwrap()]),
    }
}

fn pool_of<T>(exclusive: bool, lists: &str, state: impl Fn(&str) -> T) -> Pool<T> {
    let lists = lists.split_whitespace().map(|word| {
        let (name, text) = word.split_once('=').unwrap();
        CpuList { name: name.parse().unwrap(), tasks: state(text) }
    });
    Pool::new("p".parse().unwrap(), exclusive, lists.collect())
}

fn pool(exclusive: bool, lists: &str) -> Pool<Judged> {
    pool_of(exclusive, lists, state)
}

/// The names that are taken of those whose `tasks` seem empty, or what is said instead.
fn glanced(exclusive: bool, lists: &str, cores: usize) -> String {
    let pool = pool_of(exclusive, lists, |text| match text {
        "empty" => Glance::Empty,
        _ => Glance::Unread,
    });
    match at_a_glance(&pool, &request(cores, "0-15"), &two_nodes()) {
        Ok(Some(lists)) => names(&pool, &lists),
        Ok(None) => "look closer".into(),
        Err(refusal) => refusal.to_string(),
    }
}

fn names<T>(pool: &Pool<T>, lists: &[usize]) -> String {
    let names = lists.iter().map(|&i| pool.lists[i].name.as_str());
    names.collect::<Vec<_>>().join(" ")
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
        cgroup: None,
        affinity: true,
        partition: None,
        within: None,
        had: None,
        details: Default::default(),
    }
}

fn two_nodes() -> Nodes {
    [(0, "0-7".parse().unwrap()), (1, "8-15".parse().unwrap())].into()
}

/// The names that `choose` takes, or what it says instead.
fn chosen(pool: &Pool<Judged>, cores: usize, usable: &str) -> String {
    match choose(pool, &request(cores, usable), &two_nodes()) {
        Ok(lists) => names(pool, &lists),
        Err(refusal) => refusal.to_string(),
    }
}

#[test]
fn one_core_gets_the_first_free_list_by_lowest_cpu() {
    for (lists, expected) in [
        ("10=free 2=free", "2"),
        ("2=live 10=free", "10"),
        ("2=dead 10=free", "2"),
        ("2=failed 10=free", "2"),
        ("2=blank 10=free", "2"),
        ("2=bad 10=free", "10"),
        ("2=bad-live 10=free", "10"),
    ] {
        assert_eq!(chosen(&pool(true, lists), 1, "0-15"), expected, "{lists}");
    }
    for (lists, expected) in [
        ("10=empty 2=empty", "2"),
        ("2=unread 10=empty", "10"),
        ("2=unread 10=unread", "look closer"),
    ] {
        assert_eq!(glanced(true, lists, 1), expected, "{lists}");
    }
}

#[test]
fn a_restored_container_gets_the_lists_that_it_had_if_all_are_free() {
    for (exclusive, lists, had, cores, expected) in [
        (true, "2=free 10=free", "10", 1, "10"),
        (true, "2=free 10=dead", "10", 1, "10"),
        (true, "2=free 10=live", "10", 1, "2"),
        (true, "2=free 10=free", "11", 1, "2"),
        (true, "2=free 3=free 10=free 11=free", "3,10", 2, "3 10"),
        (true, "2=free 3=free 10=free 11=live", "10-11", 2, "2 3"),
        (true, "2=free 3=free", "2-3", 1, "2"),
        (true, "2=free 3=bad", "3", 1, "2"),
        (false, "2=free 10=live", "10", 1, "10"),
    ] {
        let request = Request { had: Some(had.parse().unwrap()), ..request(cores, "0-15") };
        let pool = pool(exclusive, lists);
        let chosen = choose(&pool, &request, &two_nodes()).unwrap();
        assert_eq!(names(&pool, &chosen), expected, "{lists}, had {had}");
    }
}

#[test]
fn a_list_that_may_not_be_used_is_passed_over() {
    assert_eq!(chosen(&pool(true, "0-1=free 2-3=free"), 1, "1-15"), "2-3");
}

#[test]
fn refusals_name_the_pool_the_count_and_the_remedy() {
    for (lists, cores, usable, expected) in [
        ("2=live 3=live", 1, "0-15", "No free cpu lists in pool p: 2 of 2 are held, 1 wanted"),
        ("2=live 3=free", 2, "0-15", "No free cpu lists in pool p: 1 of 2 are held, 2 wanted"),
        (
            "2=live 3=live 4=bad",
            1,
            "0-15",
            "No free cpu lists in pool p: 2 of 3 are held and 1 cannot be used here (a warning says \
             why), 1 wanted",
        ),
        (
            "2=live 3=free 4=free",
            1,
            "2",
            "No free cpu lists in pool p: 1 of 3 are held and 2 cannot be used here (warnings say \
             why), 1 wanted",
        ),
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
        ("0=free 1=dead 8=free", 2, "0 1"),
    ] {
        assert_eq!(chosen(&pool(true, lists), cores, "0-15"), expected, "{lists}");
    }
    assert_eq!(glanced(true, "0=empty 1=empty 8=empty", 2), "0 1");
    // Neither fits as far as is known.
    assert_eq!(glanced(true, "0=empty 1=unread 8=empty", 2), "look closer");
}

#[test]
fn a_shared_pool_gives_the_list_with_the_fewest_live_tasks() {
    for (lists, expected) in
        [("0=2 4=1 8=3", "4"), ("0=1 4=1", "0"), ("0=1 4=dead", "4"), ("0=bad 4=9", "4")]
    {
        assert_eq!(chosen(&pool(false, lists), 3, "0-15"), expected, "{lists}");
    }
    assert_eq!(glanced(false, "0=empty 4=empty", 1), "look closer");
}

#[test]
fn taking_writes_the_record_then_its_index_then_the_tasks() {
    let (seven, ours) = (Pid::try_from(7).unwrap(), Pid::try_from(42).unwrap());
    let name: PoolName = "p".parse().unwrap();
    let slot = |list: &str| Slot::new(&name, list);
    let request = request(1, "0-15");
    let take =
        |exclusive, lists: &[Taken]| take(&name, exclusive, lists, &request, None, "now".into());

    let (allocation, changes) = take(false, &[("0-1".parse().unwrap(), vec![seven])]);
    let put = |allocation: &Allocation| Change::PutRecord(Box::new(allocation.clone()));
    let set = Change::SetTasks(slot("0-1"), vec![seven, ours]);
    assert_eq!(changes, [put(&allocation), set]);
    assert_eq!(allocation.cpus().to_string(), "0-1");

    let lists = ["2", "3"].map(|list| (list.parse().unwrap(), vec![]));
    let (allocation, changes) = take(true, &lists);
    let index = |list: &str| Change::Index(slot(list), request.owner.clone());
    let set = |list: &str| Change::SetTasks(slot(list), vec![ours]);
    assert_eq!(changes, [put(&allocation), index("2"), index("3"), set("2"), set("3")]);
}
