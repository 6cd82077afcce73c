//! A node in memory, on which kcm is killed before each single write.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

use super::*;
use crate::plan::shield::{Found, Kind, Plan, Thread, Wish, cpus, off, on};

/// Kcm was killed.
struct Killed;

#[derive(Clone, Default)]
struct Memory {
    items: BTreeMap<usize, Found>,
    /// Writes until kcm is killed; none: never.
    life: Option<usize>,
    /// A slice's write takes their own affinities from threads, as Linux before 6.2.
    forgets: bool,
    refuses: Vec<&'static str>,
    remembered: Vec<Kept>,
}

impl Memory {
    fn new() -> Self {
        let thread = |pid: i32| Thread { pid: pid.try_into().unwrap(), start_time: 7 };
        let named = |kind, name: &str, now: &str| Found::new(Item::new(kind, name), now);
        let items = [
            named(Kind::Irqbalance, "", ""),
            named(Kind::NewInterrupts, "", "0-15"),
            named(Kind::Interrupt, "24", "0-15"),
            named(Kind::Interrupt, "25", "3"),
            named(Kind::Interrupt, "26", "4"),
            named(Kind::Interrupt, "27", "0-1,6-15"),
            named(Kind::Slice, "system.slice", ""),
            named(Kind::Slice, "user.slice", "0-7"),
            Found::new(Item::thread(Kind::Thread, "worker", thread(50)), "2-3"),
            Found::new(Item::thread(Kind::Thread, "free", thread(51)), "9"),
            Found::new(Item::thread(Kind::KernelThread, "kthreadd", thread(2)), "0-15"),
            named(Kind::Workqueues, "", "0-15"),
            named(Kind::Watchdog, "", "0-15"),
            named(Kind::Statistics, "", "1"),
            named(Kind::Receive, "eth0/rx-0", "2-3"),
            named(Kind::Latency, "2", "0"),
        ];
        let items = items.into_iter().enumerate().collect();
        Self { items, forgets: true, refuses: vec!["26"], ..Self::default() }
    }

    fn values(&self) -> Vec<&str> {
        self.items.values().map(|found| found.now.as_str()).collect()
    }

    fn found(&self) -> Vec<Found> {
        let mut found: Vec<Found> = self.items.values().cloned().collect();
        for it in &mut found {
            let kept = self.remembered.iter().find(|kept| kept.item.key() == it.item.key());
            // As `threads::kept` has it.
            if it.now == LOST
                && let Some(kept) = kept
            {
                it.now.clone_from(&kept.set);
            }
        }
        found
    }

    /// A moment at which kcm may be killed.
    fn live(&mut self) {
        match &mut self.life {
            Some(0) => std::panic::panic_any(Killed),
            Some(left) => *left -= 1,
            None => {}
        }
    }

    fn carry_out(&mut self, aim: Aim, plan: Plan) -> Vec<Done> {
        // What is on disk outlives it.
        let mut world = std::mem::take(self);
        let mut disk = world.remembered.clone();
        let life = world.life;
        let run = catch_unwind(AssertUnwindSafe(|| {
            let mut keep_life = life;
            carry_out(&mut world, aim, plan.steps, |kept| {
                match &mut keep_life {
                    Some(0) => std::panic::panic_any(Killed),
                    Some(left) => *left -= 1,
                    None => {}
                }
                disk = kept;
                Ok::<(), Killed>(())
            })
        }));
        *self = world;
        self.remembered = disk;
        run.map_or_else(|_| Vec::new(), |done| done.unwrap_or_default())
    }
}

/// What a thread has that has lost its own affinity.
const LOST: &str = "lost";

impl World for Memory {
    fn read(&mut self, item: &Item) -> Result<Option<String>, String> {
        let found = self.items.values().find(|found| found.item.key() == item.key());
        Ok(found.map(|found| found.now.clone()))
    }

