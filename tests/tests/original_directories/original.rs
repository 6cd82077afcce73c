//! What the original writes and how it reads. Its `tasks` are comma-separated PIDs with no newline,
//! and anything else there ends it with a ValueError; its `exclusive` is one byte; it takes the
//! names of CPU lists as they are spelled, and opens `lock` for reading and writing to flock(2) it.

use std::collections::BTreeMap;
use std::fs::{self, File, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::process::{Child, Command, Stdio};

use kcm_tests::conf_dir::ConfDir;
use kcm_tests::machine::until;
use nix::fcntl::{Flock, FlockArg};

/// No process ever has this PID: it is past the kernel's limit (PID_MAX_LIMIT, 4,194,304).
pub(crate) const DEAD: i32 = 4_194_999;
/// Another.
pub(crate) const DEAD_TOO: i32 = 4_194_998;

/// A directory that the original's `init` made.
pub(crate) struct Original {
    pub(crate) conf: ConfDir,
    made: Layout,
}

/// What nobody may change: pool → (`exclusive`, names of the CPU lists); the lock's inode and
/// content. Its mode may change: kcm leaves it to root alone, as whom the original runs, too.
#[derive(Debug, PartialEq, Eq)]
struct Layout {
    pools: BTreeMap<String, (String, Vec<String>)>,
    lock: (u64, String),
}

impl Original {
    /// Pools as (name, exclusive, CPU lists).
    pub(crate) fn new(pools: &[(&str, bool, &[&str])]) -> Self {
        let conf = ConfDir::new(pools);
        let lock = conf.path().join("lock");
        fs::set_permissions(lock, Permissions::from_mode(0o644)).unwrap();
        assert!(!conf.path().join("allocations").exists());
        let made = layout(&conf);
        assert_eq!(made.pools.len(), pools.len());
        Self { conf, made }
    }

    /// With this text in a list's `tasks`.
    pub(crate) fn with_tasks(self, pool: &str, list: &str, tasks: &str) -> Self {
        self.write_tasks(pool, list, tasks);
        self
    }

    /// Writes a list's `tasks` as the original does: in place.
    pub(crate) fn write_tasks(&self, pool: &str, list: &str, tasks: &str) {
        fs::write(self.conf.tasks_path(pool, list), tasks).unwrap();
    }

    /// The PIDs that the original reads in a list's `tasks`.
    #[track_caller]
    pub(crate) fn tasks(&self, pool: &str, list: &str) -> Vec<i32> {
        let text = fs::read_to_string(self.conf.tasks_path(pool, list)).unwrap();
        let digits = |word: &&str| !word.is_empty() && word.bytes().all(|b| b.is_ascii_digit());
        let words = text.split(',').filter(|_| !text.is_empty());
        let words = words.inspect(|word| assert!(digits(word), "{pool}/{list}: {text:?}"));
        words.map(|word| word.parse().unwrap()).collect()
    }

    /// Fails the test unless the original finds all that it made, can lock it and read it, and
    /// nothing is new but what it ignores.
    #[track_caller]
    pub(crate) fn must_be_readable(&self) {
        assert_eq!(layout(&self.conf), self.made);
        for (pool, (_, lists)) in &self.made.pools {
            for list in lists {
                self.tasks(pool, list);
                // The original opens tasks alone.
                let files = names(&self.conf, &format!("pools/{pool}/{list}"));
                let known = |name: &String| ["tasks", "holder.json"].contains(&name.as_str());
                assert!(files.iter().all(known), "{pool}/{list}: {files:?}");
            }
        }
        for name in names(&self.conf, "") {
            assert!(["allocations", "lock", "pools"].contains(&name.as_str()), "{name}");
        }
        drop(self.lock());
    }

    /// Takes the lock as the original does; fails the test where somebody has it.
    #[track_caller]
    pub(crate) fn lock(&self) -> Flock<File> {
        let mut options = File::options();
        let file = options.read(true).write(true).open(self.conf.path().join("lock")).unwrap();
        Flock::lock(file, FlockArg::LockExclusiveNonblock).unwrap()
    }
}

fn layout(conf: &ConfDir) -> Layout {
    let pools = names(conf, "pools").into_iter().map(|pool| {
        let exclusive = conf.path().join("pools").join(&pool).join("exclusive");
        let flag = fs::read_to_string(exclusive).unwrap();
        let mut lists = names(conf, &format!("pools/{pool}"));
        lists.retain(|name| name != "exclusive");
        (pool, (flag, lists))
    });
    let pools: BTreeMap<_, _> = pools.collect();
    assert!(pools.values().all(|(flag, _)| ["0", "1"].contains(&flag.as_str())), "{pools:?}");
    let lock = conf.path().join("lock");
    let metadata = fs::symlink_metadata(&lock).unwrap();
    let lock = (metadata.ino(), fs::read_to_string(lock).unwrap());
    Layout { pools, lock }
}

/// The names in a folder of the directory, sorted.
fn names(conf: &ConfDir, folder: &str) -> Vec<String> {
    let entries = fs::read_dir(conf.path().join(folder)).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names.collect();
    names.sort();
    names
}

/// A process that the original isolated: bound to its CPUs, with no record; killed when dropped.
pub(crate) struct Isolated(Child);

impl Isolated {
    pub(crate) fn on(cpus: &str) -> Self {
        let mut command = Command::new("taskset");
        let child = command.args(["-c", cpus, "sleep", "600"]).stdin(Stdio::null()).spawn();
        let isolated = Self(child.unwrap());
        let comm = format!("/proc/{}/comm", isolated.pid());
        until("a process to be bound", || {
            (fs::read_to_string(&comm).unwrap() == "sleep\n").then_some(())
        });
        isolated
    }

    pub(crate) fn pid(&self) -> i32 {
        self.0.id() as i32
    }
}

impl Drop for Isolated {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
