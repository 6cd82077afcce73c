//! The lock of the configuration directory: waited for and held for a limited time, and never the
//! wrong one.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods, missing_docs)]

use std::fs::{self, File};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use kcm_tests::conf_dir::ConfDir;
use kcm_tests::crash::Moment;
use kcm_tests::hook::HookCall;
use kcm_tests::kcm::kcm;
use kcm_tests::machine::skip;
use kcm_tests::programs::program;
use kcm_tests::scenario::Scenario;
use kcm_tests::stand_in::StandIn;
use kcm_tests::strace::Trace;
use nix::fcntl::{Flock, FlockArg};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

fn lock_path(conf_dir: &ConfDir) -> PathBuf {
    conf_dir.path().join("lock")
}

fn lock(path: &Path) -> Flock<File> {
    let file = File::options().write(true).create(true).truncate(false).open(path).unwrap();
    Flock::lock(file, FlockArg::LockExclusive).unwrap()
}

/// Waits until something is so.
fn until(what: &str, is_so: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !is_so() {
        assert!(Instant::now() < deadline, "{what}: not within 60 s");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Whether `/proc/locks` has a waiter, or a holder, of this file that is this process.
fn has_lock(path: &Path, pid: i32, waits: bool) -> bool {
    let inode = fs::metadata(path).unwrap().ino();
    let (pid, inode) = (format!(" {pid} "), format!(":{inode} "));
    let locks = fs::read_to_string("/proc/locks").unwrap();
    let mut lines = locks.lines().filter(|line| line.contains(&pid) && line.contains(&inode));
    lines.any(|line| line.contains("->") == waits)
}

/// A process that has the lock and is stopped.
struct Stopped(Child);

impl Stopped {
    fn holding(path: &Path, option: &str) -> Self {
        let words = [option, "--no-fork", path.to_str().unwrap(), "sleep", "600"];
        let child = Command::new("flock").args(words).spawn().unwrap();
        let pid = child.id() as i32;
        until("flock has the lock", || has_lock(path, pid, false));
        kill(Pid::from_raw(pid), Signal::SIGSTOP).unwrap();
        Self(child)
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_lock_that_a_stopped_process_holds_is_an_error_in_time_that_names_it() {
    for option in ["--exclusive", "--shared"] {
        let conf_dir = ConfDir::new(&[("p", true, &["0", "1"])]);
        let mut ended = StandIn::new(&format!("ended{option}"));
        HookCall::create(conf_dir.path(), &ended, "p").run().must_succeed();
        ended.kill();
        let stopped = Stopped::holding(&lock_path(&conf_dir), option);
        let container = StandIn::new(&format!("stopped{option}"));
        let holder = format!("process {} holds it", stopped.0.id());
        let (before, started) = (conf_dir.snapshot(), Instant::now());
        let create = HookCall::create(conf_dir.path(), &container, "p").lock_timeout("0.5");
        create.run().must_refuse(&["kcm/lock was not free within 500ms", &holder]);
        let waited = started.elapsed();
        assert!(
            waited >= Duration::from_millis(500) && waited < Duration::from_secs(3),
            "{waited:?}"
        );
        let poststop = HookCall::poststop(conf_dir.path(), ended.id()).lock_timeout("0.5");
        let said = poststop.run().must_succeed().stderr;
        assert!(said.contains("kcm/lock") && said.contains(&holder), "{said}");
        assert_eq!(conf_dir.snapshot(), before);
        drop(stopped);
        create.run().must_succeed();
        println!("{option}: refused after {waited:?}");
    }
}

#[test]
fn a_malformed_time_limit_is_an_error_that_shows_it() {
    let conf_dir = ConfDir::new(&[("p", true, &["0"])]);
    let container = StandIn::new("limit");
    let before = conf_dir.snapshot();
    for text in ["", "0", "-1", "x", "5s", "nan", "inf", "1e30", "0x5", "1,5"] {
        let call = HookCall::create(conf_dir.path(), &container, "p").lock_timeout(text);
        call.run().must_refuse(&["KCM_LOCK_TIMEOUT", &format!("{text:?}"), "30 or 0.5"]);
        assert_eq!(conf_dir.snapshot(), before, "{text}");
    }
    HookCall::create(conf_dir.path(), &container, "p").lock_timeout("0.9").run().must_succeed();
}

#[test]
fn a_hook_that_holds_the_lock_too_long_ends_itself_and_leaves_nothing_half_done() {
    let mut tried = 0;
    for scenario in [Scenario::two_cores, Scenario::reclaiming_the_dead, Scenario::poststop] {
        let undisturbed = Trace::of(&scenario().call, &[]);
        let calls = undisturbed.changes().into_iter();
        for point in calls.filter(|call| matches!(&*call.name, "renameat" | "unlinkat" | "mkdirat"))
        {
            let mut scenario = scenario();
            scenario.call = scenario.call.lock_timeout("0.2");
            let slow = format!("{}:delay_enter=500000:when={}", point.name, point.nth);
            let trace = Trace::of(&scenario.call, &[&slow]);
            let said = &trace.ran.stderr;
            assert_eq!(trace.ran.status.code(), Some(1), "{point:?}: {said}");
            assert!(said.contains("kcm/lock for longer than 200ms and ended itself"), "{said}");
            scenario.must_recover();
            tried += 1;
        }
    }
    println!("ended itself at {tried} points");
    assert!(tried >= 8);
}

/// An alarm(2) that whoever started us had set, as wrappers that limit a program's time do.
#[test]
fn an_alarm_of_somebody_elses_ends_nobody_who_holds_the_lock() {
    for name in ["renameat:signal=SIGALRM:when=2", "openat2:signal=SIGALRM:when=3+"] {
        let conf_dir = ConfDir::new(&[("p", true, &["0"])]);
        let container = StandIn::new("alarmed");
        let call = HookCall::create(conf_dir.path(), &container, "p");
        Trace::of(&call, &[name]).ran.must_succeed();
        assert_eq!(conf_dir.tasks("p", "0"), container.pid().to_string());
    }
}

#[test]
fn a_lock_file_that_is_replaced_while_somebody_waits_is_locked_anew() {
    let conf_dir = ConfDir::new(&[("p", true, &["0"])]);
    let (path, new_path) = (lock_path(&conf_dir), conf_dir.path().join("new"));
    let container = StandIn::new("replaced");
    let old = lock(&path);
    let mut call = HookCall::create(conf_dir.path(), &container, "p").start();
    call.give_input();
    until("the hook waits for the old lock", || has_lock(&path, call.pid(), true));
    let new = lock(&new_path);
    fs::rename(&new_path, &path).unwrap();
    drop(old);
    until("the hook waits for the new lock", || has_lock(&path, call.pid(), true));
    assert_eq!(conf_dir.tasks("p", "0"), "");
    drop(new);
    call.finish().must_succeed();
    assert_eq!(conf_dir.tasks("p", "0"), container.pid().to_string());
}

#[test]
fn a_directory_that_is_replaced_while_somebody_waits_is_the_one_that_is_written() {
    let conf_dir = ConfDir::new(&[("p", true, &["0"])]);
    let restored = ConfDir::new(&[("p", true, &["0"])]);
    let aside = conf_dir.path().with_file_name("aside");
    let container = StandIn::new("restored");
    let old = lock(&lock_path(&conf_dir));
    let mut call = HookCall::create(conf_dir.path(), &container, "p").start();
    call.give_input();
    until("the hook waits", || has_lock(&lock_path(&conf_dir), call.pid(), true));
    fs::rename(conf_dir.path(), &aside).unwrap();
    fs::rename(restored.path(), conf_dir.path()).unwrap();
    drop(old);
    call.finish().must_succeed();
    assert_eq!(conf_dir.tasks("p", "0"), container.pid().to_string());
    assert_eq!(fs::read_to_string(aside.join("pools/p/0/tasks")).unwrap(), "");
}

#[test]
fn a_lock_file_that_others_could_open_is_closed_to_them() {
    for mode in [0o644, 0o666, 0o777, 0o640] {
        let conf_dir = ConfDir::new(&[("p", true, &["0"])]);
        let path = lock_path(&conf_dir);
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        fs::set_permissions(conf_dir.path().parent().unwrap(), fs::Permissions::from_mode(0o755))
            .unwrap();
        let container = StandIn::new("closed");
        HookCall::create(conf_dir.path(), &container, "p").run().must_succeed();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o600, "{mode:o}");
        let user = ["--reuid=65534", "--regid=65534", "--clear-groups", "flock", "--nonblock"];
        let mut command = Command::new("setpriv");
        let output = command.args(user).arg(&path).arg("true").output().unwrap();
        assert!(!output.status.success(), "an ordinary user had the lock");
    }
}

#[test]
fn a_hook_that_is_killed_leaves_no_lock_behind() {
    let conf_dir = ConfDir::new(&[("p", true, &["0"])]);
    let container = StandIn::new("left");
    let call = HookCall::create(conf_dir.path(), &container, "p").lock_timeout("0.5");
    assert!(Trace::of(&call, &["renameat:signal=SIGKILL:when=1"]).ran.was_killed());
    call.run().must_succeed();
}

/// `kcm describe` in loops, until dropped.
struct Readers {
    stop: Arc<AtomicBool>,
    reads: Arc<AtomicUsize>,
    threads: Vec<JoinHandle<()>>,
}

impl Readers {
    fn start(count: usize, conf_dir: &Path) -> Self {
        let (stop, reads) = (Arc::default(), Arc::default());
        let threads = (0..count).map(|_| {
            let (stop, reads) =
                (Arc::<AtomicBool>::clone(&stop), Arc::<AtomicUsize>::clone(&reads));
            let conf_dir = conf_dir.to_owned();
            std::thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    let mut read = kcm();
                    read.arg("describe").arg("--conf-dir").arg(&conf_dir);
                    assert!(read.stdout(Stdio::null()).status().unwrap().success());
                    reads.fetch_add(1, Ordering::Relaxed);
                }
            })
        });
        let threads = threads.collect();
        Self { stop, reads, threads }
    }

    /// How many reads are done.
    fn reads(&self) -> usize {
        self.reads.load(Ordering::Relaxed)
    }

    /// How long so many more reads take them.
    fn time_of(&self, reads: usize) -> Duration {
        let (started, before) = (Instant::now(), self.reads());
        until("so many reads are done", || self.reads() >= before + reads);
        started.elapsed()
    }
}

