//! Who had a CPU, by `sched_switch` alone, read by hand from an instance of the test's own.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

/// Where tracefs is mounted.
pub const TRACEFS: &str = "/sys/kernel/tracing";

/// Traces one CPU until it is asked.
#[derive(Debug)]
pub struct Oracle {
    folder: PathBuf,
    cpu: u32,
}

/// For how long a thread had the CPU.
#[derive(Clone, Debug, Default)]
pub struct Had {
    /// Its name, as it was last told.
    pub name: String,
    /// How often.
    pub count: u64,
    /// Nanoseconds, at the least.
    pub least: u64,
    /// Nanoseconds, at the most.
    pub most: u64,
}

impl Oracle {
    /// From now on.
    pub fn start(cpu: u32) -> Self {
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

    /// What each thread had of the CPU between two times: where an event says that another thread leaves
    /// than had come, a switch between them was not told (one host's kernel hides those away from some
    /// threads of its own), and the time may be either's.
    pub fn stop(self, begin: u64, end: u64) -> BTreeMap<i32, Had> {
        self.write("tracing_on", "0");
        let text =
            String::from_utf8_lossy(&fs::read(self.folder.join("trace")).unwrap()).into_owned();
        let stats = fs::read_to_string(self.folder.join(format!("per_cpu/cpu{}/stats", self.cpu)));
        assert!(stats.unwrap().contains("overrun: 0\n"), "the oracle's buffer was too small");
        let mut had: BTreeMap<i32, Had> = BTreeMap::new();
        let mut names = BTreeMap::new();
        let mut last: Option<(u64, i32)> = None;
        let mut add = |thread: i32, from: u64, to: u64, is_sure: bool| {
            let time = to.clamp(begin, end).saturating_sub(from.clamp(begin, end));
            let had = had.entry(thread).or_default();
            had.least += if is_sure { time } else { 0 };
            had.most += time;
            had.count += u64::from(time > 0);
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
            for (thread, key, end) in
                [(from, "prev_comm=", " prev_pid="), (to, "next_comm=", " next_pid=")]
            {
                let name = fields.rsplit_once(key).unwrap().1.rsplit_once(end).unwrap().0;
                names.insert(thread, name.to_owned());
            }
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
        for (thread, had) in &mut had {
            had.name = names.remove(thread).unwrap();
        }
        had
    }
}

impl Drop for Oracle {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.folder);
    }
}

/// The instances that a process has made.
pub fn instances_of(pid: i32) -> Vec<String> {
    let entries = fs::read_dir(format!("{TRACEFS}/instances")).unwrap().flatten();
    let names = entries.map(|entry| entry.file_name().into_string().unwrap());
    names.filter(|name| name.starts_with(&format!("kcm-noise-{pid}-"))).collect()
}

/// A time is between two, within as much.
#[track_caller]
pub fn assert_between(what: &str, found: u64, least: u64, most: u64) {
    let around = |time: u64| (time / 20).max(100_000);
    let is_close = (least.saturating_sub(around(least))..=most + around(most)).contains(&found);
    assert!(is_close, "{what}: {found} ns, and not {least} to {most}");
}
