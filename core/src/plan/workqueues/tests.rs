//! A node in memory on which hooks, the shield and `uninstall` follow one another in every order, each
//! killed before any of its writes.

use super::*;
use crate::host::shield::{Aim, World, carry_out};
use crate::plan::shield::{Found, Item, Kept, Kind, Wish, cpus, off, on};

const ALL: &str = "0-9";
/// Writes of one that is not killed.
const FOR_EVER: usize = usize::MAX;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Act {
    /// A hook has made a partition of these.
    Hook(&'static str),
    /// The kernel has an isolated partition of these, of somebody else's.
    Isolated(&'static str),
    /// All partitions end.
    End,
    On(&'static str),
    Off,
    Uninstall,
}

const ACTS: [Act; 8] = [
    Act::Hook("2-3"),
    Act::Hook("4"),
    Act::Isolated("5"),
    Act::End,
    Act::On("2-5"),
    // After another init.
    Act::On("4-7"),
    Act::Off,
    Act::Uninstall,
];

struct Node {
    mask: CpuSet,
    note: Option<Note>,
    kept: Vec<Kept>,
    isolated: CpuSet,
    partitions: CpuSet,
    /// Writes until kcm is killed: then it writes no more.
    life: usize,
}

impl Node {
    fn new() -> Self {
        let (mask, none) = (cpus(ALL), CpuSet::new());
        let (isolated, partitions) = (none.clone(), none);
        Self { mask, note: None, kept: Vec::new(), isolated, partitions, life: FOR_EVER }
    }

    fn lives(&mut self) -> bool {
        let lives = self.life > 0;
        self.life = self.life.saturating_sub(1);
        lives
    }

    fn layers(&self) -> Layers {
        Note::layers(self.note.clone(), self.mask.clone())
    }

    /// As `host::workqueues` does it.
    fn put(&mut self, before: Layers, now: Layers) {
        let (mask, is_over) = (now.mask.clone(), now.are_others_alone());
        if self.lives() {
            self.note = Some(Note { now, before });
        }
        if self.lives() {
            self.mask = mask;
        }
        if is_over && self.lives() {
            self.note = None;
        }
    }

    fn had(&self) -> CpuSet {
        self.partitions.union(&self.isolated)
    }

    fn shield(&mut self, aim: Aim, pool: &str) {
        let (item, layers) = (Item::new(Kind::Workqueues, ""), self.layers());
        let found = Found::new(item, layers.seen_by_the_shield().to_string());
        let found = [Found { before: Some(layers.others.to_string()), ..found }];
        let all = cpus(ALL);
        let wish =
            Wish { shield: cpus(pool), online: all.clone(), possible: all, ..Wish::default() };
        let plan = match aim {
            Aim::On => on(&found, &self.kept, &wish),
            Aim::Off => off(&found, &self.kept),
        };
        assert_eq!(plan.left, [], "it takes what a hook did for somebody else's");
        let node = std::cell::RefCell::new(self);
        let keep = |items| {
            let mut node = node.borrow_mut();
            if node.lives() {
                node.kept = items;
            }
            Ok::<_, ()>(())
        };
        carry_out(&mut &node, aim, plan.steps, keep).unwrap();
    }

    fn act(&mut self, act: Act) {
        match act {
            Act::Hook(list) => {
                self.partitions = self.partitions.union(&cpus(list));
                let (used, layers) = (self.mask.difference(&self.isolated), self.layers());
                if !used.intersection(&cpus(list)).is_empty() {
                    let now = layers.keep_off(&cpus(list), &used).unwrap();
                    self.put(layers, now);
                }
            }
            Act::Isolated(list) => self.isolated = cpus(list),
            Act::End => (self.isolated, self.partitions) = (CpuSet::new(), CpuSet::new()),
            Act::On(pool) => self.shield(Aim::On, pool),
            Act::Off => self.shield(Aim::Off, ""),
            // Refused under the shield.
            Act::Uninstall if !self.kept.is_empty() => {}
            Act::Uninstall => {
                let layers = self.layers();
                let now = layers.given_back(&self.had());
                self.put(layers, now);
            }
        }
    }

    /// What holds once kcm has done it.
    fn must_be_right_after(&self, act: Act) {
        let is_off = |list: &str| self.mask.intersection(&cpus(list)).is_empty();
        match act {
            Act::Hook(list) | Act::On(list) => assert!(is_off(list), "{}", self.mask),
            Act::Off => {
                let told = self.mask.union(&self.layers().hooks).union(&self.had());
                assert_eq!(told, cpus(ALL), "CPUs are out of it for nobody");
            }
            Act::Uninstall if self.kept.is_empty() => {
                assert_eq!(self.mask, cpus(ALL).difference(&self.had()));
            }
            Act::Uninstall | Act::Isolated(_) | Act::End => {}
        }
    }
}

impl World for &std::cell::RefCell<&mut Node> {
    fn read(&mut self, _: &Item) -> Result<Option<String>, String> {
        Ok(Some(self.borrow().layers().seen_by_the_shield().to_string()))
    }

    fn write(&mut self, _: &Item, value: &str) -> Result<(), String> {
        let mut node = self.borrow_mut();
        let (layers, had) = (node.layers(), node.had());
        let now = layers.shielded(&cpus(value), &had);
        node.put(layers, now);
        Ok(())
    }
}

/// Whatever was done, and wherever one of it was killed: when all has ended, the mask is as it was.
#[test]
fn in_whatever_order_hooks_and_the_shield_come_and_go_every_cpu_comes_back() {
    let number = ACTS.len().pow(3);
    for number in 0..number {
        let acts = [0, 1, 2].map(|n| ACTS[number / ACTS.len().pow(n) % ACTS.len()]);
        println!("{acts:?}");
        for killed in 0..acts.len() {
            for life in [0, 1, 2, 3, 4, 5, FOR_EVER] {
                let mut node = Node::new();
                let all = acts.into_iter().chain([Act::End, Act::Off, Act::Uninstall]);
                for (at, act) in all.enumerate() {
                    node.life = if at == killed { life } else { FOR_EVER };
                    node.act(act);
                    if node.life > 0 {
                        node.must_be_right_after(act);
                    }
                }
                let what = format!("{acts:?}, the writes of number {killed} end after {life}");
                assert_eq!(node.mask, cpus(ALL), "{what}");
                assert_eq!((node.note, node.kept), (None, Vec::new()), "{what}");
            }
        }
    }
}

#[test]
fn what_somebody_else_puts_in_or_takes_out_is_his() {
    let mut node = Node::new();
    node.act(Act::Hook("2-3"));
    node.mask = cpus("0-2,4-7");
    node.act(Act::End);
    node.act(Act::Uninstall);
    assert_eq!(node.mask, cpus("0-7"));
    // Under the shield as well.
    node.act(Act::On("2-5"));
    node.mask = cpus("1,4,6-7");
    node.act(Act::Hook("4"));
    assert_eq!(node.mask, cpus("1,6-7"));
    node.act(Act::End);
    node.act(Act::Off);
    assert_eq!(node.mask, cpus("1-3,5-7"));
    node.act(Act::Uninstall);
    assert_eq!(node.mask, cpus("1-7"));
}

#[test]
fn the_kernels_work_stays_somewhere() {
    let mut node = Node::new();
    let layers = node.layers();
    assert_eq!(layers.keep_off(&cpus(ALL), &node.mask), None);
    node.act(Act::Hook("2-3"));
    // The shield leaves it the very CPUs that hooks have taken out.
    let layers = node.layers().shielded(&cpus("2-3"), &CpuSet::new());
    assert_eq!(layers.mask, cpus("2-3"));
    assert_eq!(layers.seen_by_the_shield(), cpus("2-3"));
}
