//! Random sequences of allocate, release, crash and reclaim against a simple model: who got which
//! lists. An exclusive list has one live owner at the most, and no list is lost.
//!
//! Two subjects: the planner alone, on a directory in memory, where a writer may be killed between
//! any two changes; and the whole `Node` on a real directory, with a procfs made of plain files.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods, missing_docs)]

mod model {
    pub(crate) mod on_disk;
    pub(crate) mod planner;
}

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};

use kcm_core::request::Request;
use kcm_core::task::Process;
use model::on_disk::OnDisk;
use model::planner::Planner;
use proptest::prelude::*;
use proptest::test_runner::TestRunner;

/// CPU lists, on two NUMA nodes.
pub(crate) const LISTS: [&str; 6] = ["0", "1", "2", "8", "9", "10"];
pub(crate) const BOOT: &str = "this boot";

/// Something that happens on a node. Owners are few and PIDs fewer, so both are used again.
#[derive(Clone, Debug)]
enum Event {
    /// A container starts; the hook is killed after so many changes, if any.
    Start { owner: u8, pid: i32, cores: usize, killed_after: Option<usize> },
    /// Its process ends, and nobody is told.
    End { owner: u8 },
    /// Its process ends, and poststop runs; killed after so many changes, if any.
    Stop { owner: u8, killed_after: Option<usize> },
    /// poststop runs though the container lives (a late one, for an earlier container of its name).
    StopLate { owner: u8 },
}

fn event() -> impl Strategy<Value = Event> {
    let killed_after = || prop_oneof![3 => Just(None), 2 => (0..7_usize).prop_map(Some)];
    let owner = || 0..7_u8;
    prop_oneof![
        5 => (owner(), 2..12_i32, 1..4_usize, killed_after()).prop_map(
            |(owner, pid, cores, killed_after)| Event::Start { owner, pid, cores, killed_after }
        ),
        2 => owner().prop_map(|owner| Event::End { owner }),
        2 => (owner(), killed_after())
            .prop_map(|(owner, killed_after)| Event::Stop { owner, killed_after }),
        1 => owner().prop_map(|owner| Event::StopLate { owner }),
    ]
}

/// What can allocate and release.
pub(crate) trait Subject {
    /// The lists that the request is given; none where it is refused, or the hook was killed.
    fn allocate(&mut self, request: &Request, killed_after: Option<usize>) -> Option<Vec<String>>;
    fn release(&mut self, owner: &str, killed_after: Option<usize>);
    /// A process came or went.
    fn live(&mut self, live: &BTreeMap<i32, u64>);
    /// The PIDs in each list's tasks.
    fn tasks(&self) -> BTreeMap<String, Vec<i32>>;
    /// Whether a request could have so many lists at once; nothing is changed.
    fn could_have(&mut self, cores: usize) -> bool;
}

/// A container that runs.
#[derive(Clone, Debug)]
struct Container {
    pid: i32,
    start_time: u64,
    /// None where its hook was killed: it may hold lists, or none.
    lists: Option<Vec<String>>,
}

/// What is true, told without any of kcm's code.
#[derive(Debug, Default)]
struct Model {
    containers: BTreeMap<String, Container>,
    clock: u64,
    allocated: usize,
}

pub(crate) fn request(owner: &str, pid: i32, start_time: u64, cores: usize) -> Request {
    Request {
        owner: owner.parse().unwrap(),
        process: Process {
            pid: pid.try_into().unwrap(),
            start_time: Some(start_time),
            boot_id: BOOT.into(),
        },
        pool: "p".parse().unwrap(),
        cores: cores.try_into().unwrap(),
        usable: "0-15".parse().unwrap(),
        // Not isolate's: it would be held by this very process.
        cgroup: Some(format!("/m/{owner}")),
        affinity: true,
        details: Default::default(),
    }
}

impl Model {
    fn live(&self) -> BTreeMap<i32, u64> {
        self.containers.values().map(|c| (c.pid, c.start_time)).collect()
    }

    fn held(&self) -> BTreeSet<&str> {
        let lists = self.containers.values().filter_map(|c| c.lists.as_ref());
        lists.flatten().map(String::as_str).collect()
    }

