//! Threads of this test that are known: where they run, how they are named, and for how long they had
//! run by their own clock at any time.

use std::fs;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use kcm_tests::machine::{must_be_apart, skip};
use kcm_tests::oracle::TRACEFS;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CpuSet, sched_setaffinity};
use nix::time::{ClockId, clock_gettime};
use nix::unistd::{Pid, gettid};

/// Runs until it is dropped.
pub(crate) struct Load {
    pub(crate) thread: i32,
    stop: Arc<AtomicBool>,
    samples: Option<JoinHandle<Vec<(u64, u64)>>>,
}

pub(crate) fn clock(id: ClockId) -> u64 {
    Duration::from(clock_gettime(id).unwrap()).as_nanos() as u64
}

pub(crate) fn bind(cpu: u32) {
    let mut cpus = CpuSet::new();
    cpus.set(cpu as usize).unwrap();
    sched_setaffinity(Pid::from_raw(0), &cpus).unwrap();
}

/// Has the calling thread scheduled otherwise, by a command to which its number is added.
pub(crate) fn set(words: &[&str]) {
    let mut command = Command::new(words[0]);
    let done = command.args(&words[1..]).arg(gettid().to_string()).stdout(Stdio::null()).status();
    assert!(done.unwrap().success(), "no right to {words:?}");
}

impl Load {
    /// A thread of this name on this CPU that runs for so long, sleeps for so long, and so on. One
    /// that sleeps has its time however busy the machine is.
    pub(crate) fn start(name: &str, cpu: u32, run: Duration, sleep: Duration) -> Self {
        let (tell, told) = std::sync::mpsc::channel();
        let stop = Arc::new(AtomicBool::new(false));
        let asked = stop.clone();
        let work = move || {
            bind(cpu);
            if !sleep.is_zero() {
                set(&["chrt", "-r", "-p", "1"]);
            }
            tell.send(gettid().as_raw()).unwrap();
            let sample = || {
                let at = clock(ClockId::CLOCK_MONOTONIC);
                (at, clock(ClockId::CLOCK_THREAD_CPUTIME_ID))
            };
            let mut samples = Vec::new();
            loop {
                samples.push(sample());
                let begun = Instant::now();
                while begun.elapsed() < run {}
                samples.push(sample());
                if asked.load(Ordering::Relaxed) {
                    return samples;
                }
                if !sleep.is_zero() {
                    std::thread::sleep(sleep);
                }
            }
        };
        let work = std::thread::Builder::new().name(name.to_owned()).spawn(work).unwrap();
        Self { thread: told.recv().unwrap(), stop, samples: Some(work) }
    }

    /// Ends it, and tells for how long it has run between two times by its own clock: without what it
    /// takes to fall asleep and to wake up, and with it. On a virtual machine a switch may take more
    /// than 100 µs, which that clock counts and nobody else.
    pub(crate) fn ran_between(mut self, begin: u64, end: u64) -> (u64, u64) {
        self.stop.store(true, Ordering::Relaxed);
        let samples = self.samples.take().unwrap().join().unwrap();
        // Between two samples it ran all the time or as often as not; they are close.
        let part = |[(t0, c0), (t1, c1)]: [(u64, u64); 2]| {
            let within = t1.clamp(begin, end) - t0.clamp(begin, end);
            (u128::from(c1 - c0) * u128::from(within) / u128::from((t1 - t0).max(1))) as u64
        };
        assert!(samples.first().unwrap().0 <= begin && end <= samples.last().unwrap().0);
        let pairs = samples.windows(2).map(|two| part([two[0], two[1]]));
        let spun = samples.chunks(2).map(|two| part([two[0], two[1]]));
        (spun.sum(), pairs.sum())
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(work) = self.samples.take() {
            let _ = work.join();
        }
    }
}

/// Mounts tracefs for this thread and what it starts, in mounts of its own, in place of one that
/// `tests/apart` has made read-only. Whether it could.
pub(crate) fn mount_tracefs() -> bool {
    must_be_apart();
    if fs::exists(format!("{TRACEFS}/instances")).unwrap() {
        umount2(TRACEFS, MntFlags::MNT_DETACH).unwrap();
    }
    let mounted = mount(Some("t"), TRACEFS, Some("tracefs"), MsFlags::empty(), None::<&str>);
    if let Err(e) = mounted {
        skip(&format!("tracefs cannot be mounted: {e}"));
        return false;
    }
    true
}

/// A thread that keeps all others from its CPU (SCHED_FIFO) for a known time, again and again.
pub(crate) struct Stall {
    stop: Arc<AtomicBool>,
    work: JoinHandle<Vec<(u64, u64)>>,
}

impl Stall {
    /// Each is of this length, and as long as that three times lies between two.
    pub(crate) fn start(name: &str, cpu: u32, length: Duration) -> Self {
        let (tell, told) = std::sync::mpsc::channel();
        let stop = Arc::new(AtomicBool::new(false));
        let asked = stop.clone();
        let work = move || {
            bind(cpu);
            set(&["chrt", "-f", "-p", "10"]);
            tell.send(()).unwrap();
            let mut stalls = Vec::new();
            while !asked.load(Ordering::Relaxed) {
                std::thread::sleep(length * 3);
                let begin = clock(ClockId::CLOCK_MONOTONIC);
                while clock(ClockId::CLOCK_MONOTONIC) < begin + length.as_nanos() as u64 {}
                stalls.push((begin, clock(ClockId::CLOCK_MONOTONIC)));
            }
            stalls
        };
        let work = std::thread::Builder::new().name(name.to_owned()).spawn(work).unwrap();
        told.recv().unwrap();
        Self { stop, work }
    }

    /// Ends it, and tells from when to when each of them was.
    pub(crate) fn stop(self) -> Vec<(u64, u64)> {
        self.stop.store(true, Ordering::Relaxed);
        self.work.join().unwrap()
    }
}
