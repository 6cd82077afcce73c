//! Measuring a program against another: interleaved pairs, since a machine's speed drifts by more
//! than most differences.

use std::ffi::OsString;
use std::fs::File;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;

/// How many pairs are measured where there is time for them.
const PAIRS: usize = 500;
/// Fewer than these say too little of the spread.
const LEAST_PAIRS: usize = 30;

/// What a run took, in seconds.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Cost {
    /// User and system time of the processes that ended in it.
    pub(crate) cpu: f64,
    /// Time on the wall.
    pub(crate) wall: f64,
}

/// A figure's median with where the middle 80 % of the pairs are.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ratio {
    /// Median of ours over median of theirs.
    pub(crate) median: f64,
    /// 10th percentile of the pairs' ratios.
    pub(crate) low: f64,
    /// 90th percentile.
    pub(crate) high: f64,
}

/// Ours against theirs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Comparison {
    /// How many pairs were measured.
    pub(crate) pairs: usize,
    /// CPU time.
    pub(crate) cpu: Ratio,
    /// Time on the wall.
    pub(crate) wall: Ratio,
    /// Median CPU time of theirs, in seconds.
    pub(crate) theirs: f64,
}

/// A program with its standard input; what it says goes nowhere.
#[derive(Clone, Debug)]
pub(crate) struct Program {
    /// Its path and its arguments.
    pub(crate) words: Vec<OsString>,
    /// The file that it reads.
    pub(crate) input: PathBuf,
}

impl Program {
    /// A program that reads nothing.
    pub(crate) fn new<W: Into<OsString>>(words: impl IntoIterator<Item = W>) -> Self {
        Self { words: words.into_iter().map(Into::into).collect(), input: "/dev/null".into() }
    }

    /// The program, with this input.
    pub(crate) fn reading(mut self, input: impl Into<PathBuf>) -> Self {
        self.input = input.into();
        self
    }

    /// The command, with an environment of its own.
    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(&self.words[0]);
        command.args(&self.words[1..]).env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
        command.stdin(File::open(&self.input).unwrap()).stdout(Stdio::null()).stderr(Stdio::null());
        command
    }

    /// Runs it to its end, which must be a good one.
    pub(crate) fn run(&self) -> Cost {
        let mut command = self.command();
        cost_of(|| {
            let status = command.spawn().unwrap().wait().unwrap();
            assert!(status.success(), "{:?}: {status}", self.words);
        })
    }
}

/// What the processes cost that are started and end in `work`.
pub(crate) fn cost_of(work: impl FnOnce()) -> Cost {
    let (cpu, begun) = (cpu_of_children(), Instant::now());
    work();
    let wall = begun.elapsed().as_secs_f64();
    Cost { cpu: cpu_of_children() - cpu, wall }
}

/// CPU time of all children that have ended and been waited for, in seconds (getrusage(2)).
fn cpu_of_children() -> f64 {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN).unwrap();
    (usage.user_time() + usage.system_time()).num_microseconds() as f64 / 1e6
}

/// Measures pairs for as long as that may take; each time the other one is first.
pub(crate) fn compare(
    limit: Duration,
    mut ours: impl FnMut() -> Cost,
    mut theirs: impl FnMut() -> Cost,
) -> Comparison {
    for _ in 0..3 {
        let _warm = (ours(), theirs());
    }
    let (begun, mut pairs) = (Instant::now(), Vec::with_capacity(PAIRS));
    while pairs.len() < PAIRS && (pairs.len() < LEAST_PAIRS || begun.elapsed() < limit) {
        let pair = if pairs.len() % 2 == 0 {
            (ours(), theirs())
        } else {
            let theirs = theirs();
            (ours(), theirs)
        };
        pairs.push(pair);
    }
    Comparison {
        pairs: pairs.len(),
        cpu: ratio(pairs.iter().map(|(ours, theirs)| (ours.cpu, theirs.cpu))),
        wall: ratio(pairs.iter().map(|(ours, theirs)| (ours.wall, theirs.wall))),
        theirs: percentile(pairs.iter().map(|(_, theirs)| theirs.cpu), 50),
    }
}

fn ratio(pairs: impl Iterator<Item = (f64, f64)> + Clone) -> Ratio {
    let each = pairs.clone().map(|(ours, theirs)| ours / theirs);
    let ours = percentile(pairs.clone().map(|(ours, _)| ours), 50);
    Ratio {
        median: ours / percentile(pairs.map(|(_, theirs)| theirs), 50),
        low: percentile(each.clone(), 10),
        high: percentile(each, 90),
    }
}

fn percentile(values: impl Iterator<Item = f64>, percent: usize) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values[(values.len() - 1) * percent / 100]
}
