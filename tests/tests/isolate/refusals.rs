//! Isolates that are refused before their command runs: with a message that helps, and with
//! nothing left behind.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use kcm_tests::conf_dir::ConfDir;
use kcm_tests::hook::HookCall;
use kcm_tests::isolate::{Isolate, must_be_refused, nothing_must_be_held};
use kcm_tests::machine::{cgroup_file, make_cgroup, remove_cgroup, together, two_cpus};
use kcm_tests::mount::Mount;
use kcm_tests::stand_in::StandIn;
use nix::fcntl::{Flock, FlockArg};

const ECHO: [&str; 3] = ["echo", "--", "ran"];

/// Everything in the directory but `allocations/` itself, which kcm makes where it is missing.
fn content(conf_dir: &ConfDir) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = conf_dir.snapshot();
    files.remove(&conf_dir.path().join("allocations/"));
    files
}

/// Fails the test unless the call is refused with these parts in its message, and changes nothing.
#[track_caller]
fn must_refuse(conf_dir: &ConfDir, isolate: Isolate, parts: &[&str]) {
    let before = content(conf_dir);
    must_be_refused(&isolate.words(ECHO).run(), parts);
    assert_eq!(content(conf_dir), before);
}

#[test]
fn a_pool_that_does_not_exist_is_named_with_those_that_do() {
    let conf_dir = ConfDir::new(&[("p", true, &["0"]), ("infra", false, &["1"])]);
    let isolate = Isolate::new(&conf_dir, "dataplane", &[]);
    let parts = ["Requested pool dataplane does not exist", "infra", "p"];
    must_refuse(&conf_dir, isolate, &parts);
    nothing_must_be_held(&conf_dir);
}

#[test]
fn a_full_pool_is_named_with_its_holders() {
    let [first, second] = two_cpus();
    let conf_dir = ConfDir::new(&[("p", true, &[&first, &second])]);
    let container = StandIn::new("refusing");
    HookCall::create(conf_dir.path(), &container, "p").run().must_succeed();
    let isolate = Isolate::new(&conf_dir, "p", &[]).script("echo $$; exec sleep 600").start();
    let _command = isolate.process(0);
    for cores in ["1", "2"] {
        let late = Isolate::new(&conf_dir, "p", &["--cores", cores]).words(ECHO);
        let before = conf_dir.snapshot();
        let outcome = late.run();
        let counts = format!("No free cpu lists in pool p: 2 of 2 are held, {cores} wanted; end ");
        must_be_refused(&outcome, &[&counts]);
        for holder in [&*isolate.owner(), "refusing", &container.pid().to_string()] {
            assert!(outcome.err.contains(holder), "{holder} is not in {outcome:?}");
        }
        assert_eq!(conf_dir.snapshot(), before);
    }
}

#[test]
fn too_few_free_lists_are_all_left_free() {
    let conf_dir = ConfDir::new(&[("p", true, &["0", "1"])]);
    let isolate = Isolate::new(&conf_dir, "p", &[]).script("echo $$; exec sleep 600").start();
    let _command = isolate.process(0);
    let two = Isolate::new(&conf_dir, "p", &["--cores=2"]);
    let parts = ["No free cpu lists in pool p: 1 of 2 are held, 2 wanted; end "];
    must_refuse(&conf_dir, two, &parts);
    let three = Isolate::new(&conf_dir, "p", &["--cores=3"]);
    must_refuse(&conf_dir, three, &["3 cores requested of pool p, which has 2; ask for 2 at most"]);
}

/// A cgroup of a test's own, limited to some CPUs.
struct Cpuset(String);

