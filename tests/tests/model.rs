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

use kcm_core::allocation::CgroupId;
use kcm_core::request::Request;
use kcm_core::task::Process;
use model::on_disk::OnDisk;
use model::planner::Planner;
use proptest::prelude::*;
use proptest::test_runner::TestRunner;

/// CPU lists, on two NUMA nodes.
pub(crate) const LISTS: [&str; 6] = ["0", "1", "2", "8", "9", "10"];

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
    /// Somebody does something to a list's `tasks`.
    Harm { list: usize, harm: Harm },
    /// Somebody removes an owner's record.
    LoseRecord { owner: u8 },
    /// `kcm reconcile`.
    Reconcile,
    /// The machine loses power: what was written last may be blank. A process of the new boot has a
    /// PID that may be in some `tasks`.
    PowerCut { blank_tasks: bool, blank_records: bool, stranger: i32 },
}

/// What is done to a `tasks`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Harm {
    Emptied,
    Removed,
    Blanked,
    Garbled,
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
        2 => (0..LISTS.len(), harm()).prop_map(|(list, harm)| Event::Harm { list, harm }),
        1 => owner().prop_map(|owner| Event::LoseRecord { owner }),
        1 => Just(Event::Reconcile),
        1 => (any::<bool>(), any::<bool>(), 2..12_i32).prop_map(
            |(blank_tasks, blank_records, stranger)| Event::PowerCut {
                blank_tasks,
                blank_records,
                stranger,
            }
        ),
    ]
}

fn harm() -> impl Strategy<Value = Harm> {
    let kinds = [Harm::Emptied, Harm::Removed, Harm::Blanked, Harm::Garbled];
    proptest::sample::select(kinds.to_vec())
}

