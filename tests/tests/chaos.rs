//! Everything at once: containers of real runtimes and stand-ins, `isolate`, kills, repairs, readers,
//! and somebody who damages single files of the directory. All the while the kernel is asked who runs
//! where, and no CPU ever has two owners.
//!
//! `make test` has twenty seconds of it, `make deep` ten minutes (`KCM_CHAOS_SECONDS`), `make soak` an hour
//! (`KCM_SOAK_SECONDS`).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods, missing_docs)]

use std::collections::HashSet;
use std::fs;
use std::os::unix::fs::FileExt;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use kcm_tests::conf_dir::ConfDir;
use kcm_tests::hook::HookCall;
use kcm_tests::isolate::descendants;
use kcm_tests::kcm::{kcm, run};
use kcm_tests::kernel_audit::{bound, two_owners};
use kcm_tests::machine::{kill, until};
use kcm_tests::runtime::{Runtime, with_runtime};
use kcm_tests::stand_in::{StandIn, new_id};

/// A list a CPU, so that the kernel can tell the owners.
const LISTS: [&str; 2] = ["0", "1"];

/// One test at a time: the checker sees all that this program has started.
static ALONE: Mutex<()> = Mutex::new(());

/// Two owners on purpose, which must be found.
#[test]
fn the_checker_finds_two_owners_of_a_cpu() {
    let _alone = ALONE.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let [first, second] = [0; 2].map(|_| StandIn::new(&new_id("seeded")));
    let nobody = |_| false;
    assert_eq!(two_owners(&[], nobody), None, "nobody is bound yet");
    bind(&first, "0");
    bind(&second, "1");
    assert_eq!(two_owners(&[], nobody), None, "each has its own");
    bind(&second, "0");
    let second_is_starting = |pid| pid == second.pid();
    assert_eq!(two_owners(&[], second_is_starting), None, "the other may yet fail");
    let [a, b] = two_owners(&[], nobody).expect("two owners of CPU 0");
    let mut pids = [a.pid, b.pid];
    pids.sort_unstable();
    let mut expected = [first.pid(), second.pid()];
    expected.sort_unstable();
    assert_eq!((a.cpu, b.cpu, pids), (0, 0, expected));
}

fn bind(container: &StandIn, cpu: &str) {
    let cgroup = container.cgroup().path();
    fs::write(kcm_tests::machine::cgroup_file(&cgroup, "cpuset.cpus"), cpu).unwrap();
}

/// What was done.
#[derive(Debug, Default)]
struct Counts {
    allocated: AtomicUsize,
    refused: AtomicUsize,
    hooks_killed: AtomicUsize,
    runtimes: AtomicUsize,
    isolated: AtomicUsize,
    isolates_killed: AtomicUsize,
    damaged: AtomicUsize,
    repaired: AtomicUsize,
    read: AtomicUsize,
    looks: AtomicUsize,
    seen: AtomicUsize,
}

fn count(counter: &AtomicUsize) {
    counter.fetch_add(1, Ordering::Relaxed);
}

/// The directory, who is at work on it, and until when.
struct Chaos {
    conf: ConfDir,
    end: Instant,
    counts: Counts,
    /// What `kcm isolate` has started and may live.
    commands: Mutex<Vec<i32>>,
    /// Containers whose start has succeeded, and nobody has ended yet.
    started: Mutex<HashSet<i32>>,
}

/// A few steps of a xorshift generator: each worker does something else, each run the same.
struct Dice(u64);

impl Dice {
    fn new(number: u64) -> Self {
        Self(0x9e37_79b9_7f4a_7c15 ^ (number + 1))
    }

    fn throw(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 16) % sides
    }

    /// A moment that somebody lives: chance, not a wait for anything.
    fn a_while(&mut self, milliseconds: u64) {
        std::thread::sleep(Duration::from_micros(self.throw(milliseconds * 1000)));
    }
}

impl Chaos {
    fn new(seconds: u64) -> Self {
        Self {
            conf: ConfDir::new(&[("p", true, &LISTS)]),
            end: Instant::now() + Duration::from_secs(seconds),
            counts: Counts::default(),
            commands: Mutex::default(),
            started: Mutex::default(),
        }
    }

    fn is_over(&self) -> bool {
        Instant::now() >= self.end
    }

    fn stand_ins(&self, mut dice: Dice) {
        while !self.is_over() {
            let mut container = StandIn::new(&new_id("c"));
            let mut call = HookCall::create(self.conf.path(), &container, "p").start();
            call.give_input();
            if dice.throw(5) == 0 {
                dice.a_while(10);
                call.kill();
            }
            let ran = call.finish();
            match (ran.succeeded(), ran.was_killed()) {
                (true, _) => {
                    count(&self.counts.allocated);
                    self.started.lock().unwrap().insert(container.pid());
                }
                (_, true) => count(&self.counts.hooks_killed),
                _ => {
                    self.must_be_a_refusal(&ran.stderr);
                    count(&self.counts.refused);
                }
            }
            dice.a_while(30);
            self.started.lock().unwrap().remove(&container.pid());
            container.kill();
            if dice.throw(2) == 0 {
                HookCall::poststop(self.conf.path(), container.id()).run().must_succeed();
            }
        }
    }