impl Drop for Readers {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

#[test]
fn readers_in_loops_keep_no_writer_waiting_longer_than_three_of_their_rounds() {
    const READERS: usize = 32;
    let lists: Vec<String> = (0..512).map(|n| n.to_string()).collect();
    let lists: Vec<&str> = lists.iter().map(String::as_str).collect();
    let conf_dir = ConfDir::new(&[("p", true, &lists[1..]), ("shared", false, &lists[..1])]);
    let containers: Vec<StandIn> = (0..8).map(|n| StandIn::new(&format!("writer-{n}"))).collect();
    let readers = Readers::start(READERS, conf_dir.path());
    readers.time_of(READERS);
    let (mut rounds, mut writes, mut most) = (Duration::ZERO, Duration::ZERO, 0);
    for container in &containers {
        // Measured just before each write: the machine may have other work, too.
        rounds += readers.time_of(READERS);
        let (started, reads) = (Instant::now(), readers.reads());
        let call = HookCall::create(conf_dir.path(), container, "shared").lock_timeout("60");
        call.run().must_succeed();
        writes += started.elapsed();
        most = most.max(readers.reads() - reads);
    }
    let count = containers.len();
    println!("{count} rounds of {READERS} readers: {rounds:?}; {count} writes: {writes:?}");
    println!("at most {most} reads were done while one writer waited and wrote");
    assert!(writes <= 3 * rounds && most <= 3 * READERS, "{writes:?}, {rounds:?}, {most}");
}

#[test]
fn a_writer_that_is_stopped_while_it_waits_stops_nobody() {
    let conf_dir = ConfDir::new(&[("p", true, &["0", "1"])]);
    let held = lock(&lock_path(&conf_dir));
    let container = StandIn::new("waits");
    let mut stopped = HookCall::create(conf_dir.path(), &container, "p").start();
    stopped.give_input();
    until("the hook waits", || has_lock(&lock_path(&conf_dir), stopped.pid(), true));
    kill(Pid::from_raw(stopped.pid()), Signal::SIGSTOP).unwrap();
    let stat = format!("/proc/{}/stat", stopped.pid());
    until("the hook is stopped", || fs::read_to_string(&stat).unwrap().contains(") T "));
    drop(held);
    let other = StandIn::new("comes-later");
    HookCall::create(conf_dir.path(), &other, "p").lock_timeout("1").run().must_succeed();
    let mut read = kcm();
    read.arg("describe").arg("--conf-dir").arg(conf_dir.path()).env("KCM_LOCK_TIMEOUT", "1");
    assert!(read.stdout(Stdio::null()).status().unwrap().success());
    kill(Pid::from_raw(stopped.pid()), Signal::SIGCONT).unwrap();
    stopped.finish().must_succeed();
}

#[test]
fn the_holder_is_named_where_the_kernel_numbers_the_file_otherwise_than_stat_tells() {
    let conf_dir = ConfDir::new(&[("p", true, &["0"])]);
    let folder = tempfile::tempdir().unwrap();
    for name in ["disk", "mount"] {
        fs::create_dir(folder.path().join(name)).unwrap();
    }
    let script = "set -e; cd \"$FOLDER\"; mount -t tmpfs none disk; mkdir disk/upper disk/work
        mount -t overlay none -o lowerdir=\"$CONF\",upperdir=disk/upper,workdir=disk/work mount
        flock --exclusive --no-fork mount/lock sleep 600 & holder=$!
        until grep -q \"FLOCK .* $holder \" /proc/locks; do :; done
        \"$KCM\" describe --conf-dir=mount || true; kill $holder; echo \"HOLDER $holder\" >&2";
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation=private", "sh", "-c", script]);
    command
        .env("FOLDER", folder.path())
        .env("CONF", conf_dir.path())
        .env("KCM_LOCK_TIMEOUT", "0.5");
    let output = command.env("KCM", program("kcm")).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    if said.contains("unknown filesystem type") {
        return skip("this kernel has no overlayfs");
    }
    let (_, holder) = said.trim().rsplit_once("HOLDER ").unwrap_or_else(|| panic!("{said}"));
    assert!(said.contains(&format!("process {holder} holds it")), "{said}");
}