/// What can allocate and release.
pub(crate) trait Subject {
    /// The lists that the request is given; none where it is refused, or the hook was killed.
    fn allocate(&mut self, request: &Request, killed_after: Option<usize>) -> Option<Vec<String>>;
    fn release(&mut self, owner: &str, killed_after: Option<usize>);
    /// A process came or went.
    fn live(&mut self, live: &BTreeMap<i32, u64>);
    /// Somebody does something to a list's `tasks`.
    fn harm(&mut self, list: &str, harm: Harm);
    /// Somebody removes an owner's record.
    fn lose_record(&mut self, owner: &str);
    /// `kcm reconcile`.
    fn reconcile(&mut self);
    /// The machine boots after a power cut.
    fn power_cut(&mut self, blank_tasks: bool, blank_records: bool, boot: usize);
    /// What it looks like, for a message.
    fn look(&self) -> String;
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

/// The number of this boot.
pub(crate) fn boot_id(boot: usize) -> String {
    format!("boot {boot}")
}

/// What is true, told without any of kcm's code.
#[derive(Debug, Default)]
struct Model {
    containers: BTreeMap<String, Container>,
    clock: u64,
    allocated: usize,
    boot: usize,
    /// A process that is no container's.
    stranger: Option<i32>,
    /// Lists whose `tasks` is garbled: out of use as soon as nobody holds them.
    garbled: BTreeSet<String>,
    harmed: usize,
}

pub(crate) fn request(
    owner: &str,
    pid: i32,
    start_time: u64,
    cores: usize,
    boot: usize,
) -> Request {
    Request {
        owner: owner.parse().unwrap(),
        process: Process {
            pid: pid.try_into().unwrap(),
            start_time: Some(start_time),
            boot_id: boot_id(boot),
        },
        pool: "p".parse().unwrap(),
        cores: cores.try_into().unwrap(),
        usable: "0-15".parse().unwrap(),
        cgroup: Some(CgroupId { path: format!("/m/{owner}"), inode: None }),
        affinity: true,
        partition: None,
        within: None,
        had: None,
        details: Default::default(),
    }
}

impl Model {
    fn live(&self) -> BTreeMap<i32, u64> {
        let containers = self.containers.values().map(|c| (c.pid, c.start_time));
        // It started before any of them.
        containers.chain(self.stranger.map(|pid| (pid, 0))).collect()
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
                let pid_is_used = self.live().contains_key(pid);
                if pid_is_used || self.containers.contains_key(&owner) {
                    return;
                }
                self.clock += 1;
                let (pid, start_time) = (*pid, self.clock);
                let container = Container { pid, start_time, lists: None };
                self.containers.insert(owner.clone(), container);
                subject.live(&self.live());
                let request = request(&owner, pid, start_time, *cores, self.boot);
                let given = subject.allocate(&request, *killed_after);
                if let Some(lists) = given {
                    let new: BTreeSet<&str> = lists.iter().map(String::as_str).collect();
                    assert_eq!(new.len(), *cores, "{lists:?}");
                    assert!(new.is_disjoint(&self.held()), "{new:?} is held: {self:?}");
                    assert!(new.is_disjoint(&self.garbled.iter().map(String::as_str).collect()));
                    self.containers.get_mut(&owner).unwrap().lists = Some(lists);
                    self.allocated += 1;
                } else if killed_after.is_none() {
                    // Refused: the runtime ends it.
                    assert!(
                        self.unsure() > 0 || *cores > self.free(),
                        "{self:?} {}",
                        subject.look()
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
            Event::Harm { list, harm } => {
                subject.harm(LISTS[*list], *harm);
                match harm {
                    Harm::Garbled => self.garbled.insert(LISTS[*list].to_owned()),
                    _ => self.garbled.remove(LISTS[*list]),
                };
                self.harmed += 1;
            }
            Event::LoseRecord { owner } => {
                subject.lose_record(&name(owner));
                self.harmed += 1;
            }
            Event::Reconcile => {
                subject.reconcile();
                self.garbled.clear();
            }
            Event::PowerCut { blank_tasks, blank_records, stranger } => {
                self.containers.clear();
                self.boot += 1;
                self.stranger = Some(*stranger);
                if *blank_tasks {
                    self.garbled.clear();
                }
                subject.power_cut(*blank_tasks, *blank_records, self.boot);
                subject.live(&self.live());
            }
        }
        self.check(subject);
    }

    /// How many containers may hold lists or not.
    fn unsure(&self) -> usize {
        self.containers.values().filter(|c| c.lists.is_none()).count()
    }

    /// The lists that anybody can be given.
    fn free(&self) -> usize {
        let held = self.held();
        let usable = |list: &&str| !held.contains(list) && !self.garbled.contains(*list);
        LISTS.into_iter().filter(usable).count()
    }

    fn check(&self, subject: &mut impl Subject) {
        for (owner, container) in &self.containers {
            for list in container.lists.iter().flatten() {
                let others = self.containers.iter().filter(|(other, c)| {
                    *other != owner && c.lists.as_ref().is_some_and(|lists| lists.contains(list))
                });
                assert_eq!(others.count(), 0, "{list} has two owners: {self:?}");
            }
        }
        // No list is lost. With crashed ones about, some may be held by them.
        let (free, look) = (self.free(), subject.look());
        assert!(!subject.could_have(free + 1), "more than {free} are free: {self:?} {look}");
        if self.unsure() == 0 && free > 0 {
            assert!(subject.could_have(free), "a list is lost: {self:?} {look}");
        }
    }
}

/// How many allocations there were, and how often something was harmed.
fn run(events: &[Event], mut subject: impl Subject) -> (usize, usize) {
    let mut model = Model::default();
    for event in events {
        model.apply(event, &mut subject);
    }
    // When all have ended, everything is free, after a reconcile also what was garbled.
    model.containers.clear();
    model.stranger = None;
    subject.live(&model.live());
    model.check(&mut subject);
    model.apply(&Event::Reconcile, &mut subject);
    assert_eq!(model.free(), LISTS.len());
    (model.allocated, model.harmed)
}

/// Runs so many random sequences, or `$KCM_MODEL_CASES`, against subjects of one kind.
fn try_all<S: Subject>(name: &str, cases: u32, new: fn() -> S) {
    let cases = std::env::var("KCM_MODEL_CASES").map_or(cases, |text| text.parse().unwrap());
    let config = ProptestConfig { cases, failure_persistence: None, ..Default::default() };
    let (events, allocated, harmed) = (Cell::new(0), Cell::new(0), Cell::new(0));
    let sequences = proptest::collection::vec(event(), 1..80);
    let result = TestRunner::new(config).run(&sequences, |sequence| {
        let (allocations, harms) = run(&sequence, new());
        allocated.set(allocated.get() + allocations);
        harmed.set(harmed.get() + harms);
        events.set(events.get() + sequence.len());
        Ok(())
    });
    result.unwrap();
    let (events, allocated, harmed) = (events.get(), allocated.get(), harmed.get());
    println!("{name}: {cases} sequences, {events} events, {allocated} allocations, {harmed} harms");
    assert!(allocated > cases as usize && harmed > cases as usize);
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
    assert_eq!(run(&events, Planner::default()), (5, 0));
    assert_eq!(run(&events, OnDisk::new()), (5, 0));
}
