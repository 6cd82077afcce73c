//! What a run has found: `kcm noise --output=json`, and what `--compare` reads. Whatever else is in a
//! file is left alone, and what is missing is nothing.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::window::Window;

/// One run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Report {
    /// The CPUs, in the kernel's list format.
    pub(super) cpus: String,
    /// Each CPU.
    pub(super) each_cpu: Vec<OfCpu>,
    /// Why something is not as exact or as complete as it could be.
    #[serde(default)]
    pub(super) notices: Vec<String>,
    /// What was asked for: `pool dataplane`, `CPUs 2-3`, `container …`.
    pub(super) subject: String,
    /// Where it is from.
    pub(super) source: Origin,
    /// When.
    pub(super) window: Window,
}

/// Where numbers are from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Origin {
    /// Every switch, interrupt and softirq, as traced.
    Tracefs,
    /// Counters of procfs, and run times of threads at intervals.
    Procfs,
}

/// What one CPU had.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct OfCpu {
    pub(super) cpu: u32,
    /// Threads that are no holder's.
    pub(super) foreign_ns: u64,
    /// How long the measuring loop did not run; `--measure` alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) gaps: Option<Gaps>,
    /// Nobody; none where that cannot be told.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) idle_ns: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) interrupts_ns: Option<u64>,
    /// Events that the kernel had no room for.
    pub(super) lost_events: u64,
    /// Who holds it by a record or in `tasks`.
    pub(super) owners: Vec<String>,
    /// All threads of theirs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) owners_ns: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) softirqs_ns: Option<u64>,
    /// All that ran there but the owners, the longest in all first.
    pub(super) sources: Vec<Source>,
    /// What the hypervisor gave to others, to the clock tick.
    pub(super) steal_ns: u64,
    /// Of which nothing is known, since events were lost.
    pub(super) unaccounted_ns: u64,
}

/// Somebody who ran.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Source {
    /// How often.
    pub(super) count: u64,
    /// The container or unit of its cgroup.
    #[serde(rename = "in", skip_serializing_if = "Option::is_none")]
    pub(super) place: Option<String>,
    pub(super) kind: Kind,
    /// At the longest; none where only sums are known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) longest_ns: Option<u64>,
    pub(super) name: String,
    /// Of a thread: from each switch to it to that from it, with the interrupts in them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) on_cpu_ns: Option<u64>,
    /// The thread's number on the host.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) pid: Option<i32>,
    /// The process that it is of, where that is another number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) process: Option<i32>,
    /// Nanoseconds by part of the window, of which each is a 120th of what was asked for.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) timeline: BTreeMap<u32, u64>,
    /// In all; none where only counts are known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) total_ns: Option<u64>,
}

/// What kind of source.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Kind {
    /// A thread of a process.
    Thread,
    /// One of the kernel's own.
    KernelThread,
    Interrupt,
    Softirq,
    Nmi,
    /// A kind that this version does not know.
    #[default]
    #[serde(other)]
    Other,
}

impl Kind {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Thread => "thread",
            Self::KernelThread => "kernel",
            Self::Interrupt => "interrupt",
            Self::Softirq => "softirq",
            Self::Nmi => "nmi",
            Self::Other => "other",
        }
    }
}

/// What a loop that reads the clock has missed.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Gaps {
    /// Those above the threshold, the longest first, as many as are kept.
    pub(super) above: Vec<Gap>,
    /// How many there were above it.
    pub(super) above_count: u64,
    /// By the lower bound of each class in nanoseconds: how many. All but the longest readings.
    pub(super) histogram: BTreeMap<u64, u64>,
    pub(super) max_ns: u64,
    pub(super) p50_ns: u64,
    pub(super) p99_ns: u64,
    pub(super) p999_ns: u64,
    pub(super) p9999_ns: u64,
    /// How often the clock was read.
    pub(super) readings: u64,
    pub(super) threshold_ns: u64,
}

/// One of them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Gap {
    /// When, in nanoseconds since the window began.
    pub(super) at_ns: u64,
    /// Who had the CPU meanwhile, the longest first.
    pub(super) by: Vec<Share>,
    pub(super) length_ns: u64,
    /// What the trace does not explain: firmware (SMI), a hypervisor, or the loop itself.
    pub(super) unexplained_ns: u64,
}

/// A part of a gap.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Share {
    pub(super) kind: Kind,
    pub(super) name: String,
    pub(super) ns: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) pid: Option<i32>,
}
