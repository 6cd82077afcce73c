//! Where nothing can be traced: run times of threads, looked at again and again, and the kernel's
//! counters. It costs the CPUs nothing either, and tells less: no times of interrupts, nothing of
//! threads that came and went between two looks but their sum.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use kcm_core::CpuSet;
use kcm_core::host::counters::{self, Counts, Times};
use kcm_core::host::procfs::Procfs;
use kcm_core::host::stop::{self, Stop};
use kcm_core::host::threads::{self, Thread};
use kcm_core::task::Pid;

use super::build;
use super::report::{Kind, OfCpu, Source};
use super::watch::now;
use super::who::Who;
use super::window::Window;

/// How often threads are looked at; less often where that takes long.
const ROUND: Duration = Duration::from_millis(100);
const SHARE: u32 = 10;

/// What was found.
pub(super) struct Sampled {
    pub(super) window: Window,
    pub(super) cpus: Vec<OfCpu>,
}

/// The counters at one moment.
struct Counters {
    interrupts: Counts,
    softirqs: Counts,
    run_times: BTreeMap<u32, u64>,
    times: BTreeMap<u32, Times>,
}

impl Counters {
    fn read(procfs: &Procfs) -> anyhow::Result<Self> {
        Ok(Self {
            interrupts: counters::interrupts(procfs)?,
            softirqs: counters::softirqs(procfs)?,
            run_times: counters::run_times(procfs)?,
            times: counters::times(procfs)?,
        })
    }
}

/// What a thread had of one CPU.
#[derive(Debug, Default, PartialEq, Eq)]
struct Ran {
    count: u64,
    time: u64,
    timeline: BTreeMap<u32, u64>,
}

type All = HashMap<(u32, Pid), Ran>;

/// Looks for so long, or until this process is asked to end.
pub(super) fn run(
    cpus: &CpuSet,
    procfs: &Procfs,
    who: &mut Who,
    duration: Duration,
    stop: &Stop,
) -> anyhow::Result<Sampled> {
    let before = Counters::read(procfs)?;
    let mut known = look(procfs, cpus)?;
    let mut window = Window::open(now(), duration.as_nanos() as u64);
    let deadline = Instant::now() + duration;
    let (mut all, mut at, mut took) = (All::new(), window.begin, Duration::ZERO);
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        stop.within(left.min(ROUND.max(took * SHARE)), &[]).context("cannot wait")?;
        let begun = Instant::now();
        let found = look(procfs, cpus)?;
        took = begun.elapsed();
        // As the window's begin is: a thread is looked at as long before that in each round.
        let then = std::mem::replace(&mut at, now());
        found.keys().for_each(|id| who.look(id.as_raw()));
        add(&mut all, &known, &found, window, (then, at));
        known = found;
        if deadline <= Instant::now() || stop::is_asked() {
            break;
        }
    }
    window.end = at;
    who.look_again();
    let after = Counters::read(procfs)?;
    let cpus = cpus.iter().map(|cpu| of_cpu(cpu, &all, who, &before, &after)).collect();
    Ok(Sampled { window, cpus })
}

fn look(procfs: &Procfs, cpus: &CpuSet) -> anyhow::Result<HashMap<Pid, Thread>> {
    let threads = threads::on(procfs, cpus)?;
    Ok(threads.into_iter().map(|thread| (thread.id, thread)).collect())
}

/// Gives threads that stayed on their CPU what their run times have grown by, which in truth was at
/// some time between the two looks.
fn add(
    all: &mut All,
    before: &HashMap<Pid, Thread>,
    after: &HashMap<Pid, Thread>,
    window: Window,
    (from, to): (u64, u64),
) {
    for (id, thread) in after {
        let Some(earlier) = before.get(id).filter(|earlier| earlier.cpu == thread.cpu) else {
            continue;
        };
        let time = thread.run_time.saturating_sub(earlier.run_time);
        let count = thread.runs.saturating_sub(earlier.runs);
        if time == 0 && count == 0 {
            continue;
        }
        let ran = all.entry((thread.cpu, *id)).or_default();
        ran.time += time;
        // One that was there all along was given the CPU before.
        ran.count += count.max(1);
        for (bucket, part) in window.buckets(from, to) {
            let share = u128::from(time) * u128::from(part) / u128::from((to - from).max(1));
            *ran.timeline.entry(bucket).or_default() += share as u64;
        }
    }
}