    #[track_caller]
    fn must_be_a_refusal(&self, said: &str) {
        let refusals = [
            "No free cpu lists in pool p",
            "CPU lists of pool p can be used here",
            // Damaged over and over while it was bound.
            " of pool p was given to ",
        ];
        assert!(refusals.iter().any(|refusal| said.contains(refusal)), "{said}");
    }

    fn containers(&self, runtime: Runtime, dice: Dice) {
        with_runtime(runtime, &[("unused", true, &["0"])], |scene| {
            let mut dice = Dice(dice.0);
            while !self.is_over() {
                let flags = vec![format!("--conf-dir={}", self.conf.path().display())];
                let builder = scene.container(&new_id(runtime.program)).pool("p");
                let mut starting = builder.with(|bundle| bundle.hook_flags = flags).spawn();
                let status = starting.wait();
                match status.success() {
                    true => {
                        count(&self.counts.runtimes);
                        let pid = starting.container.pid();
                        self.started.lock().unwrap().insert(pid);
                        dice.a_while(100);
                        self.started.lock().unwrap().remove(&pid);
                        starting.container.kill();
                    }
                    false => {
                        self.must_be_a_refusal(&starting.container.failure());
                        count(&self.counts.refused);
                    }
                }
            }
        });
    }

    fn isolate(&self, mut dice: Dice) {
        while !self.is_over() {
            let mut command = kcm();
            command.args(["isolate", "--pool=p", "--", "sleep", "600"]);
            command.env("KCM_CONF_DIR", self.conf.path());
            command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
            let mut child = command.spawn().unwrap();
            let pid = child.id() as i32;
            let command =
                until("an isolated command, or none", || match child.try_wait().unwrap() {
                    Some(_) => Some(None),
                    None => descendants(pid).into_iter().find(|&pid| is_sleep(pid)).map(Some),
                });
            let Some(command) = command else {
                count(&self.counts.refused);
                continue;
            };
            self.commands.lock().unwrap().push(command);
            count(&self.counts.isolated);
            dice.a_while(60);
            if dice.throw(3) == 0 {
                count(&self.counts.isolates_killed);
                let _ = child.kill();
                child.wait().unwrap();
                dice.a_while(20);
                kill(command);
            } else {
                let pid = nix::unistd::Pid::from_raw(pid);
                let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM);
                child.wait().unwrap();
            }
            self.commands.lock().unwrap().retain(|&pid| pid != command);
        }
    }

    /// Harms one file, and has it mended before the next.
    fn vandal(&self, mut dice: Dice) {
        while !self.is_over() {
            let list = LISTS[dice.throw(2) as usize];
            let records = self.conf.allocations();
            let records = records.iter().filter(|name| name.ends_with(".json"));
            let records: Vec<_> =
                records.map(|name| self.conf.path().join("allocations").join(name)).collect();
            let path = match dice.throw(3) {
                0 => self.conf.tasks_path("p", list),
                1 => self.conf.index_path("p", list),
                _ => match records.get(dice.throw(records.len().max(1) as u64) as usize) {
                    Some(record) => record.clone(),
                    None => continue,
                },
            };
            // Only what is there: whoever has gone meanwhile leaves nothing to harm.
            let harm = |content: &[u8]| {
                let file = fs::OpenOptions::new().write(true).open(&path)?;
                file.set_len(0)?;
                file.write_all_at(content, 0)
            };
            let harmed = match dice.throw(4) {
                0 => harm(b""),
                1 => harm(b"garbage"),
                2 => harm(&[0; 7]),
                _ => fs::remove_file(&path),
            };
            if harmed.is_ok() {
                count(&self.counts.damaged);
            }
            self.reconcile(&[]);
            self.remove_what_was_kept();
            dice.a_while(20);
        }
    }

    /// As whoever has looked at it does: no more than ten are kept of a file.
    fn remove_what_was_kept(&self) {
        let kept = self.conf.snapshot().into_keys();
        let kept = kept.filter(|path| path.to_string_lossy().contains(".bad"));
        kept.for_each(|path| drop(fs::remove_file(path)));
    }

    fn reconcile(&self, flags: &[&str]) {
        let outcome = run(kcm().arg("reconcile").args(flags).env("KCM_CONF_DIR", self.conf.path()));
        assert_eq!(outcome.signal, None, "{outcome:?}");
        assert!(!outcome.err.contains("panicked"), "{outcome:?}");
    }

    fn repairs(&self) {
        while !self.is_over() {
            self.reconcile(&["--repair"]);
            count(&self.counts.repaired);
        }
    }

    fn readers(&self) {
        while !self.is_over() {
            let outcome = run(kcm().arg("describe").env("KCM_CONF_DIR", self.conf.path()));
            // 1 where it comes upon a damaged file, which it names.
            assert!(matches!(outcome.code, Some(0 | 1)), "{outcome:?}");
            count(&self.counts.read);
        }
    }

    fn check(&self) {
        while !self.is_over() {
            let commands = self.commands.lock().unwrap().clone();
            // The commands of `isolate` are executed when all is done.
            let is_starting =
                |pid| !self.started.lock().unwrap().contains(&pid) && !commands.contains(&pid);
            if let Some(owners) = two_owners(&commands, is_starting) {
                let files: Vec<String> = self.conf.snapshot().iter().map(show).collect();
                panic!("a CPU has two owners: {owners:?}\n{}", files.join("\n"));
            }
            self.counts.seen.fetch_max(bound(&commands).len(), Ordering::Relaxed);
            count(&self.counts.looks);
        }
    }

    /// All of it, until the time is over or something is wrong.
    fn run(&self) {
        std::thread::scope(|scope| {
            for number in 0..6 {
                scope.spawn(move || self.stand_ins(Dice::new(number)));
            }
            for (number, runtime) in Runtime::all().into_iter().enumerate() {
                scope.spawn(move || self.containers(runtime, Dice::new(10 + number as u64)));
            }
            for number in 20..22 {
                scope.spawn(move || self.isolate(Dice::new(number)));
            }
            scope.spawn(|| self.vandal(Dice::new(30)));
            scope.spawn(|| self.repairs());
            scope.spawn(|| self.readers());
            scope.spawn(|| self.check());
        });
        println!("{:?}", self.counts);
        let least = |counter: &AtomicUsize| counter.load(Ordering::Relaxed) > 0;
        let counts = &self.counts;
        for counter in [&counts.allocated, &counts.runtimes, &counts.isolated, &counts.damaged] {
            assert!(least(counter), "something was never done: {counts:?}");
        }
        assert!(counts.seen.load(Ordering::Relaxed) >= LISTS.len() && least(&counts.looks));
        self.all_is_free();
    }

    /// When all are gone (what was killed may take its time to end), every list can be had.
    fn all_is_free(&self) {
        let all = StandIn::new(&new_id("last"));
        let call = HookCall::create_cores(self.conf.path(), &all, "p", LISTS.len());
        let begun = Instant::now();
        loop {
            self.reconcile(&[]);
            let ran = call.run();
            if ran.succeeded() {
                return;
            }
            let files = || self.conf.snapshot().iter().map(show).collect::<Vec<_>>().join("\n");
            assert!(begun.elapsed() < Duration::from_secs(20), "{}\n{}", ran.stderr, files());
        }
    }
}

