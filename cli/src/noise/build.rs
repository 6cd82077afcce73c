//! What was traced → the report.

use std::collections::{BTreeMap, HashMap};

use kcm_core::host::counters::Times;

use super::account::{self, Account, MANY, Source as Had, Total};
use super::events::Context;
use super::place;
use super::report::{Kind, OfCpu, Source};
use super::watch::Traced;
use super::who::Who;

/// So many sources of a CPU are told one by one; the rest is told as one of each kind.
const SOURCES: usize = 200;

/// The times of CPUs around the window.
pub(super) struct Steal {
    pub(super) before: BTreeMap<u32, Times>,
    pub(super) after: BTreeMap<u32, Times>,
}

/// All CPUs of the report.
pub(super) fn cpus(traced: &Traced, who: &Who, steal: &Steal) -> Vec<OfCpu> {
    let each = traced.cpus.iter().map(|(&number, found)| {
        let at = |times: &BTreeMap<u32, Times>| times.get(&number).map_or(0, |times| times.steal);
        OfCpu {
            steal_ns: at(&steal.after).saturating_sub(at(&steal.before)),
            ..cpu(number, found, &traced.account, who)
        }
    });
    each.collect()
}

fn cpu(number: u32, traced: &account::OfCpu, account: &Account, who: &Who) -> OfCpu {
    let mut found = OfCpu {
        cpu: number,
        lost_events: traced.lost_events,
        owners: who.holders(number),
        unaccounted_ns: traced.unaccounted,
        idle_ns: Some(0),
        interrupts_ns: Some(0),
        owners_ns: Some(0),
        softirqs_ns: Some(0),
        ..OfCpu::default()
    };
    for (had, total) in &traced.totals {
        let add = |sum: &mut Option<u64>| *sum = Some(sum.unwrap_or_default() + total.time);
        match had {
            Had::Thread(0) => add(&mut found.idle_ns),
            Had::Thread(thread) if who.owner(number, *thread, &account.parents).is_some() => {
                add(&mut found.owners_ns);
            }
            had => {
                match had {
                    Had::Thread(_) => found.foreign_ns += total.time,
                    Had::Within(Context::Softirq, _) => add(&mut found.softirqs_ns),
                    Had::Within(..) | Had::Nmi => add(&mut found.interrupts_ns),
                }
                found.sources.push(source(had, total, account, who));
            }
        }
    }
    found.sources = limit(found.sources);
    found
}

/// Name, kind and place of a source.
pub(super) fn source(had: &Had, total: &Total, account: &Account, who: &Who) -> Source {
    let known = Source {
        count: total.count,
        longest_ns: Some(total.longest),
        timeline: total.timeline.clone(),
        total_ns: Some(total.time),
        ..Source::default()
    };
    let (kind, name) = match had {
        Had::Within(Context::Softirq, name) => (Kind::Softirq, name.clone()),
        Had::Within(_, name) => (Kind::Interrupt, name.clone()),
        Had::Nmi => (Kind::Nmi, "non-maskable".to_owned()),
        Had::Thread(MANY) => (Kind::Thread, "many more".to_owned()),
        &Had::Thread(thread) => {
            let known = Source { on_cpu_ns: Some(total.on_cpu), ..known };
            return of_thread(known, thread, &account.names, who);
        }
    };
    Source { kind, name, ..known }
}

/// Who a thread is, by its last name in the trace, where there is one.
pub(super) fn of_thread(
    known: Source,
    thread: i32,
    names: &HashMap<i32, String>,
    who: &Who,
) -> Source {
    let last = names.get(&thread).cloned();
    match who.identity(thread) {
        Some(found) => Source {
            kind: if found.is_kernels { Kind::KernelThread } else { Kind::Thread },
            // As the trace names it: a worker of a workqueue is listed with what it works on.
            name: last.unwrap_or_else(|| found.name.clone()),
            place: place::of(&found.cgroup).filter(|_| !found.is_kernels),
            pid: Some(thread),
            process: Some(found.process.as_raw()).filter(|&process| process != thread),
            ..known
        },
        None => Source {
            name: last.unwrap_or_else(|| "unknown".to_owned()),
            place: Some("ended meanwhile".to_owned()),
            kind: Kind::Thread,
            pid: Some(thread),
            ..known
        },
    }
}

/// The longest in all first; those beyond the limit as one of each kind.
pub(super) fn limit(mut sources: Vec<Source>) -> Vec<Source> {
    sources.sort_by(|a, b| {
        (b.total_ns, b.count, &a.name, a.pid).cmp(&(a.total_ns, a.count, &b.name, b.pid))
    });
    if sources.len() <= SOURCES {
        return sources;
    }
    let mut rest: BTreeMap<Kind, Source> = BTreeMap::new();
    for source in sources.drain(SOURCES..) {
        let entry = Source { kind: source.kind, ..Source::default() };
        let sum = rest.entry(source.kind).or_insert(entry);
        sum.pid = Some(sum.pid.unwrap_or_default() + 1);
        sum.count += source.count;
        sum.total_ns = Some(sum.total_ns.unwrap_or_default() + source.total_ns.unwrap_or_default());
        sum.longest_ns = sum.longest_ns.max(source.longest_ns);
        for (bucket, time) in source.timeline {
            *sum.timeline.entry(bucket).or_default() += time;
        }
    }
    sources.extend(rest.into_values().map(|mut sum| {
        sum.name = format!("{} more", sum.pid.take().unwrap_or_default());
        sum
    }));
    sources
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_come_first_and_the_rest_is_summed_up() {
        let source = |n: u64| Source {
            kind: if n.is_multiple_of(2) { Kind::Softirq } else { Kind::Interrupt },
            name: format!("s{n}"),
            count: 1,
            total_ns: Some(n),
            longest_ns: Some(n),
            ..Source::default()
        };
        let limited = limit((0..SOURCES as u64 + 10).map(source).collect());
        assert_eq!(limited.len(), SOURCES + 2);
        assert_eq!(limited[0].name, "s209");
        let rest: Vec<(&str, u64, Option<u64>)> = limited[SOURCES..]
            .iter()
            .map(|source| (source.name.as_str(), source.count, source.total_ns))
            .collect();
        assert_eq!(rest, [("5 more", 5, Some(25)), ("5 more", 5, Some(20))]);
        assert_eq!(limit(vec![source(3), source(4)])[0].name, "s4");
    }
}
