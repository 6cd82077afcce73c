//! `--interval`: a round, a document, until a signal; a round that fails is not the last.

use std::fs;
use std::process::{Child, Command, Stdio};

use kcm_tests::conf_dir::ConfDir;
use kcm_tests::machine::{cgroup_file, kill_and_wait, until, waits_for_a_lock};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::NamedTempFile;

use super::document::{NOBODY, NOTHING, command, document, reclaimed, repaired};
use super::holders::{holder, pool, write_tasks};

/// A reconcile that goes on; killed when dropped.
struct Rounds {
    kcm: Child,
    out: NamedTempFile,
    err: NamedTempFile,
}

impl Rounds {
    fn start(conf: &ConfDir, flags: &[&str]) -> Self {
        Self::with_limit(conf, flags, "30")
    }

    /// With a time limit for the lock.
    fn with_limit(conf: &ConfDir, flags: &[&str], limit: &str) -> Self {
        let [out, err] = [NamedTempFile::new().unwrap(), NamedTempFile::new().unwrap()];
        let mut command = command(conf, flags);
        command.env("KCM_LOCK_TIMEOUT", limit).stdin(Stdio::null());
        command.stdout(out.reopen().unwrap()).stderr(err.reopen().unwrap());
        Self { kcm: command.spawn().unwrap(), out, err }
    }

    fn out(&self) -> String {
        fs::read_to_string(self.out.path()).unwrap()
    }

    fn err(&self) -> String {
        fs::read_to_string(self.err.path()).unwrap()
    }

    /// How many documents it has printed.
    fn count(&self) -> usize {
        self.out().lines().filter(|&line| line == "}").count()
    }

    /// Waits until it has printed so many more; gives the last.
    #[track_caller]
    fn print(&mut self, more: usize) -> String {
        let before = self.count();
        until("reconcile to print another document", || {
            assert!(self.kcm.try_wait().unwrap().is_none(), "it has ended: {}", self.err());
            (self.count() >= before + more).then_some(())
        });
        let out = self.out();
        let end = out.rfind("\n}\n").unwrap() + 3;
        let begin = out[..end - 3].rfind("\n}\n").map_or(0, |at| at + 3);
        out[begin..end].to_owned()
    }

    /// Waits until it has said another error that has this part.
    fn fail(&mut self, part: &str) {
        let errors = |err: &str| {
            let lines =
                err.lines().filter(|line| line.starts_with("ERROR ") && line.contains(part));
            lines.count()
        };
        let before = errors(&self.err());
        until(&format!("an ERROR about {part}"), || {
            assert!(self.kcm.try_wait().unwrap().is_none(), "it has ended: {}", self.err());
            (errors(&self.err()) > before).then_some(())
        });
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.kcm.id() as i32), signal).unwrap();
    }

    /// Fails the test unless it ends, with status 0; gives what it has printed.
    #[track_caller]
    fn end(&mut self) -> String {
        let status = until("reconcile to end", || self.kcm.try_wait().unwrap());
        assert_eq!(status.code(), Some(0), "{status}: {}", self.err());
        self.out()
    }
}

impl Drop for Rounds {
    fn drop(&mut self) {
        let _ = self.kcm.kill();
        let _ = self.kcm.wait();
    }
}

/// A process that holds the directory's lock; ended when dropped.
struct Locked(Child);

impl Locked {
    fn new(conf: &ConfDir) -> Self {
        let path = conf.path().join("lock");
        let words = ["--exclusive", "--no-fork", path.to_str().unwrap(), "sleep", "600"];
        let child = Command::new("flock").args(words).spawn().unwrap();
        // It becomes its command when it has the lock.
        until("flock to have the lock", || {
            let name = fs::read_to_string(format!("/proc/{}/comm", child.id())).unwrap();
            (name == "sleep\n").then_some(())
        });
        Self(child)
    }
}