    fn write(&mut self, item: &Item, value: &str) -> Result<(), String> {
        self.live();
        if self.refuses.contains(&item.name.as_str()) {
            return Err("Input/output error".to_owned());
        }
        for found in self.items.values_mut() {
            if found.item.key() == item.key() {
                value.clone_into(&mut found.now);
            } else if self.forgets && item.kind == Kind::Slice && found.item.kind == Kind::Thread {
                LOST.clone_into(&mut found.now);
            }
        }
        Ok(())
    }
}

fn wish(shield: &str) -> Wish {
    let all = cpus("0-15");
    let latency = Some(0);
    Wish { shield: cpus(shield), online: all.clone(), possible: all, latency, ..Wish::default() }
}

fn put_on(node: &mut Memory, shield: &str) -> Vec<Done> {
    let plan = on(&node.found(), &node.remembered.clone(), &wish(shield));
    node.carry_out(Aim::On, plan)
}

fn take_off(node: &mut Memory) -> Vec<Done> {
    let plan = off(&node.found(), &node.remembered.clone());
    node.carry_out(Aim::Off, plan)
}

#[test]
fn on_sets_all_that_can_be_set_names_what_cannot_and_off_undoes_it() {
    let before = Memory::new();
    let mut node = before.clone();
    let done = put_on(&mut node, "2-5");
    let failed: Vec<&str> = done
        .iter()
        .filter(|done| done.failure.is_some())
        .map(|done| done.step.item.name.as_str())
        .collect();
    assert_eq!(failed, ["26"]);
    let after = [
        "2-5", "0-1,6-15", "0-1,6-15", "0-1,6-15", "4", "0-1,6-15", "0-1,6-15", "0-1,6-7",
        "0-1,6-15", "9", "0-1,6-15", "0-1,6-15", "0-1,6-15", "120", "0-1,6-15", "n/a",
    ];
    assert_eq!(node.values(), after);
    assert!(node.remembered.iter().all(|kept| kept.item.name != "26"), "nothing to undo of it");
    let again = put_on(&mut node, "2-5");
    assert!(again.iter().all(|done| done.step.now == done.step.wanted || done.failure.is_some()));
    assert_eq!(node.values(), after);
    take_off(&mut node);
    assert_eq!((node.values(), node.remembered.len()), (before.values(), 0));
}

#[test]
fn killed_before_any_write_it_is_mended_by_the_next_off_and_by_the_next_on() {
    let before = Memory::new();
    let mut whole = before.clone();
    put_on(&mut whole, "2-5");
    let mut tried = 0;
    for life in 0.. {
        let mut node = Memory { life: Some(life), ..before.clone() };
        let survived = !put_on(&mut node, "2-5").is_empty();
        node.life = None;
        let mut other = node.clone();
        take_off(&mut node);
        assert_eq!(
            (node.values(), node.remembered.len()),
            (before.values(), 0),
            "killed at {life}"
        );
        put_on(&mut other, "2-5");
        assert_eq!(other.values(), whole.values(), "killed at {life}, and then on");
        take_off(&mut other);
        assert_eq!((other.values(), other.remembered.len()), (before.values(), 0), "at {life}");
        tried += 1;
        if survived {
            break;
        }
    }
    assert!(tried > 12, "{tried}");
}

#[test]
fn killed_while_it_is_taken_off_or_planned_anew_it_is_mended_by_the_next_off() {
    let before = Memory::new();
    for (name, step) in [
        ("off", take_off as fn(&mut Memory) -> Vec<Done>),
        ("on with other pools", |node| put_on(node, "8-11")),
    ] {
        for life in 0..40 {
            let mut node = before.clone();
            put_on(&mut node, "2-5");
            node.life = Some(life);
            step(&mut node);
            node.life = None;
            take_off(&mut node);
            assert_eq!(node.values(), before.values(), "{name}: killed at {life}");
            assert_eq!(node.remembered.len(), 0);
        }
    }
}
