//! Those that hold CPU lists and are not on them, or not on record.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use kcm_tests::conf_dir::ConfDir;
use kcm_tests::hook::HookCall;
use kcm_tests::isolate::descendants;
use kcm_tests::kcm::{kcm, run};
use kcm_tests::machine::{cgroup_file, kill_and_wait, start_time, until};
use kcm_tests::stand_in::{StandIn, new_id};

use super::look::{look, of, remedy, type_in};

fn pool(lists: &[&str]) -> ConfDir {
    ConfDir::new(&[("p", true, lists)])
}

fn holder(conf: &ConfDir, role: &str) -> StandIn {
    let container = StandIn::new(&new_id(role));
    HookCall::create(conf.path(), &container, "p").run().must_succeed();
    container
}

#[track_caller]
fn must_be_in_order(conf: &ConfDir) {
    let findings = look(conf);
    let found = of(&findings, "holders");
    assert!(found.iter().all(|finding| finding.status == "ok"), "{found:?}");
}

/// A process that no record tells of; killed when dropped.
struct Process(Child);

impl Process {
    fn running(words: &[&str]) -> Self {
        let mut command = Command::new(words[0]);
        let command = command.args(&words[1..]).stdin(Stdio::null()).stdout(Stdio::null());
        let process = Self(command.spawn().unwrap());
        let comm = format!("/proc/{}/comm", process.pid());
        until("it to sleep", || (fs::read_to_string(&comm).unwrap() == "sleep\n").then_some(()));
        process
    }

