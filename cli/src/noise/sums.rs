//! The sources of all CPUs of a report together: by kind, name and place, whatever their numbers are,
//! which no two runs share.

use std::collections::BTreeMap;

use super::report::{Kind, Report, Source};

/// Who.
pub(super) type Key = (Kind, String, Option<String>);

/// What all of a name have had.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Sum {
    pub(super) count: u64,
    pub(super) longest: Option<u64>,
    pub(super) timeline: BTreeMap<u32, u64>,
    pub(super) total: Option<u64>,
}

impl Sum {
    fn add(&mut self, source: &Source) {
        let both = |a: Option<u64>, b: Option<u64>| match (a, b) {
            (Some(a), Some(b)) => Some(a.saturating_add(b)),
            (a, b) => a.or(b),
        };
        self.count = self.count.saturating_add(source.count);
        self.longest = self.longest.max(source.longest_ns);
        self.total = both(self.total, source.total_ns);
        for (&bucket, &time) in &source.timeline {
            let part = self.timeline.entry(bucket).or_default();
            *part = part.saturating_add(time);
        }
    }
}

pub(super) fn of(report: &Report) -> BTreeMap<Key, Sum> {
    let mut sums: BTreeMap<Key, Sum> = BTreeMap::new();
    for source in report.each_cpu.iter().flat_map(|cpu| &cpu.sources) {
        let key = (source.kind, source.name.clone(), source.place.clone());
        sums.entry(key).or_default().add(source);
    }
    sums
}

/// What the CPUs of a report had in all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Whole {
    pub(super) foreign: u64,
    pub(super) interrupts: Option<u64>,
    pub(super) softirqs: Option<u64>,
    pub(super) steal: u64,
}

pub(super) fn whole(report: &Report) -> Whole {
    let mut whole = Whole::default();
    let add = |sum: &mut Option<u64>, time: Option<u64>| {
        if let Some(time) = time {
            *sum = Some(sum.unwrap_or_default().saturating_add(time));
        }
    };
    for cpu in &report.each_cpu {
        whole.foreign = whole.foreign.saturating_add(cpu.foreign_ns);
        whole.steal = whole.steal.saturating_add(cpu.steal_ns);
        add(&mut whole.interrupts, cpu.interrupts_ns);
        add(&mut whole.softirqs, cpu.softirqs_ns);
    }
    whole
}
