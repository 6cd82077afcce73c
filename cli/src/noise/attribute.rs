//! Whose a gap is.

use std::collections::BTreeMap;

use super::account::{Account, Source as Had, Stretch, Total};
use super::build;
use super::gauge::Found;
use super::report::{Gap, Gaps, Share};
use super::who::Who;
use super::window::Window;

/// So many gaps of a CPU are told one by one.
const TOLD: usize = 100;

/// What the loop of one CPU has found, each of the longest gaps with who had the CPU meanwhile.
/// Without a trace nobody knows.
pub(super) fn gaps(
    found: &Found,
    threshold: u64,
    window: Window,
    trace: Option<(&Account, &Who)>,
) -> Gaps {
    let mut above = found.above.clone();
    above.sort_unstable_by_key(|&(begin, length)| (std::cmp::Reverse(length), begin));
    above.truncate(TOLD);
    let stretches = trace.map(|(account, _)| here(account, found.cpu)).unwrap_or_default();
    let told = above.iter().map(|&(begin, length)| {
        let by = match trace {
            Some((account, who)) => shares(begin, length, &stretches, account, who, found.cpu),
            None => Vec::new(),
        };
        let explained: u64 = by.iter().map(|share| share.ns).sum();
        Gap {
            at_ns: begin.saturating_sub(window.begin),
            by,
            length_ns: length,
            unexplained_ns: length.saturating_sub(explained),
        }
    });
    let [p50_ns, p99_ns, p999_ns, p9999_ns] = found.percentiles;
    Gaps {
        above: told.collect(),
        above_count: found.above_count,
        histogram: found.classes.iter().copied().collect(),
        max_ns: found.max,
        p50_ns,
        p99_ns,
        p999_ns,
        p9999_ns,
        readings: found.readings,
        threshold_ns: threshold,
    }
}

/// The stretches of one CPU, by their begin.
fn here(account: &Account, cpu: u32) -> Vec<Stretch> {
    let mut here: Vec<Stretch> =
        account.stretches.iter().filter(|stretch| stretch.cpu == cpu).copied().collect();
    here.sort_unstable_by_key(|stretch| stretch.begin);
    here
}

/// Who had the CPU in a gap besides the loop, the longest first.
fn shares(
    begin: u64,
    length: u64,
    stretches: &[Stretch],
    account: &Account,
    who: &Who,
    cpu: u32,
) -> Vec<Share> {
    let end = begin + length;
    let mut had: BTreeMap<usize, u64> = BTreeMap::new();
    let first = stretches.partition_point(|stretch| stretch.end <= begin);
    for stretch in stretches[first..].iter().take_while(|stretch| stretch.begin < end) {
        let time = stretch.end.min(end) - stretch.begin.max(begin);
        *had.entry(stretch.source).or_default() += time;
    }
    let mut shares: Vec<Share> = Vec::new();
    for (source, ns) in had {
        let source = &account.sources[source];
        let is_the_loops = match source {
            Had::Thread(thread) => who.owner(cpu, *thread, &account.parents).is_some(),
            _ => false,
        };
        if !is_the_loops && *source != Had::Thread(0) {
            let named = build::source(source, &Total::default(), account, who);
            shares.push(Share { kind: named.kind, name: named.name, ns, pid: named.pid });
        }
    }
    shares.sort_by_key(|share| std::cmp::Reverse(share.ns));
    shares
}

#[cfg(test)]
mod tests {
    use super::super::events::{Context, Event, What};
    use super::*;
    use kcm_core::host::procfs::Procfs;

    #[test]
    fn a_gap_is_told_with_who_had_the_cpu_in_it_and_what_nobody_explains() {
        let mut account = Account::new([3].into_iter(), Window::open(1_000, 1_000_000), true);
        let mut event = |thread, at, what| account.take(Event { cpu: 3, thread, at, what });
        let name = || "eth0".to_owned();
        event(7, 10_000, What::Enter(Context::Interrupt, name()));
        event(7, 14_000, What::Leave(Context::Interrupt, name()));
        event(7, 14_000, What::Switch { from: (7, "loop".into()), to: (-5, "stall".into()) });
        event(-5, 90_000, What::Switch { from: (-5, "stall".into()), to: (0, "idle".into()) });
        account.end_at(100_000);
        account.close_all(&std::collections::HashMap::new());
        let who = Who::new(Procfs::new("/proc"), None, Vec::new());
        let found = Found {
            cpu: 3,
            above: vec![(12_000, 80_000), (95_000, 90_000)],
            above_count: 9,
            max: 90_000,
            ..Found::default()
        };
        let gaps = gaps(&found, 500, Window::open(1_000, 1_000_000), Some((&account, &who)));
        assert_eq!((gaps.above_count, gaps.max_ns, gaps.threshold_ns), (9, 90_000, 500));
        let [unexplained, stall] = &gaps.above[..] else { panic!("{gaps:?}") };
        assert_eq!((unexplained.by.len(), unexplained.unexplained_ns), (0, 90_000));
        let by: Vec<(&str, u64)> = stall.by.iter().map(|s| (s.name.as_str(), s.ns)).collect();
        assert_eq!(by, [("stall", 76_000), ("eth0", 2_000)]);
        assert_eq!((stall.at_ns, stall.unexplained_ns), (11_000, 2_000));
    }
}
