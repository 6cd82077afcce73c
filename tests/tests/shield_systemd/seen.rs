//! What a machine has of all that a shield changes.

use std::collections::BTreeMap;
use std::fs;

use super::{UNITS, effective};

/// Everything that a shield may change, of the machine itself.
#[derive(Debug, PartialEq)]
pub(crate) struct Seen {
    pub(crate) files: BTreeMap<String, String>,
    /// By thread and its start time: its name and the CPUs that it may run on.
    pub(crate) threads: BTreeMap<(i32, String), (String, String)>,
}

impl Seen {
    pub(crate) fn now() -> Self {
        let mut files = BTreeMap::new();
        let mut read = |path: &str| {
            if let Ok(text) = fs::read_to_string(path) {
                files.insert(path.to_owned(), text.trim().to_owned());
            }
        };
        for name in
            ["irq/default_smp_affinity", "sys/kernel/watchdog_cpumask", "sys/vm/stat_interval"]
        {
            read(&format!("/proc/{name}"));
        }
        read("/sys/devices/virtual/workqueue/cpumask");
        for entry in fs::read_dir("/proc/irq").unwrap() {
            let path = entry.unwrap().path().join("smp_affinity_list");
            read(path.to_str().unwrap());
        }
        for cpu in 0..16 {
            read(&format!("/sys/devices/system/cpu/cpu{cpu}/power/pm_qos_resume_latency_us"));
        }
        for unit in UNITS {
            files.insert(unit.to_owned(), effective(unit).to_string());
        }
        Self { files, threads: threads() }
    }

    /// Both have the same of everything that is in both; threads come and go.
    #[track_caller]
    pub(crate) fn must_equal(&self, before: &Self, when: &str) {
        for (path, value) in &before.files {
            assert_eq!(self.files.get(path), Some(value), "{path}, {when}");
        }
        let mut compared = 0;
        for (thread, had) in &before.threads {
            if let Some(has) = self.threads.get(thread) {
                assert_eq!(has.1, had.1, "thread {thread:?} ({}), {when}", had.0);
                compared += 1;
            }
        }
        assert!(compared > 20, "{compared}");
    }
}

/// Flags of a task (include/linux/sched.h).
const KERNEL_THREAD: u64 = 0x0020_0000;
const NO_SETAFFINITY: u64 = 0x0400_0000;

fn threads() -> BTreeMap<(i32, String), (String, String)> {
    let mut threads = BTreeMap::new();
    let pids = fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| entry.unwrap().file_name().to_str()?.parse::<i32>().ok());
    for pid in pids {
        let Ok(tasks) = fs::read_dir(format!("/proc/{pid}/task")) else { continue };
        for task in tasks.flatten() {
            let read = |name| fs::read_to_string(task.path().join(name)).ok();
            let (Some(stat), Some(status)) = (read("stat"), read("status")) else { continue };
            let (name, rest) = stat.rsplit_once(')').unwrap();
            let field = |n: usize| rest.split_whitespace().nth(n).unwrap();
            let start = field(19).to_owned();
            // What serves workqueues is placed by the kernel, wherever it has last served.
            let flags: u64 = field(6).parse().unwrap();
            if flags & KERNEL_THREAD != 0 && flags & NO_SETAFFINITY != 0 {
                continue;
            }
            let allowed = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
            let tid = task.file_name().to_str().unwrap().parse().unwrap();
            let name = name.split_once('(').unwrap().1.to_owned();
            threads.insert((tid, start), (name, allowed.unwrap().trim().to_owned()));
        }
    }
    threads
}
