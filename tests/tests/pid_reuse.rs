//! Who is dead: reused PIDs, other boots, zombies, threads that outlive their leader, PIDs with no
//! record, other PID namespaces.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods, missing_docs)]

use std::fs::{self, File};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant, SystemTime};

use kcm_tests::conf_dir::ConfDir;
use kcm_tests::hook::HookCall;
use kcm_tests::kcm::reconcile;
use kcm_tests::machine::start_as;
use kcm_tests::stand_in::StandIn;

/// One test at a time: a PID that one has reused on purpose is not to be that which another has
/// just made free.
static ALONE: Mutex<()> = Mutex::new(());

fn alone() -> MutexGuard<'static, ()> {
    ALONE.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

fn one_list() -> ConfDir {
    ConfDir::new(&[("p", true, &["0"])])
}

/// A directory whose one list this container holds.
fn held_by(container: &StandIn) -> ConfDir {
    let conf_dir = one_list();
    HookCall::create(conf_dir.path(), container, "p").run().must_succeed();
    assert_eq!(conf_dir.tasks("p", "0"), container.pid().to_string());
    conf_dir
}

/// Fails the test unless the next container gets the one list.
#[track_caller]
fn must_be_reclaimed(conf_dir: &ConfDir, case: &str) {
    let next = StandIn::new(&format!("next-{}", case.replace(' ', "-")));
    let ran = HookCall::create(conf_dir.path(), &next, "p").run().must_succeed();
    assert!(ran.stderr.contains("reclaimed CPU list 0 of pool p"), "{}", ran.stderr);
    assert_eq!(conf_dir.tasks("p", "0"), next.pid().to_string());
    println!("{case}: reclaimed");
}

/// Fails the test unless the next container is refused, and nothing has changed.
#[track_caller]
fn must_be_held(conf_dir: &ConfDir, case: &str) {
    let next = StandIn::new(&format!("next-{}", case.replace(' ', "-")));
    let state = || (conf_dir.tasks("p", "0"), conf_dir.allocations());
    let before = state();
    HookCall::create(conf_dir.path(), &next, "p").run().must_refuse(&["1 of 1 are held"]);
    assert_eq!(state(), before);
    println!("{case}: held");
}

/// A process; killed when dropped.
struct Process(Option<Child>);

impl Process {
    fn sleeping() -> Self {
        Self(Some(Command::new("sleep").arg("600").spawn().unwrap()))
    }

    fn with_pid(pid: i32) -> Self {
        start_as(pid, Self::sleeping, Self::pid)
    }

    fn pid(&self) -> i32 {
        self.0.as_ref().unwrap().id() as i32
    }