    fn apply(&mut self, event: &Event, subject: &mut impl Subject) {
        let name = |owner: &u8| format!("c{owner}");
        match event {
            Event::Start { owner, pid, cores, killed_after } => {
                let owner = name(owner);
                let pid_is_used = self.containers.values().any(|c| c.pid == *pid);
                if pid_is_used || self.containers.contains_key(&owner) {
                    return;
                }
                self.clock += 1;
                let (pid, start_time) = (*pid, self.clock);
                let container = Container { pid, start_time, lists: None };
                self.containers.insert(owner.clone(), container);
                subject.live(&self.live());
                let given =
                    subject.allocate(&request(&owner, pid, start_time, *cores), *killed_after);
                if let Some(lists) = given {
                    let new: BTreeSet<&str> = lists.iter().map(String::as_str).collect();
                    assert_eq!(new.len(), *cores, "{lists:?}");
                    assert!(new.is_disjoint(&self.held()), "{new:?} is held: {self:?}");
                    self.containers.get_mut(&owner).unwrap().lists = Some(lists);
                    self.allocated += 1;
                } else if killed_after.is_none() {
                    // Refused: the runtime ends it.
                    assert!(
                        self.unsure() > 0 || self.held().len() + cores > LISTS.len(),
                        "{self:?}"
                    );
                    self.containers.remove(&owner);
                    subject.live(&self.live());
                }
            }
            Event::End { owner } => {
                self.containers.remove(&name(owner));
                subject.live(&self.live());
            }
            Event::Stop { owner, killed_after } => {
                self.containers.remove(&name(owner));
                subject.live(&self.live());
                subject.release(&name(owner), *killed_after);
            }
            Event::StopLate { owner } => subject.release(&name(owner), None),
        }
        self.check(subject);
    }

    /// How many containers may hold lists or not.
    fn unsure(&self) -> usize {
        self.containers.values().filter(|c| c.lists.is_none()).count()
    }

    fn check(&self, subject: &mut impl Subject) {
        let tasks = subject.tasks();
        for (owner, container) in &self.containers {
            for list in container.lists.iter().flatten() {
                assert!(tasks[list].contains(&container.pid), "{owner} lost {list}: {tasks:?}");
                let others = self.containers.iter().filter(|(other, c)| {
                    *other != owner && c.lists.as_ref().is_some_and(|lists| lists.contains(list))
                });
                assert_eq!(others.count(), 0, "{list} has two owners: {self:?}");
            }
        }
        // No list is lost. With crashed ones about, some may be held by them.
        let free = LISTS.len() - self.held().len();
        assert!(!subject.could_have(free + 1), "more than {free} are free: {self:?} {tasks:?}");
        if self.unsure() == 0 && free > 0 {
            assert!(subject.could_have(free), "a list is lost: {self:?} {tasks:?}");
        }
    }
}

fn run(events: &[Event], mut subject: impl Subject) -> usize {
    let mut model = Model::default();
    for event in events {
        model.apply(event, &mut subject);
    }
    // When all have ended, everything is free.
    model.containers.clear();
    subject.live(&model.live());
    model.check(&mut subject);
    model.allocated
}

/// Runs so many random sequences, or `$KCM_MODEL_CASES`, against subjects of one kind.
fn try_all<S: Subject>(name: &str, cases: u32, new: fn() -> S) {
    let cases = std::env::var("KCM_MODEL_CASES").map_or(cases, |text| text.parse().unwrap());
    let config = ProptestConfig { cases, failure_persistence: None, ..Default::default() };
    let (events, allocated) = (Cell::new(0), Cell::new(0));
    let sequences = proptest::collection::vec(event(), 1..80);
    let result = TestRunner::new(config).run(&sequences, |sequence| {
        allocated.set(allocated.get() + run(&sequence, new()));
        events.set(events.get() + sequence.len());
        Ok(())
    });
    result.unwrap();
    println!("{name}: {cases} sequences, {} events, {} allocations", events.get(), allocated.get());
    assert!(allocated.get() > cases as usize);
}

#[test]
fn the_planner_keeps_every_list_for_one_owner_and_loses_none() {
    try_all("planner", 2000, Planner::default);
}

#[test]
fn a_node_keeps_every_list_for_one_owner_and_loses_none() {
    try_all("node", 60, OnDisk::new);
}

#[test]
fn the_model_sees_allocations_of_every_kind() {
    let start = |owner, pid, cores| Event::Start { owner, pid, cores, killed_after: None };
    let events = [
        start(0, 2, 3),
        start(1, 3, 3),
        start(2, 4, 1),
        Event::End { owner: 0 },
        start(0, 5, 1),
        Event::Stop { owner: 1, killed_after: Some(1) },
        start(3, 3, 2),
        Event::StopLate { owner: 3 },
        start(4, 2, 3),
    ];
    assert_eq!(run(&events, Planner::default()), 5);
    assert_eq!(run(&events, OnDisk::new()), 5);
}