fn of_cpu(cpu: u32, all: &All, who: &Who, before: &Counters, after: &Counters) -> OfCpu {
    let grown = |field: fn(&Times) -> u64| {
        let at = |counters: &Counters| counters.times.get(&cpu).map(field).unwrap_or_default();
        at(after).saturating_sub(at(before))
    };
    let mut found = OfCpu {
        cpu,
        idle_ns: Some(grown(|times| times.idle)),
        owners: who.holders(cpu),
        owners_ns: Some(0),
        steal_ns: grown(|times| times.steal),
        ..OfCpu::default()
    };
    let mut seen = 0;
    for ((_, id), ran) in all.iter().filter(|((on, _), _)| *on == cpu) {
        seen += ran.time;
        if who.owner(cpu, id.as_raw(), &HashMap::new()).is_some() {
            found.owners_ns = found.owners_ns.map(|time| time + ran.time);
            continue;
        }
        found.foreign_ns += ran.time;
        found.sources.push(thread(*id, ran, who));
    }
    let of_all = |counters: &Counters| counters.run_times.get(&cpu).copied().unwrap_or_default();
    let unseen = of_all(after).saturating_sub(of_all(before)).saturating_sub(seen);
    if unseen > 0 {
        found.foreign_ns += unseen;
        found.sources.push(Source {
            kind: Kind::Thread,
            name: "threads that came and went".to_owned(),
            total_ns: Some(unseen),
            ..Source::default()
        });
    }
    found.sources.extend(counts(cpu, Kind::Interrupt, &before.interrupts, &after.interrupts));
    found.sources.extend(counts(cpu, Kind::Softirq, &before.softirqs, &after.softirqs));
    found.sources = build::limit(found.sources);
    found
}

fn thread(id: Pid, ran: &Ran, who: &Who) -> Source {
    let known = Source {
        count: ran.count,
        pid: Some(id.as_raw()),
        timeline: ran.timeline.clone(),
        total_ns: Some(ran.time),
        ..Source::default()
    };
    build::of_thread(known, id.as_raw(), &HashMap::new(), who)
}

fn counts(cpu: u32, kind: Kind, before: &Counts, after: &Counts) -> Vec<Source> {
    let here = after.range((cpu, String::new())..).take_while(|((on, _), _)| *on == cpu);
    let grown = here.filter_map(|(key, count)| {
        let count = count.saturating_sub(before.get(key).copied().unwrap_or_default());
        (count > 0).then(|| Source { kind, name: key.1.clone(), count, ..Source::default() })
    });
    grown.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_has_what_it_ran_while_it_stayed() {
        let pid = |id: i32| Pid::try_from(id).unwrap();
        let threads = |all: &[(i32, u32, u64, u64)]| -> HashMap<Pid, Thread> {
            let thread = |&(id, cpu, run_time, runs): &(i32, u32, u64, u64)| {
                (pid(id), Thread { id: pid(id), cpu, is_runnable: true, run_time, runs })
            };
            all.iter().map(thread).collect()
        };
        let window = Window::open(0, 120_000);
        let mut all = All::new();
        let first = threads(&[(7, 1, 100, 5), (8, 1, 100, 5), (9, 1, 100, 5), (6, 1, 0, 1)]);
        let second = threads(&[(7, 1, 900, 5), (8, 2, 900, 9), (9, 1, 100, 5), (5, 1, 50, 1)]);
        add(&mut all, &first, &second, window, (0, 2000));
        add(&mut all, &second, &threads(&[(7, 1, 1000, 8)]), window, (2000, 3000));
        let timeline = BTreeMap::from([(0, 400), (1, 400), (2, 100)]);
        let expected = Ran { count: 4, time: 900, timeline };
        assert_eq!(all, HashMap::from([((1, pid(7)), expected)]));
    }

    #[test]
    fn counters_are_told_as_far_as_they_have_grown() {
        let counts_of = |all: &[(u32, &str, u64)]| -> Counts {
            all.iter().map(|&(cpu, name, count)| ((cpu, name.to_owned()), count)).collect()
        };
        let before = counts_of(&[(1, "eth0", 5), (1, "tick", 5), (2, "eth0", 5)]);
        let after = counts_of(&[(1, "eth0", 5), (1, "new", 1), (1, "tick", 9), (2, "eth0", 9)]);
        let found = counts(1, Kind::Interrupt, &before, &after);
        let found: Vec<(&str, u64)> = found.iter().map(|s| (s.name.as_str(), s.count)).collect();
        assert_eq!(found, [("new", 1), ("tick", 4)]);
    }
}