    /// Somebody else ends it.
    fn leave(mut self) -> Child {
        self.0.take().unwrap()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Some(child) = &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// State and number of threads of a process (proc_pid_stat(5), fields 3 and 20).
fn stat(pid: i32) -> Option<(String, usize)> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let fields: Vec<&str> = text.rsplit_once(") ")?.1.split(' ').collect();
    Some((fields[0].to_owned(), fields[17].parse().ok()?))
}

fn until(what: &str, is_so: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !is_so() {
        assert!(Instant::now() < deadline, "{what}: not within 10 s");
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn a_list_whose_holders_pid_somebody_else_has_by_now_is_reclaimed() {
    let _alone = alone();
    let mut holder = StandIn::new("reused");
    let conf_dir = held_by(&holder);
    holder.kill();
    // Start times count in clock ticks of 10 ms.
    std::thread::sleep(Duration::from_millis(30));
    let somebody_else = Process::with_pid(holder.pid());
    assert_eq!(somebody_else.pid(), holder.pid(), "the PID was not reused");
    must_be_reclaimed(&conf_dir, "reused PID");
}

#[test]
fn reconcile_takes_a_list_from_a_holder_whose_pid_somebody_else_has_by_now() {
    let _alone = alone();
    let mut holder = StandIn::new("reconciled");
    let conf_dir = held_by(&holder);
    holder.kill();
    std::thread::sleep(Duration::from_millis(30));
    let _somebody_else = Process::with_pid(holder.pid());
    let report = reconcile(&conf_dir, &[]).succeeded().out;
    let report: serde_json::Value = serde_json::from_str(&report).unwrap();
    let reclaimed = report["reclaimedCpuLists"].as_array().unwrap();
    assert_eq!((reclaimed.len(), &reclaimed[0]["pid"]), (1, &holder.pid().into()), "{report}");
    assert_eq!((conf_dir.tasks("p", "0"), conf_dir.allocations()), (String::new(), vec![]));
}

#[test]
fn a_container_that_has_a_dead_holders_pid_gets_its_own_list() {
    let _alone = alone();
    let mut holder = StandIn::new("heir-holder");
    let conf_dir = held_by(&holder);
    holder.kill();
    std::thread::sleep(Duration::from_millis(30));
    let heir = Process::with_pid(holder.pid());
    let pid = heir.pid();
    let heir = StandIn::of("heir", heir.leave(), pid);
    HookCall::create(conf_dir.path(), &heir, "p").run().must_succeed();
    assert_eq!(conf_dir.tasks("p", "0"), pid.to_string());
    assert_eq!(conf_dir.allocations(), ["heir.json"]);
    // The dead one's removal comes late, and takes nothing from its heir.
    HookCall::poststop(conf_dir.path(), holder.id()).run().must_succeed();
    must_be_held(&conf_dir, "heir of a PID");
}

#[test]
fn a_list_held_in_another_boot_is_reclaimed_though_the_pid_lives() {
    let _alone = alone();
    let holder = StandIn::new("boot");
    let conf_dir = held_by(&holder);
    let mut record = conf_dir.record("boot").unwrap();
    record["bootId"] = "00000000-0000-4000-8000-000000000000".into();
    conf_dir.write_record("boot", &record);
    must_be_reclaimed(&conf_dir, "another boot");
}

#[test]
fn a_zombies_list_is_reclaimed() {
    let _alone = alone();
    let mut holder = StandIn::new("zombie");
    let conf_dir = held_by(&holder);
    holder.kill_without_waiting();
    until("a zombie", || stat(holder.pid()).is_some_and(|(state, _)| state == "Z"));
    must_be_reclaimed(&conf_dir, "zombie");
    assert_eq!(stat(holder.pid()).unwrap().0, "Z");
}

#[test]
fn a_zombie_leader_with_another_live_thread_holds_its_list() {
    let _alone = alone();
    let go = tempfile::NamedTempFile::new().unwrap();
    // exit(2), not exit_group(2): system call 60 on x86-64.
    let script = "import ctypes, os, sys, threading, time\n\
                  threading.Thread(target=time.sleep, args=(600,)).start()\n\
                  while os.path.exists(sys.argv[1]): time.sleep(0.01)\n\
                  ctypes.CDLL(None).syscall(60, 0)";
    let mut python = Command::new("python3");
    let mut holder = StandIn::running("leader", python.args(["-c", script]).arg(go.path()));
    let pid = holder.pid();
    until("two threads", || stat(pid).is_some_and(|(_, threads)| threads == 2));
    let conf_dir = held_by(&holder);
    drop(go);
    until("a zombie", || stat(pid).is_some_and(|(state, _)| state == "Z"));
    must_be_held(&conf_dir, "zombie leader with a thread");
    holder.kill();
    must_be_reclaimed(&conf_dir, "zombie leader without a thread");
}

#[test]
fn a_pid_with_no_record_holds_while_it_exists() {
    let _alone = alone();
    let conf_dir = one_list();
    let process = Process::sleeping();
    fs::write(conf_dir.tasks_path("p", "0"), format!("{}\n", process.pid())).unwrap();
    must_be_held(&conf_dir, "PID with no record");
    drop(process);
    must_be_reclaimed(&conf_dir, "gone PID with no record");
}

#[test]
fn a_record_decides_even_if_its_file_seems_older_than_this_boot() {
    let _alone = alone();
    let holder = StandIn::new("clock");
    let conf_dir = held_by(&holder);
    let file = File::options().write(true).open(conf_dir.tasks_path("p", "0")).unwrap();
    file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(1)).unwrap();
    must_be_held(&conf_dir, "record in spite of the clock");
}

#[test]
fn an_owner_in_another_pid_namespace_is_known_by_its_host_pid() {
    let _alone = alone();
    let script = ["--pid", "--fork", "--kill-child", "sleep", "600"];
    let outer = Command::new("unshare").args(script).stdin(Stdio::null()).spawn().unwrap();
    let children = format!("/proc/{0}/task/{0}/children", outer.id());
    let inner = || fs::read_to_string(&children).unwrap().trim().parse::<i32>().ok();
    until("sleep runs in its namespace", || {
        let name = inner().map(|pid| fs::read_to_string(format!("/proc/{pid}/comm")));
        name.is_some_and(|name| name.is_ok_and(|name| name == "sleep\n"))
    });
    let pid = inner().unwrap();
    let mut holder = StandIn::of("namespace", outer, pid);
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    assert!(status.contains(&format!("NSpid:\t{pid}\t1\n")), "{status}");
    let conf_dir = held_by(&holder);
    assert_eq!(conf_dir.record("namespace").unwrap()["pid"], pid);
    must_be_held(&conf_dir, "another PID namespace");
    holder.kill();
    must_be_reclaimed(&conf_dir, "another PID namespace ended");
}
