//! Who had a CPU, by `sched_switch` alone, read by hand from an instance of the test's own.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use super::load::TRACEFS;

/// Traces one CPU until it is asked.
pub(crate) struct Oracle {
    folder: PathBuf,
    cpu: u32,
}

impl Oracle {
    pub(crate) fn start(cpu: u32) -> Self {
        let name = format!("kcm-oracle-{}-{cpu}", std::process::id());
        let folder = PathBuf::from(TRACEFS).join("instances").join(name);
        fs::create_dir(&folder).unwrap();
        let oracle = Self { folder, cpu };
        oracle.write("tracing_on", "0");
        oracle.write("trace_clock", "mono");
        oracle.write("tracing_cpumask", &format!("{:x}", 1u32 << cpu));
        oracle.write("buffer_size_kb", "16384");
        oracle.write("events/sched/sched_switch/enable", "1");
        oracle.write("tracing_on", "1");
        oracle
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.folder.join(name), text).unwrap();
    }

    /// Nanoseconds that each thread had the CPU between two times, at the least and at the most: where
    /// an event says that another thread leaves than had come, a switch between them was not told
    /// (one host's kernel hides those away from some threads of its own), and the time may be either's.
    pub(crate) fn stop(self, begin: u64, end: u64) -> BTreeMap<i32, (u64, u64)> {
        self.write("tracing_on", "0");
        let text =
            String::from_utf8_lossy(&fs::read(self.folder.join("trace")).unwrap()).into_owned();
        let stats = fs::read_to_string(self.folder.join(format!("per_cpu/cpu{}/stats", self.cpu)));
        assert!(stats.unwrap().contains("overrun: 0\n"), "the oracle's buffer was too small");
        let mut had = BTreeMap::new();
        let mut last: Option<(u64, i32)> = None;
        let mut add = |thread: i32, from: u64, to: u64, is_sure: bool| {
            let time = to.clamp(begin, end).saturating_sub(from.clamp(begin, end));
            let (least, most): &mut (u64, u64) = had.entry(thread).or_default();
            (*least, *most) = (*least + if is_sure { time } else { 0 }, *most + time);
        };
        for line in text.lines().filter(|line| line.contains(": sched_switch: ")) {
            let (before, fields) = line.split_once(": sched_switch: ").unwrap();
            let stamp = before.split_whitespace().next_back().unwrap();
            let (seconds, micros) = stamp.split_once('.').unwrap();
            let at = seconds.parse::<u64>().unwrap() * 1_000_000_000
                + micros.parse::<u64>().unwrap() * 1000;
            let number = |key: &str| {
                let rest = fields.rsplit_once(key).unwrap().1;
                rest.split_whitespace().next().unwrap().parse::<i32>().unwrap()
            };
            let (from, to) = (number(" prev_pid="), number(" next_pid="));
            match last {
                Some((since, thread)) if thread != from => {
                    add(thread, since, at, false);
                    add(from, since, at, false);
                }
                last => add(from, last.map_or(0, |(since, _)| since), at, true),
            }
            last = Some((at, to));
        }
        if let Some((at, thread)) = last {
            add(thread, at, u64::MAX, true);
        }
        assert!(!had.is_empty(), "the oracle saw nothing: {text}");
        had
    }
}

impl Drop for Oracle {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.folder);
    }
}

/// A time is between two, within as much.
#[track_caller]
pub(crate) fn assert_between(what: &str, found: u64, least: u64, most: u64) {
    let around = |time: u64| (time / 20).max(100_000);
    let is_close = (least.saturating_sub(around(least))..=most + around(most)).contains(&found);
    assert!(is_close, "{what}: {found} ns, and not {least} to {most}");
}