fn is_sleep(pid: i32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name == "sleep\n")
}

fn show((path, content): (&std::path::PathBuf, &Vec<u8>)) -> String {
    format!("{}: {:?}", path.display(), String::from_utf8_lossy(content))
}

#[test]
fn whatever_happens_at_once_no_cpu_has_two_owners() {
    let _alone = ALONE.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let seconds = std::env::var("KCM_CHAOS_SECONDS").map_or(20, |text| text.parse().unwrap());
    Chaos::new(seconds).run();
}

/// What must not grow: files of the directory, cgroups of the tests, and the memory and descriptors of a
/// `reconcile` that runs all the while.
#[test]
#[ignore = "takes an hour: run by make soak"]
fn an_hour_of_it_lets_nothing_grow() {
    let _alone = ALONE.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let seconds = std::env::var("KCM_SOAK_SECONDS").map_or(3600, |text| text.parse().unwrap());
    let chaos = Chaos::new(seconds);
    let mut daemon = kcm();
    daemon.args(["reconcile", "--interval=1"]).env("KCM_CONF_DIR", chaos.conf.path());
    daemon.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
    let mut daemon = daemon.spawn().unwrap();
    let pid = daemon.id() as i32;
    let mut sizes: Vec<[usize; 3]> = Vec::new();
    std::thread::scope(|scope| {
        scope.spawn(|| chaos.run());
        // A look a hundredth of the time.
        while !chaos.is_over() {
            std::thread::sleep(Duration::from_millis(seconds * 10));
            sizes.push([memory(pid), descriptors(pid), files(&chaos.conf)]);
        }
    });
    assert!(daemon.try_wait().unwrap().is_none(), "reconcile has ended");
    daemon.kill().unwrap();
    daemon.wait().unwrap();
    println!("KiB of memory, descriptors, files: {:?} … {:?}", sizes[0], sizes[sizes.len() - 1]);
    // The most of the last tenth is no more than that of the first half, but for a little.
    for (what, i) in [("memory", 0), ("descriptors", 1), ("files", 2)] {
        let most = |part: &[[usize; 3]]| part.iter().map(|size| size[i]).max().unwrap();
        let (early, late) = (most(&sizes[..sizes.len() / 2]), most(&sizes[sizes.len() * 9 / 10..]));
        assert!(late <= early + early / 4 + 8, "{what} grew from {early} to {late}");
    }
}

/// Resident memory of a process, in KiB (proc_pid_status(5)).
fn memory(pid: i32) -> usize {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

fn descriptors(pid: i32) -> usize {
    fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count()
}

fn files(conf: &ConfDir) -> usize {
    conf.snapshot().len()
}
