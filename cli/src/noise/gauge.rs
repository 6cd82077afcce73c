//! The process that measures: a loop on each CPU that reads the clock, and what it has missed.
//!
//! It is this program once more, started on the CPUs and in the cgroup that hold them. It says when it
//! is ready, begins when it is told to, ends when its time is over or its standard input is, and writes
//! what it found to standard output.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io::{self, BufRead, BufReader, Write};
use std::process::ExitCode;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use kcm_core::CpuSet;
use kcm_core::host::{affinity, stop};
use serde::{Deserialize, Serialize};

use super::histogram::Histogram;
use super::watch::now;

/// No command line of a person's begins so.
pub(super) const ERRAND: [&str; 2] = ["--errand", "measure-gaps"];
/// What it says when it is ready.
pub(super) const READY: &str = "ready";

/// So many of the longest gaps are kept with their times.
const KEPT: usize = 4096;

/// What one CPU's loop has found.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Found {
    pub(super) cpu: u32,
    /// The gaps above the threshold that are kept: begin and length, in nanoseconds.
    pub(super) above: Vec<(u64, u64)>,
    pub(super) above_count: u64,
    /// Least value and count of each class.
    pub(super) classes: Vec<(u64, u64)>,
    pub(super) max: u64,
    /// p50, p99, p99.9, p99.99
    pub(super) percentiles: [u64; 4],
    pub(super) readings: u64,
}

/// Measures, if this process was started for that.
pub(crate) fn run_if_sent() -> Option<ExitCode> {
    let words: Vec<String> =
        std::env::args_os().skip(1).filter_map(|w| w.into_string().ok()).collect();
    let [errand, name, cpus, duration, threshold] = &words[..] else { return None };
    if [errand, name] != ERRAND {
        return None;
    }
    let number = |word: &str| word.parse().ok();
    let (cpus, duration, threshold) = (cpus.parse().ok()?, number(duration)?, number(threshold)?);
    let done = measure(&cpus, Duration::from_nanos(duration), threshold);
    Some(if done.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// When the loops begin, on the clock that they read; 0: that is not known yet.
static BEGIN: AtomicU64 = AtomicU64::new(0);
/// Set when nobody wants more.
static OVER: AtomicBool = AtomicBool::new(false);

/// From when it is told to begin until it does, in nanoseconds: whoever has to hear of it has, and is
/// asleep again.
pub(super) const LEAD: u64 = 20_000_000;

fn measure(cpus: &CpuSet, duration: Duration, threshold: u64) -> io::Result<()> {
    // Who started this one hears of them, and closes its input.
    stop::leave_to_the_main_thread();
    let ready = Barrier::new(cpus.len() + 1);
    let measure = |cpu| {
        let bound = affinity::bind_self(&CpuSet::from_iter([cpu]));
        let mut gauge = Gauge::new(cpu, threshold);
        ready.wait();
        bound?;
        gauge.run(duration);
        Ok(gauge.found())
    };
    let found: io::Result<Vec<Found>> = std::thread::scope(|threads| {
        let measure = &measure;
        let loops: Vec<_> = cpus.iter().map(|cpu| threads.spawn(move || measure(cpu))).collect();
        // Until the input ends, also by the death of whoever has the other end.
        std::thread::spawn(|| {
            let (mut input, mut line) = (BufReader::new(io::stdin()), String::new());
            // A line that says when.
            let told = input.read_line(&mut line).is_ok();
            if let (true, Ok(begin)) = (told, line.trim_end().parse::<u64>()) {
                BEGIN.store(begin, Ordering::Release);
                let _ = io::copy(&mut input, &mut io::sink());
            }
            OVER.store(true, Ordering::Relaxed);
        });
        ready.wait();
        if writeln!(io::stdout(), "{READY}").is_err() {
            OVER.store(true, Ordering::Relaxed);
        }
        let failed = |_| Err(io::Error::other("a loop has ended by itself"));
        loops.into_iter().map(|one| one.join().unwrap_or_else(failed)).collect()
    });
    let mut text = serde_json::to_vec(&found?).map_err(io::Error::other)?;
    text.push(b'\n');
    io::stdout().write_all(&text)
}

/// The loop of one CPU. All that it needs is there before it begins.
struct Gauge {
    cpu: u32,
    threshold: u64,
    histogram: Histogram,
    above: BinaryHeap<Reverse<(u64, u64)>>,
    above_count: u64,
}

impl Gauge {
    fn new(cpu: u32, threshold: u64) -> Self {
        let mut above = BinaryHeap::with_capacity(KEPT + 1);
        // Touched, so that no page is missing later.
        above.extend((0..=KEPT as u64).map(|n| Reverse((n, n))));
        above.clear();
        Self { cpu, threshold, histogram: Histogram::new(), above, above_count: 0 }
    }

    fn run(&mut self, duration: Duration) {
        let begin = loop {
            let begin = BEGIN.load(Ordering::Acquire);
            if OVER.load(Ordering::Relaxed) {
                return;
            }
            if begin > 0 && now() >= begin {
                break begin;
            }
        };
        // Whoever was kept from being there in time has missed that, too.
        let mut last = begin;
        let end = begin + duration.as_nanos() as u64;
        loop {
            let at = now();
            let gap = at.saturating_sub(last);
            self.histogram.add(gap);
            let begin = std::mem::replace(&mut last, at);
            if gap > self.threshold {
                self.keep(begin, gap);
                // What that took is no gap.
                last = now();
            }
            if at >= end || OVER.load(Ordering::Relaxed) {
                return;
            }
        }
    }

    fn keep(&mut self, begin: u64, gap: u64) {
        self.above_count += 1;
        self.above.push(Reverse((gap, begin)));
        if self.above.len() > KEPT {
            self.above.pop();
        }
    }

    fn found(self) -> Found {
        let mut above: Vec<(u64, u64)> =
            self.above.into_iter().map(|Reverse((gap, begin))| (begin, gap)).collect();
        above.sort_unstable();
        Found {
            cpu: self.cpu,
            above,
            above_count: self.above_count,
            classes: self.histogram.classes().collect(),
            max: self.histogram.max(),
            percentiles: [5_000, 9_900, 9_990, 9_999].map(|share| self.histogram.at(share)),
            readings: self.histogram.readings(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loop_reads_the_clock_all_the_time_and_keeps_the_longest_gaps() {
        let mut gauge = Gauge::new(0, 0);
        let begun = now();
        BEGIN.store(begun, Ordering::Release);
        gauge.run(Duration::from_millis(50));
        let took = now() - begun;
        (0..10_000).for_each(|n| gauge.keep(n, n));
        let found = gauge.found();
        assert!((50_000_000..60_000_000_000).contains(&took));
        assert!(found.readings > 10_000, "{}", found.readings);
        assert_eq!(found.classes.iter().map(|(_, count)| count).sum::<u64>(), found.readings);
        assert!(found.percentiles.is_sorted() && found.percentiles[3] <= found.max);
        assert_eq!(found.above.len(), KEPT);
        assert!(found.above.is_sorted() && found.above.contains(&(9_999, 9_999)));
    }
}
