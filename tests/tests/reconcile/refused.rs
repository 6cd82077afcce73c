//! Repairs that are refused: what is not certainly this container's is not written to.

use std::fs;
use std::os::unix::fs::MetadataExt;

use kcm_tests::conf_dir::ConfDir;
use kcm_tests::machine::{cgroup_file, cpuset_mount, is_cgroup_v2, start_time};
use kcm_tests::stand_in::{Cgroup, StandIn, new_id};
use serde_json::{Value, json};

use super::document::{Entry, document, repaired};
use super::elders::elders;
use super::holders::{
    allowed_cpus, container, drift, give, holder, in_own_namespaces, pool, taskset,
    write_old_tasks, write_tasks,
};
use super::threads;
use super::traced::traced;

/// Fails the test unless this is reported as not repaired, with a warning that names the process,
/// and no cgroup was written to.
#[track_caller]
fn must_be_refused(conf: &ConfDir, entry: &Entry, pid: i32) -> String {
    let before = conf.snapshot();
    let run = traced(conf, &["--repair"]);
    assert_eq!(run.outcome.code, Some(0), "{:?}", run.outcome);
    assert_eq!(run.outcome.out, document(std::slice::from_ref(entry), &[]), "{:?}", run.outcome);
    assert_eq!(run.cgroup_writes(), [""; 0]);
    assert_eq!(run.named("connect"), [""; 0], "systemd is asked for nothing");
    assert_eq!(conf.snapshot(), before);
    let warnings = run.outcome.lines("WARNING");
    let named = warnings.iter().filter(|line| line.contains(&pid.to_string())).count();
    assert!(warnings.len() == 1 && named == 1, "{:?}", run.outcome);
    warnings[0].to_owned()
}

/// All that can be set of a cgroup's cpuset.
fn cpuset(cgroup: &str) -> Vec<(String, String)> {
    let entries = fs::read_dir(cgroup_file(cgroup, "")).unwrap().flatten();
    let names = entries.map(|entry| entry.file_name().into_string().unwrap());
    let names = names.filter(|name| name.starts_with("cpuset."));
    let mut files: Vec<(String, String)> = names
        .filter_map(|name| {
            Some((name.clone(), fs::read_to_string(cgroup_file(cgroup, &name)).ok()?))
        })
        .collect();
    files.sort();
    files
}

#[test]
fn a_record_that_names_another_live_containers_cgroup_moves_neither() {
    let conf = pool(&["0", "1"]);
    let forged = holder(&conf, "forged");
    let other = holder(&conf, "other");
    conf.edit(forged.id(), &[("cgroup", other.cgroup().path().into())]);
    let before = [&forged, &other].map(|container| cpuset(&container.cgroup().path()));
    let entry = repaired("p", "0", forged.pid(), &[0, 1], false);
    must_be_refused(&conf, &entry, forged.pid());
    assert_eq!([&forged, &other].map(|container| cpuset(&container.cgroup().path())), before);
    assert_eq!((forged.allowed_cpus(), other.allowed_cpus()), ("0".into(), "1".into()));
}

#[test]
fn a_cgroup_that_the_containers_process_has_left_is_not_written_to() {
    let conf = pool(&["0"]);
    // Made first, so that it goes last, when its process has ended.
    let elsewhere = Cgroup::new(&new_id("elsewhere"));
    let moved = holder(&conf, "left");
    elsewhere.enter(moved.pid());
    taskset(moved.pid(), "0-1");
    let before = [moved.cgroup().path(), elsewhere.path()].map(|path| cpuset(&path));
    let entry = repaired("p", "0", moved.pid(), &[0, 1], false);
    must_be_refused(&conf, &entry, moved.pid());
    assert_eq!([moved.cgroup().path(), elsewhere.path()].map(|path| cpuset(&path)), before);
}

#[test]
fn a_record_that_names_a_cgroup_above_its_containers_moves_none_of_those_below() {
    let conf = pool(&["0"]);
    let forged = holder(&conf, "above");
    let own = forged.cgroup().path();
    let (above, _) = own.rsplit_once('/').unwrap();
    conf.edit(forged.id(), &[("cgroup", above.into())]);
    let before = (cpuset(above), cpuset(&own));
    let run = traced(&conf, &["--repair"]);
    assert_eq!((cpuset(above), cpuset(&own)), before, "{:?}", run.outcome);
    assert!(!run.outcome.out.contains("\"repaired\": true"), "{:?}", run.outcome);
}

/// A record that says all that can be copied of a victim: path, inode, PID and start time.
fn forge(conf: &ConfDir, owner: &str, victim: &StandIn, changes: &[(&str, Value)]) {
    let cgroup = victim.cgroup().path();
    let mut record = json!({
        "owner": owner, "pool": "p", "cpuLists": ["1"], "cpus": "1", "affinity": true,
        "pid": victim.pid(), "startTime": start_time(victim.pid()),
        "bootId": fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap().trim(),
        "createdAt": "2026-11-21T22:00:00Z",
        "cgroup": cgroup, "cgroupInode": fs::metadata(cgroup_file(&cgroup, "")).unwrap().ino(),
    });
    changes.iter().for_each(|(key, value)| record[*key] = value.clone());
    fs::create_dir_all(conf.path().join("allocations")).unwrap();
    conf.write_record(owner, &record);
    fs::hard_link(conf.record_path(owner), conf.index_path("p", "1")).unwrap();
    write_tasks(conf, "p", "1", &[victim.pid()]);
}

