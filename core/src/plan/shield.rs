//! What is to be set so that the node's own work keeps off CPUs, and what to set to undo it.
//!
//! ```text
//! what there is (Found), what was kept of before (Kept), what is wished (Wish) ─► steps (Plan)
//! ```
//!
//! A value is text, as a person would write it: a CPU list in canonical form, empty for *none said*;
//! for some kinds a number or a word.
//!
//! Of each item that is changed two values are kept: what it had *before*, and what it was *set* to.
//! An item is still ours if it has either: with the first it was not come to. (Or what an earlier plan
//! set it to, while a later one is carried out.) Whatever else it has, somebody has set since, and it
//! is his.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::CpuSet;
use crate::task::Pid;

pub mod boot;

/// What can keep the node's own work off CPUs, in the order in which it is set: irqbalance first,
/// which would move interrupts back; slices before the threads in them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// The CPUs that irqbalance leaves alone.
    Irqbalance,
    /// Where interrupts are served that do not exist yet (`/proc/irq/default_smp_affinity`).
    NewInterrupts,
    /// Where an interrupt is served, by its number.
    Interrupt,
    /// `AllowedCPUs=` of a systemd unit.
    Slice,
    /// The affinity of a thread whose unit is a [`Kind::Slice`], where a kernel before 6.2 forgets it.
    Thread,
    /// The affinity of a kernel thread. (That of kthreadd is not inherited by new ones, but where the
    /// kernel was booted with nohz_full: kernel/kthread.c.)
    KernelThread,
    /// Where work goes that is bound to no CPU.
    Workqueues,
    /// Which CPUs the soft-lockup watchdog wakes.
    Watchdog,
    /// Seconds between two rounds of the memory statistics (`vm.stat_interval`).
    Statistics,
    /// CPUs that take over received packets, as `eth0/rx-0`.
    Receive,
    /// CPUs that a queue sends for, as `eth0/tx-0`.
    Transmit,
    /// How many microseconds a CPU may take to wake up, by its number.
    Latency,
    /// A CPU's frequency governor, by its number.
    Governor,
}

impl Kind {
    /// The kind in a word, as in the state file.
    pub fn word(self) -> &'static str {
        match self {
            Self::Irqbalance => "irqbalance",
            Self::NewInterrupts => "new-interrupts",
            Self::Interrupt => "interrupt",
            Self::Slice => "slice",
            Self::Thread => "thread",
            Self::KernelThread => "kernel-thread",
            Self::Workqueues => "workqueues",
            Self::Watchdog => "watchdog",
            Self::Statistics => "statistics",
            Self::Receive => "receive",
            Self::Transmit => "transmit",
            Self::Latency => "latency",
            Self::Governor => "governor",
        }
    }

    /// Whether its value is where something runs, so that a shield takes CPUs out of it.
    fn is_where(self) -> bool {
        !matches!(self, Self::Irqbalance | Self::Statistics | Self::Latency | Self::Governor)
    }
}

/// Which thread it is, beyond the reuse of process ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Thread {
    /// Its number on the host.
    pub pid: Pid,
    /// Clock ticks since boot.
    pub start_time: u64,
}

/// One thing that can be set.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Item {
    /// What it is.
    pub kind: Kind,
    /// Which one: a unit, a number, a queue; a thread's name. Empty where there is one only.
    pub name: String,
    /// The thread that it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub thread: Option<Thread>,
}

impl Item {
    /// One that has a name.
    pub fn new(kind: Kind, name: impl Into<String>) -> Self {
        Self { kind, name: name.into(), thread: None }
    }

    /// A thread, whose name may change.
    pub fn thread(kind: Kind, name: impl Into<String>, thread: Thread) -> Self {
        Self { kind, name: name.into(), thread: Some(thread) }
    }

    /// What tells it from others, in the order in which things are set.
    pub fn key(&self) -> (Kind, Option<Thread>, &str) {
        (self.kind, self.thread, if self.thread.is_some() { "" } else { &self.name })
    }
}

/// An item as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Which.
    pub item: Item,
    /// Its value.
    pub now: String,
    /// The value that it would have without a shield, where more than what is kept tells.
    pub before: Option<String>,
    /// Why nobody can change it.
    pub fixed: Option<String>,
}

impl Found {
    /// One that can be changed, as far as is known.
    pub fn new(item: Item, now: impl Into<String>) -> Self {
        Self { item, now: now.into(), before: None, fixed: None }
    }
}

/// What is remembered of an item that was changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    /// Which.
    #[serde(flatten)]
    pub item: Item,
    /// The value that it had.
    pub before: String,
    /// The value that it was given.
    pub set: String,
    /// The value that it was given by an earlier plan, and may still have: while this one is carried
    /// out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub earlier: Option<String>,
}

impl Kept {
    /// Whether a value is one that it had before, or was given by us.
    fn is_ours(&self, now: &str) -> bool {
        now == self.set || now == self.before || self.earlier.as_deref() == Some(now)
    }