impl Drop for Locked {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn each_round_prints_a_document_and_finds_what_has_died_since() {
    let conf = pool(&["0", "1"]);
    write_tasks(&conf, "p", "0", &[NOBODY]);
    let mut rounds = Rounds::start(&conf, &["--interval=0.05"]);
    assert_eq!(rounds.print(3), NOTHING);
    let holder = holder(&conf, "round");
    assert_eq!(rounds.print(2), NOTHING);
    kill_and_wait(holder.pid());
    rounds.print(2);
    rounds.signal(Signal::SIGTERM);
    let out = rounds.end();
    let first = document(&[], &[reclaimed("p", "0", NOBODY)]);
    let second = document(&[], &[reclaimed("p", "0", holder.pid())]);
    let rest = out.strip_prefix(&first).unwrap_or_else(|| panic!("{out}"));
    let (before, after) = rest.split_once(&second).unwrap_or_else(|| panic!("{out}"));
    for nothing in [before, after] {
        assert_eq!(nothing, NOTHING.repeat(nothing.len() / NOTHING.len()), "{out}");
    }
    assert!(before.len() / NOTHING.len() >= 4, "{out}");
    assert_eq!((conf.tasks("p", "0"), conf.tasks("p", "1")), (String::new(), String::new()));
}

#[test]
fn each_round_repairs_where_that_is_asked_for() {
    let conf = pool(&["0"]);
    let holder = holder(&conf, "repaired");
    let mut rounds = Rounds::start(&conf, &["--interval=0.05", "--repair"]);
    for _ in 0..2 {
        rounds.print(1);
        let cpus = cgroup_file(&holder.cgroup().path(), "cpuset.cpus");
        fs::write(cpus, "0-1").unwrap();
        until("the container to be put back", || (holder.cgroup().cpus() == "0").then_some(()));
    }
    rounds.print(2);
    rounds.signal(Signal::SIGTERM);
    let entry = repaired("p", "0", holder.pid(), &[0, 1], true);
    let repaired = document(&[entry], &[]);
    let out = rounds.end();
    assert_eq!(out.matches(&repaired).count(), 2, "{out}");
    assert_eq!(out.replace(&repaired, "").replace(NOTHING, ""), "");
}

#[test]
fn a_round_in_which_the_lock_is_not_free_is_an_error_and_not_the_last() {
    let conf = pool(&["0"]);
    // A round that itself took longer than that would end the program.
    let mut rounds = Rounds::with_limit(&conf, &["--interval=0.05"], "1");
    rounds.print(1);
    let locked = Locked::new(&conf);
    rounds.fail("kcm/lock was not free within 1s");
    let before = rounds.count();
    rounds.fail("kcm/lock was not free within 1s");
    assert_eq!(rounds.count(), before, "it prints what it cannot have seen");
    write_tasks(&conf, "p", "0", &[NOBODY]);
    drop(locked);
    rounds.print(1);
    rounds.signal(Signal::SIGTERM);
    let out = rounds.end();
    let reclaimed = document(&[], &[reclaimed("p", "0", NOBODY)]);
    assert_eq!(out.matches(&reclaimed).count(), 1, "{out}");
    assert_eq!(out.replace(&reclaimed, "").replace(NOTHING, ""), "");
}

#[test]
fn a_directory_that_vanishes_is_an_error_until_it_returns() {
    let conf = pool(&["0"]);
    let mut rounds = Rounds::start(&conf, &["--interval=0.05"]);
    rounds.print(1);
    let aside = conf.path().with_file_name("aside");
    fs::rename(conf.path(), &aside).unwrap();
    for _ in 0..2 {
        rounds.fail(conf.path().to_str().unwrap());
    }
    write_tasks_at(&aside);
    fs::rename(&aside, conf.path()).unwrap();
    rounds.print(1);
    let pools = conf.path().join("pools");
    fs::rename(&pools, conf.path().join("no-pools")).unwrap();
    rounds.fail(conf.path().to_str().unwrap());
    fs::rename(conf.path().join("no-pools"), &pools).unwrap();
    rounds.print(1);
    rounds.signal(Signal::SIGTERM);
    let out = rounds.end();
    let reclaimed = document(&[], &[reclaimed("p", "0", NOBODY)]);
    assert_eq!(out.matches(&reclaimed).count(), 1, "{out}");
}

fn write_tasks_at(conf_dir: &std::path::Path) {
    fs::write(conf_dir.join("pools/p/0/tasks"), NOBODY.to_string()).unwrap();
}

#[test]
fn a_malformed_file_is_an_error_each_round_and_the_rest_is_done() {
    let conf = pool(&["0", "1"]);
    let odd = conf.path().join("pools/p/3-1");
    fs::create_dir(&odd).unwrap();
    let mut rounds = Rounds::start(&conf, &["--interval=0.05"]);
    rounds.fail("pools/p/3-1");
    rounds.fail("pools/p/3-1");
    write_tasks(&conf, "p", "0", &[NOBODY]);
    until("the rest to be done", || conf.tasks("p", "0").is_empty().then_some(()));
    fs::remove_dir(&odd).unwrap();
    rounds.print(2);
    rounds.signal(Signal::SIGTERM);
    let out = rounds.end();
    assert_eq!(out.matches(&document(&[], &[reclaimed("p", "0", NOBODY)])).count(), 1, "{out}");
}

#[test]
fn either_signal_ends_it_with_status_0_while_it_waits() {
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let conf = pool(&["0"]);
        let mut rounds = Rounds::start(&conf, &["--interval=600"]);
        // It may have printed already.
        until("the first document", || (rounds.count() == 1).then_some(()));
        assert_eq!(rounds.out(), NOTHING);
        until("reconcile to wait", || {
            let stat = fs::read_to_string(format!("/proc/{}/stat", rounds.kcm.id())).unwrap();
            stat.contains(") S ").then_some(())
        });
        rounds.signal(signal);
        assert_eq!(rounds.end(), NOTHING, "{signal}");
    }
}

#[test]
fn a_signal_that_comes_while_it_waits_for_the_lock_ends_it_too() {
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let conf = pool(&["0"]);
        let locked = Locked::new(&conf);
        let mut rounds = Rounds::start(&conf, &["--interval=600"]);
        until("reconcile to wait for the lock", || {
            waits_for_a_lock(rounds.kcm.id() as i32).then_some(())
        });
        rounds.signal(signal);
        assert_eq!(rounds.end(), "", "{signal}");
        drop(locked);
    }
}

#[test]
fn a_signal_ends_it_between_two_rounds_and_never_leaves_half_a_document() {
    let conf = pool(&["0"]);
    for _ in 0..20 {
        let mut rounds = Rounds::start(&conf, &["--interval=0.001"]);
        rounds.print(1);
        rounds.signal(Signal::SIGTERM);
        let out = rounds.end();
        assert_eq!(out, NOTHING.repeat(out.len() / NOTHING.len()));
    }
}