impl Cpuset {
    fn new(cpus: &str) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let cpuset = Self(format!("/kcmtestisolate{}x{number}", std::process::id()));
        make_cgroup(&cpuset.0, cpus);
        cpuset
    }

    /// A call that is made within.
    fn around(&self, isolate: Isolate) -> Isolate {
        let procs = cgroup_file(&self.0, "cgroup.procs").into_os_string().into_string().unwrap();
        isolate.under(["/bin/sh", "-c", r#"echo $$ >"$0" && exec "$@""#, &procs])
    }
}

impl Drop for Cpuset {
    fn drop(&mut self) {
        remove_cgroup(&self.0);
    }
}

#[test]
fn a_list_that_this_process_may_not_use_is_refused_and_passed_over() {
    let [first, second] = two_cpus();
    let (both, cpuset) = (together([&first, &second]), Cpuset::new(&first));
    let run_in_it = |lists: &[&str], flags: &[&str]| {
        let conf_dir = ConfDir::new(&[("p", true, lists)]);
        let isolate = Isolate::new(&conf_dir, "p", flags).words(["printenv", "--"]);
        let isolate = cpuset.around(isolate.words(["KCM_CPUS_ASSIGNED"]));
        let before = content(&conf_dir);
        let outcome = isolate.run();
        assert_eq!(content(&conf_dir), before, "{lists:?} {flags:?}");
        nothing_must_be_held(&conf_dir);
        outcome
    };
    // The kernel would grant a part of the second one, and say nothing.
    for list in [&*second, &both] {
        let outcome = run_in_it(&[list], &[]);
        must_be_refused(&outcome, &["cpuset"]);
        assert!(outcome.err.contains(&format!("skipping CPU list {list} of")), "{outcome:?}");
    }
    must_be_refused(&run_in_it(&[&first, &second], &["--cores=2"]), &["cpuset"]);
    for lists in [[&*second, &first], [&first, &both]] {
        assert_eq!(run_in_it(&lists, &[]).succeeded().out, format!("{first}\n"));
    }
}

#[test]
fn a_list_with_a_cpu_that_is_not_there_is_refused_and_passed_over() {
    for lists in [&["4000"] as &[_], &["0,4000"], &["8191"]] {
        let conf_dir = ConfDir::new(&[("p", true, lists)]);
        let isolate = Isolate::new(&conf_dir, "p", &[]);
        must_refuse(&conf_dir, isolate, &["pool p", "offline"]);
        nothing_must_be_held(&conf_dir);
    }
    let conf_dir = ConfDir::new(&[("p", true, &["0,4000", "1"])]);
    let isolate = Isolate::new(&conf_dir, "p", &["--", "printenv", "KCM_CPUS_ASSIGNED"]);
    assert_eq!(isolate.run().succeeded().out, "1\n");
}

#[test]
fn a_missing_or_broken_directory_is_named() {
    let conf_dir = ConfDir::new(&[("p", true, &["0"])]);
    let missing = ["is no kcm configuration directory; make one with: kcm init --conf-dir="];
    let pools = conf_dir.path().join("pools");
    let aside = conf_dir.path().join("aside");
    fs::rename(&pools, &aside).unwrap();
    must_refuse(&conf_dir, Isolate::new(&conf_dir, "p", &[]), &missing);
    fs::write(&pools, "").unwrap();
    must_refuse(&conf_dir, Isolate::new(&conf_dir, "p", &[]), &["kcm/pools"]);
    fs::remove_file(&pools).unwrap();
    fs::rename(&aside, &pools).unwrap();

    fs::write(conf_dir.tasks_path("p", "0"), "4194999,nobody").unwrap();
    let before = content(&conf_dir);
    let outcome = Isolate::new(&conf_dir, "p", &ECHO).run();
    must_be_refused(&outcome, &["0 of 1 CPU lists", "a damaged tasks file"]);
    let warning = outcome.lines("WARNING");
    assert!(warning[0].contains("pools/p/0/tasks: \"nobody\" is no process id"), "{outcome:?}");
    assert_eq!((warning.len(), content(&conf_dir)), (1, before));
    fs::write(conf_dir.tasks_path("p", "0"), "").unwrap();

    let read_only = Mount::read_only(conf_dir.path());
    must_refuse(&conf_dir, Isolate::new(&conf_dir, "p", &[]), &["kcm", "Read-only file system"]);
    drop(read_only);
    Isolate::new(&conf_dir, "p", &["true"]).run().succeeded();

    let nowhere = Isolate::of(Isolate::new(&conf_dir, "p", &[]).as_words()[..2].to_vec());
    let nowhere = nowhere.words(["--conf-dir=/nonexistent/kcm", "--pool=p", "true"]).run();
    must_be_refused(&nowhere, &["/nonexistent/kcm", missing[0]]);
}

#[test]
fn a_malformed_variable_is_an_error_that_shows_it() {
    let conf_dir = ConfDir::new(&[("p", true, &["0"])]);
    for (name, value, parts) in [
        ("KCM_LOCK_TIMEOUT", "5s", &["KCM_LOCK_TIMEOUT", "\"5s\"", "30 or 0.5"] as &[_]),
        ("KCM_LOCK_TIMEOUT", "", &["KCM_LOCK_TIMEOUT", "\"\"", "30 or 0.5"]),
        ("KCM_LOCK_TIMEOUT", "-1", &["KCM_LOCK_TIMEOUT", "\"-1\"", "30 or 0.5"]),
        ("KCM_LOG_LEVEL", "LOUD", &["LOUD", "CRITICAL", "DEBUG"]),
        ("KCM_PROC_FS", "/nonexistent", &["/nonexistent", "KCM_PROC_FS"]),
    ] {
        let isolate = Isolate::new(&conf_dir, "p", &[]).env(name, value);
        must_refuse(&conf_dir, isolate, parts);
    }
    nothing_must_be_held(&conf_dir);
}

#[test]
fn a_lock_that_somebody_has_is_an_error_in_time_that_names_it() {
    let conf_dir = ConfDir::new(&[("p", true, &["0"])]);
    let file = File::options().write(true).open(conf_dir.path().join("lock")).unwrap();
    let lock = Flock::lock(file, FlockArg::LockExclusive).unwrap();
    let isolate = Isolate::new(&conf_dir, "p", &[]).env("KCM_LOCK_TIMEOUT", "0.2");
    let holder = format!("process {} holds it", std::process::id());
    must_refuse(&conf_dir, isolate, &["kcm/lock was not free within 200ms", &holder]);
    drop(lock);
    nothing_must_be_held(&conf_dir);
}