    /// The value that it had before, unless somebody has set it since.
    fn base<'a>(&'a self, now: &'a str) -> &'a str {
        if self.is_ours(now) { &self.before } else { now }
    }
}

/// What is wished of the node.
#[derive(Clone, Debug, Default)]
pub struct Wish {
    /// The CPUs that the node's own work is to leave.
    pub shield: CpuSet,
    /// Those that are online.
    pub online: CpuSet,
    /// Those that the machine could ever have.
    pub possible: CpuSet,
    /// Those that irqbalance leaves alone by itself, as long as nobody tells it which: what is
    /// isolated, and has no tick.
    pub isolated: CpuSet,
    /// Microseconds that a CPU of the shield may take to wake up; 0: none at all.
    pub latency: Option<u32>,
    /// The governor of the shield's CPUs.
    pub governor: Option<String>,
    /// Units that are left alone, and why.
    pub spared: BTreeMap<String, String>,
}

/// Seconds between two rounds of statistics: each wakes every CPU that has something to count.
const STAT_INTERVAL: u32 = 120;

/// The kernel's word for *no time at all* (Documentation/ABI/testing/sysfs-devices-power); its 0 is
/// *any time*.
const NO_LATENCY: &str = "n/a";

/// What is to become of an item.
enum Wanted {
    AsItWas,
    Value(String),
    Cannot(String),
}

impl Wish {
    /// What an item that had this value is to have.
    fn of(&self, item: &Item, before: &str) -> Wanted {
        let word = |word: &str| match word == before {
            true => Wanted::AsItWas,
            false => Wanted::Value(word.to_owned()),
        };
        let is_shielded = || item.name.parse().is_ok_and(|cpu| self.shield.contains(cpu));
        match item.kind {
            Kind::Irqbalance => {
                word(&cpus(before).union(&self.shield).union(&self.isolated).to_string())
            }
            Kind::Statistics => match before.parse::<u32>() {
                Ok(seconds) if seconds < STAT_INTERVAL => word(&STAT_INTERVAL.to_string()),
                _ => Wanted::AsItWas,
            },
            Kind::Latency => match self.latency.filter(|_| is_shielded()) {
                Some(0) => word(NO_LATENCY),
                Some(microseconds) => word(&microseconds.to_string()),
                None => Wanted::AsItWas,
            },
            Kind::Governor => match self.governor.as_deref().filter(|_| is_shielded()) {
                Some(governor) => word(governor),
                None => Wanted::AsItWas,
            },
            Kind::Slice if self.spared.contains_key(&item.name) => {
                Wanted::Cannot(self.spared[&item.name].clone())
            }
            _ => self.elsewhere(item.kind, before),
        }
    }

    /// The same CPUs without the shield's.
    fn elsewhere(&self, kind: Kind, before: &str) -> Wanted {
        let had = match kind {
            // Nobody has said which: all.
            Kind::Slice if cpus(before).is_empty() => self.possible.clone(),
            _ => cpus(before),
        };
        if had.intersection(&self.shield).is_empty() {
            // A cpuset write takes from threads what they have set themselves.
            return match kind {
                Kind::Thread => Wanted::Value(before.to_owned()),
                _ => Wanted::AsItWas,
            };
        }
        let rest = had.difference(&self.shield);
        match (rest.is_empty(), kind) {
            (false, _) => Wanted::Value(rest.to_string()),
            (true, Kind::KernelThread) => {
                Wanted::Cannot("it has work on these CPUs alone".to_owned())
            }
            (true, Kind::Slice) => Wanted::Cannot(format!(
                "its AllowedCPUs={before} are the shield's alone: give it others"
            )),
            (true, _) => Wanted::Value(self.online.difference(&self.shield).to_string()),
        }
    }
}

/// The CPUs of a value; none where it has none.
pub fn cpus(value: &str) -> CpuSet {
    let list = value.strip_prefix(KERNEL_ONLY).unwrap_or(value);
    CpuSet::parse_possibly_empty(list).unwrap_or_default()
}

/// Before the CPUs of a unit whose cpuset has them though systemd's `AllowedCPUs=` is empty: systemd
/// leaves a list that it was told to forget.
pub const KERNEL_ONLY: &str = "kernel ";

/// An item that is to be set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// Which.
    pub item: Item,
    /// What it had before there was a shield.
    pub before: String,
    /// What it has.
    pub now: String,
    /// What it is to have.
    pub wanted: String,
}

impl Step {
    /// One for an item that has what it is to have, and is remembered so.
    fn mark(found: &Found) -> Self {
        let now = &found.now;
        let [before, wanted] = [now, now].map(Clone::clone);
        Self { item: found.item.clone(), before, now: now.clone(), wanted }
    }

    /// Whether there was nothing to change, ever.
    pub fn is_mark(&self) -> bool {
        self.now == self.before && self.wanted == self.before
    }

