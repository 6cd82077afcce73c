//! Repairs that are refused: what is not certainly this container's is not written to.

use std::fs;

use kcm_tests::conf_dir::ConfDir;
use kcm_tests::machine::{cgroup_file, cpuset_mount, is_cgroup_v2};
use kcm_tests::stand_in::{Cgroup, StandIn, new_id};

use super::document::{Entry, document, repaired};
use super::holders::{
    Process, allowed_cpus, container, drift, give, in_own_namespaces, old_holder, pool, taskset,
    write_old_tasks,
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
    let forged = old_holder(&conf, "forged");
    let other = old_holder(&conf, "other");
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
    let moved = old_holder(&conf, "left");
    let elsewhere = Cgroup::new(&new_id("elsewhere"));
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
    let forged = old_holder(&conf, "above");
    let own = forged.cgroup().path();
    let (above, _) = own.rsplit_once('/').unwrap();
    conf.edit(forged.id(), &[("cgroup", above.into())]);
    let before = (cpuset(above), cpuset(&own));
    let run = traced(&conf, &["--repair"]);
    assert_eq!((cpuset(above), cpuset(&own)), before, "{:?}", run.outcome);
    assert!(!run.outcome.out.contains("\"repaired\": true"), "{:?}", run.outcome);
}

#[test]
fn a_process_in_the_hosts_mount_namespace_is_no_container() {
    let conf = pool(&["0"]);
    let host = StandIn::new(&new_id("host"));
    give(&conf, &host, 1);
    conf.age(host.id());
    drift(&host, "0-1");
    let entry = repaired("p", "0", host.pid(), &[0, 1], false);
    must_be_refused(&conf, &entry, host.pid());
    assert_eq!(host.cgroup().cpus(), "0-1");
}

#[test]
fn a_process_in_the_root_cgroup_is_not_repaired_whatever_its_record_names() {
    for cgroup in ["/", "//", "/.", "/kcm-test-none/.."] {
        let conf = pool(&["0"]);
        let root = container("root");
        give(&conf, &root, 1);
        conf.age(root.id());
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
    let process = Process::sleeping();
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
    conf.age(program.id());
    fs::write(cgroup_file("/", "tasks"), others[0].to_string()).unwrap();
    taskset(others[0], "1");
    let entry = repaired("p", "0", program.pid(), &[0, 1], false);
    must_be_refused(&conf, &entry, program.pid());
    assert_eq!(allowed_cpus(others[0]), "1");
}