    fn pid(&self) -> i32 {
        self.0.id() as i32
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_process_without_a_record_that_runs_on_the_list_is_named_with_what_frees_it() {
    let conf = pool(&["0"]);
    let mut process = Process::running(&["taskset", "-c", "0", "sleep", "600"]);
    let pid = process.pid();
    fs::write(conf.tasks_path("p", "0"), pid.to_string()).unwrap();
    let parts = [&format!("process {pid} holds CPU list 0 of pool p"), "no record says whose"];
    let remedy = remedy(&look(&conf), "holders", "warn", &parts.map(|part| part as &str));
    let kill = format!("kill {pid}");
    assert!(remedy.contains(&format!("end it: {kill} ")), "{remedy}");
    let late = StandIn::new(&new_id("late"));
    HookCall::create(conf.path(), &late, "p").run().must_refuse(&["No free cpu lists"]);
    type_in(&kill);
    process.0.wait().unwrap();
    HookCall::create(conf.path(), &late, "p").run().must_succeed();
    must_be_in_order(&conf);
}

#[test]
fn a_number_that_another_process_has_by_now_is_taken_out_by_the_command_that_is_named() {
    let process = Process::running(&["sleep", "600"]);
    let pid = process.pid();
    for (tasks, left) in [
        (format!("{pid}"), ""),
        (format!("4194999,{pid}"), "4194999"),
        (format!("{pid},4194999"), "4194999"),
        (format!("4194998,{pid},4194999"), "4194998,4194999"),
        (format!("{pid}\n"), "\n"),
    ] {
        let conf = pool(&["0"]);
        fs::write(conf.tasks_path("p", "0"), &tasks).unwrap();
        let parts = [&format!("process {pid} holds CPU list 0"), "may run on CPUs"];
        let remedy = remedy(&look(&conf), "holders", "warn", &parts.map(|part| part as &str));
        let command = remedy.split_once("take its number out: ").expect(&remedy).1;
        type_in(command);
        assert_eq!(conf.tasks("p", "0"), left, "{tasks:?}");
        must_be_in_order(&conf);
        let next = holder(&conf, "next");
        assert_eq!(
            (conf.tasks("p", "0"), next.cgroup().cpus()),
            (next.pid().to_string(), "0".into())
        );
        assert!(Path::new(&format!("/proc/{pid}")).exists(), "nobody has ended it");
    }
}

#[test]
fn a_container_whose_record_and_index_were_lost_gets_them_back_as_it_is_told() {
    let conf = pool(&["0"]);
    let container = holder(&conf, "lost");
    fs::remove_file(conf.record_path(container.id())).unwrap();
    fs::remove_file(conf.index_path("p", "0")).unwrap();
    let parts = ["its cgroup is marked as that of", container.id(), "whose record was lost"];
    let remedy = remedy(&look(&conf), "holders", "warn", &parts);
    type_in(remedy.split(',').next().unwrap());
    assert_eq!(conf.record(container.id()).unwrap()["pid"], container.pid());
    must_be_in_order(&conf);
}

#[test]
fn a_holder_that_is_not_in_tasks_is_named_and_put_back_as_it_is_told() {
    for (what, spoil) in [
        ("emptied", (|tasks| fs::write(tasks, "").unwrap()) as fn(&Path)),
        ("removed", |tasks| fs::remove_file(tasks).unwrap()),
        ("all NULs", |tasks| fs::write(tasks, "\0\0\0").unwrap()),
    ] {
        let conf = pool(&["0"]);
        let container = holder(&conf, "unwritten");
        spoil(&conf.tasks_path("p", "0"));
        let parts = [container.id(), "holds CPU list 0 of pool p by its record alone"];
        let remedy = remedy(&look(&conf), "holders", "warn", &parts);
        type_in(remedy.split(',').next().unwrap());
        assert_eq!(conf.tasks("p", "0"), container.pid().to_string(), "{what}");
        must_be_in_order(&conf);
    }
}

#[test]
fn a_container_that_runs_elsewhere_fails_and_is_repaired_as_it_is_told() {
    let conf = pool(&["0"]);
    let container = holder(&conf, "wide");
    must_be_in_order(&conf);
    let cpus = cgroup_file(&container.cgroup().path(), "cpuset.cpus");
    fs::write(&cpus, "0-1").unwrap();
    let parts = [
        &format!("process {} of {} holds CPUs 0 of pool p", container.pid(), container.id()),
        "may run on CPUs 0-1",
    ];
    let remedy = remedy(&look(&conf), "holders", "fail", &parts.map(|part| part as &str));
    assert_eq!(container.cgroup().cpus(), "0-1", "doctor repairs nothing");
    type_in(&remedy);
    assert_eq!(container.cgroup().cpus(), "0");
    must_be_in_order(&conf);
}

#[test]
fn two_holders_of_one_list_fail_and_one_is_left_after_what_is_told() {
    let conf = pool(&["0", "1"]);
    let [first, mut second] = ["a", "b"].map(|role| holder(&conf, role));
    let lists = ["0", "1"].map(|list| conf.tasks_path("p", list));
    fs::write(&lists[0], format!("{},{}", first.pid(), second.pid())).unwrap();
    let parts = ["CPU list 0 of pool p is exclusive and has 2 holders", first.id()];
    let remedy = remedy(&look(&conf), "holders", "fail", &parts);
    second.kill();
    let command = remedy.strip_prefix("end all but one of them, then ").expect(&remedy);
    type_in(command);
    assert_eq!(conf.tasks("p", "0"), first.pid().to_string());
    must_be_in_order(&conf);
}

#[test]
fn whoever_removes_all_that_names_a_holder_makes_two_owners_and_both_are_named() {
    // SECURITY.md says so: no one file does it, and a container that has all of them mounted can.
    let conf = pool(&["0"]);
    let first = holder(&conf, "first");
    let record = fs::read(conf.record_path(first.id())).unwrap();
    fs::write(conf.tasks_path("p", "0"), "").unwrap();
    fs::remove_file(conf.index_path("p", "0")).unwrap();
    fs::remove_file(conf.record_path(first.id())).unwrap();
    let second = holder(&conf, "second");
    fs::write(conf.record_path(first.id()), record).unwrap();
    assert_eq!((first.cgroup().cpus(), second.cgroup().cpus()), ("0".into(), "0".into()));
    let parts = ["CPU list 0 of pool p is exclusive and has 2 holders", first.id(), second.id()];
    remedy(&look(&conf), "holders", "fail", &parts);
}

#[test]
fn what_isolate_runs_is_in_order_and_nobody_is_named_when_all_of_it_was_killed() {
    for flags in [&[][..], &["--no-affinity"]] {
        let conf = pool(&["0"]);
        let mut isolate = kcm();
        isolate.args(["isolate", "--pool=p"]).args(flags).args(["sleep", "--", "600"]);
        isolate.env("KCM_CONF_DIR", conf.path()).stdin(Stdio::null()).stderr(Stdio::null());
        let mut isolate = Process(isolate.spawn().unwrap());
        let command = until("the command to run", || {
            let pids = descendants(isolate.pid()).into_iter();
            let is_it = |pid: &i32| {
                fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name == "sleep\n")
            };
            pids.filter(is_it).find(|_| !conf.tasks("p", "0").is_empty())
        });
        must_be_in_order(&conf);
        isolate.0.kill().unwrap();
        isolate.0.wait().unwrap();
        kill_and_wait(command);
        assert_eq!(conf.tasks("p", "0"), isolate.pid().to_string());
        must_be_in_order(&conf);
        assert_eq!(holder(&conf, "next").cgroup().cpus(), "0", "{flags:?}");
    }
}

/// What the hook of d7232cf wrote, with a live container in the place of the one that was there.
fn old_record(container: &StandIn) -> serde_json::Value {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/records/d7232cf-hook.json");
    let mut record: serde_json::Value =
        serde_json::from_str(&fs::read_to_string(file).unwrap()).unwrap();
    assert!(record.get("cgroupInode").is_none());
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    record["owner"] = container.id().into();
    record["pid"] = container.pid().into();
    record["startTime"] = start_time(container.pid()).into();
    record["bootId"] = boot.trim().into();
    record["cgroup"] = container.cgroup().path().into();
    record
}

#[test]
fn a_container_of_kcm_0_1_holds_its_list_is_never_repaired_and_is_guarded_after_a_restart() {
    let conf = ConfDir::new(&[("dataplane", true, &["0"])]);
    let mut container = StandIn::new(&new_id("old"));
    let id = container.id().to_owned();
    let cpus = cgroup_file(&container.cgroup().path(), "cpuset.cpus");
    fs::write(&cpus, "0").unwrap();
    fs::create_dir(conf.path().join("allocations")).unwrap();
    fs::write(conf.record_path(&id), old_record(&container).to_string()).unwrap();
    fs::write(conf.tasks_path("dataplane", "0"), container.pid().to_string()).unwrap();

    let findings = look(&conf);
    let parts = [&id, "telco/upf-0/dpdk", "a record of kcm 0.1"];
    let told = remedy(&findings, "holders", "warn", &parts.map(|part| part as &str));
    assert!(told.starts_with("restart the container"), "{told}");
    assert_eq!(of(&findings, "holders").len(), 1);
    findings.is("directory", "ok", "in order");

    let late = StandIn::new(&new_id("late"));
    HookCall::create(conf.path(), &late, "dataplane").run().must_refuse(&["No free cpu lists"]);
    fs::write(&cpus, "0-1").unwrap();
    let told = remedy(&look(&conf), "holders", "fail", &[&id, "may run on CPUs 0-1"]);
    assert_eq!(told, "restart the container");
    run(kcm().args(["reconcile", "--repair"]).env("KCM_CONF_DIR", conf.path())).succeeded();
    assert_eq!(container.cgroup().cpus(), "0-1");

    container.kill();
    drop(container);
    let restarted = StandIn::new(&id);
    HookCall::create(conf.path(), &restarted, "dataplane").run().must_succeed();
    must_be_in_order(&conf);
    assert!(conf.record(&id).unwrap()["cgroupInode"].is_u64());
}