    /// What is remembered while it is done: any value that it may have then.
    pub fn kept(&self) -> Kept {
        let (before, set, now) = (&self.before, &self.wanted, &self.now);
        let earlier = (now != before && now != set).then(|| now.clone());
        Kept { item: self.item.clone(), before: before.clone(), set: set.clone(), earlier }
    }
}

/// An item that stays as it is, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Left {
    /// Which.
    pub item: Item,
    /// What it has.
    pub now: String,
    /// Why.
    pub why: String,
}

/// What to do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Items to set, in order; those that have their value already are among them, since what they
    /// had before is remembered.
    pub steps: Vec<Step>,
    /// Items that stay.
    pub left: Vec<Left>,
}

/// What to do so that the node's own work keeps off the shield's CPUs.
pub fn on(found: &[Found], kept: &[Kept], wish: &Wish) -> Plan {
    let all: BTreeMap<_, _> = kept.iter().map(|kept| (kept.item.key(), kept)).collect();
    let before = |found: &Found| match (&found.before, all.get(&found.item.key())) {
        (Some(before), _) => before.clone(),
        (None, Some(kept)) => kept.base(&found.now).to_owned(),
        (None, None) => born(found, kept).unwrap_or(&found.now).to_owned(),
    };
    let mut plan = Plan::default();
    for found in found {
        let Found { item, now, fixed, .. } = found;
        let before = before(found);
        let step = |wanted: &str| Step {
            item: item.clone(),
            before: before.clone(),
            now: now.clone(),
            wanted: wanted.to_owned(),
        };
        let (planned, why) = match (wish.of(item, &before), fixed) {
            (Wanted::Value(_), Some(why)) => (None, Some(why.clone())),
            (Wanted::Value(wanted), None) => (Some(step(&wanted)), None),
            (Wanted::Cannot(why), fixed) => (None, Some(fixed.clone().unwrap_or(why))),
            (Wanted::AsItWas, _) => (None, None),
        };
        // It was changed for a shield that had other CPUs, or by other flags.
        let given_back = || (*now != before).then(|| step(&before));
        plan.steps.extend(planned.or_else(given_back));
        plan.left.extend(why.map(|why| Left { item: item.clone(), now: now.clone(), why }));
    }
    // Those that have by themselves what new ones will be born with: they are told apart from these.
    let parents: Vec<Kept> = plan.steps.iter().map(Step::kept).collect();
    let alike = found.iter().filter(|it| born(it, &parents).is_some() && before(it) == it.now);
    let alike = alike.filter(|it| parents.iter().all(|step| step.item.key() != it.item.key()));
    plan.steps.extend(alike.map(Step::mark));
    plan.steps.sort_by(|a, b| a.item.key().cmp(&b.item.key()));
    plan.left.sort_by(|a, b| a.item.key().cmp(&b.item.key()));
    plan
}

/// What to do so that everything is as it was before.
pub fn off(found: &[Found], kept: &[Kept]) -> Plan {
    let all: BTreeMap<_, _> = kept.iter().map(|kept| (kept.item.key(), kept)).collect();
    let mut plan = Plan::default();
    for found in found {
        let Found { item, now, .. } = found;
        let (before, wanted) = match (&found.before, all.get(&item.key())) {
            (Some(before), _) => (before, before),
            (None, Some(kept)) if kept.is_ours(now) => (&kept.before, &kept.before),
            // The slice's cpuset is about to be written, which takes it away.
            (None, _) if item.kind == Kind::Thread => (now, now),
            (None, Some(kept)) => {
                let why = format!(
                    "somebody has set it since: it was {}, and the shield set {}",
                    said(&kept.before),
                    said(&kept.set)
                );
                plan.left.push(Left { item: item.clone(), now: now.clone(), why });
                continue;
            }
            (None, None) => match born(found, kept) {
                Some(before) => (before, before),
                None => continue,
            },
        };
        let (before, wanted) = (before.clone(), wanted.clone());
        plan.steps.push(Step { item: item.clone(), before, now: now.clone(), wanted });
    }
    let last = |step: &Step| step.item.kind == Kind::Irqbalance;
    plan.steps.sort_by(|a, b| (last(a), a.item.key()).cmp(&(last(b), b.item.key())));
    plan
}

/// What an interrupt would have had that came to be under the shield, with the value for new ones; none
/// for any other item.
fn born<'a>(found: &Found, kept: &'a [Kept]) -> Option<&'a String> {
    if found.item.kind != Kind::Interrupt {
        return None;
    }
    let parent = kept.iter().find(|kept| kept.item.kind == Kind::NewInterrupts)?;
    (found.now == parent.set && found.fixed.is_none()).then_some(&parent.before)
}

/// A value as it is shown.
pub fn said(value: &str) -> &str {
    if value.is_empty() { "none" } else { value }
}

/// Whether a value has CPUs of the shield on which something would run.
pub fn touches(item: &Item, now: &str, shield: &CpuSet) -> bool {
    item.kind.is_where() && !cpus(now).intersection(shield).is_empty()
}

#[cfg(test)]
mod tests;