#[test]
fn a_forged_record_of_whoever_the_hook_never_bound_moves_nobody() {
    // A service with mounts of its own (PrivateTmp=), and one without.
    for victim in [container("service"), StandIn::new(&new_id("service"))] {
        for owner in [victim.id(), "forged"] {
            let conf = pool(&["1"]);
            drift(&victim, "0-1");
            forge(&conf, owner, &victim, &[]);
            let before = cpuset(&victim.cgroup().path());
            let entry = repaired("p", "1", victim.pid(), &[0, 1], false);
            let why = must_be_refused(&conf, &entry, victim.pid());
            assert!(why.contains("nothing proves that the cgroup"), "{why}");
            assert_eq!(cpuset(&victim.cgroup().path()), before);
        }
    }
}

#[test]
fn a_forged_record_of_another_owners_container_moves_it_nowhere() {
    let elsewhere = pool(&["0"]);
    let victim = holder(&elsewhere, "victim");
    // Under another name; and under its own, with other CPUs than it was bound to.
    for owner in ["forged", victim.id()] {
        let conf = pool(&["1"]);
        forge(&conf, owner, &victim, &[]);
        let before = cpuset(&victim.cgroup().path());
        let entry = repaired("p", "1", victim.pid(), &[0], false);
        let why = must_be_refused(&conf, &entry, victim.pid());
        assert!(why.contains(&format!("says CPUs 0 of {}", victim.id())), "{why}");
        assert_eq!((cpuset(&victim.cgroup().path()), victim.allowed_cpus()), (before, "0".into()));
    }
}

#[test]
fn a_cgroup_of_the_recorded_path_that_is_another_one_is_not_written_to() {
    let conf = pool(&["0"]);
    let container = holder(&conf, "again");
    conf.edit(container.id(), &[("cgroupInode", 1.into())]);
    drift(&container, "0-1");
    let entry = repaired("p", "0", container.pid(), &[0, 1], false);
    let why = must_be_refused(&conf, &entry, container.pid());
    assert!(why.contains("is another than the recorded one"), "{why}");
}

#[test]
fn a_record_of_kcm_0_1_is_reported_and_never_repaired() {
    let conf = pool(&["0"]);
    let container = holder(&conf, "before");
    let mut record = conf.record(container.id()).unwrap();
    record.as_object_mut().unwrap().remove("cgroupInode").unwrap();
    conf.write_record(container.id(), &record);
    drift(&container, "0-1");
    let entry = repaired("p", "0", container.pid(), &[0, 1], false);
    let why = must_be_refused(&conf, &entry, container.pid());
    assert!(why.contains("kcm 0.1") && why.contains("restart the container"), "{why}");
}

#[test]
fn a_process_in_the_root_cgroup_is_not_repaired_whatever_its_record_names() {
    for cgroup in ["/", "//", "/.", "/kcm-test-none/.."] {
        let conf = pool(&["0"]);
        let root = container("root");
        give(&conf, &root, 1);
        conf.edit(root.id(), &[("cgroup", cgroup.into())]);
        fs::write(cpuset_mount().join("cgroup.procs"), root.pid().to_string()).unwrap();
        taskset(root.pid(), "0-1");
        let before = cpuset("/");
        let run = traced(&conf, &["--repair"]);
        assert_eq!(run.cgroup_writes(), [""; 0], "{cgroup}");
        assert_eq!(cpuset("/"), before, "{cgroup}");
        assert!(!run.outcome.out.contains("\"repaired\": true"), "{cgroup}: {:?}", run.outcome);
        let said = run.outcome.lines("WARNING").len() + run.outcome.lines("ERROR").len();
        assert!(said >= 1, "{cgroup}: {:?}", run.outcome);
    }
}

#[test]
fn a_pid_without_a_record_is_not_repaired() {
    let conf = pool(&["0"]);
    let process = &elders().sleeping;
    taskset(process.pid(), "1");
    write_old_tasks(&conf, process.pid());
    let entry = repaired("p", "0", process.pid(), &[1], false);
    must_be_refused(&conf, &entry, process.pid());
    assert_eq!(allowed_cpus(process.pid()), "1");
}

#[test]
fn a_thread_that_is_outside_while_the_cgroup_is_right_is_not_bound() {
    if is_cgroup_v2() {
        return;
    }
    let conf = pool(&["0"]);
    let program = in_own_namespaces("stray", &threads::program());
    let others = threads::other_threads(program.pid());
    give(&conf, &program, 1);
    fs::write(cgroup_file("/", "tasks"), others[0].to_string()).unwrap();
    taskset(others[0], "1");
    let entry = repaired("p", "0", program.pid(), &[0, 1], false);
    must_be_refused(&conf, &entry, program.pid());
    assert_eq!(allowed_cpus(others[0]), "1");
}
