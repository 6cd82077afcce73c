//! `--repair`: the CPUs go back to the cgroup, and to nothing else.

use std::fs;

use kcm_tests::machine::{cgroup_file, is_cgroup_v2, make_cgroup};

use super::document::{NOTHING, document, must_print, reclaimed, repaired};
use super::holders::{
    allowed_cpus, container, drift, give, holder, in_own_namespaces, pool, taskset,
};
use super::threads;
use super::traced::traced;

const REPAIR: &[&str] = &["--repair"];

const ONE_REPAIRED: &str = r#"{
  "mismatchedCpuMasks": [
    {
      "actualCpus": [
        0,
        1
      ],
      "cpus": "0",
      "pid": PID,
      "pool": "p",
      "repaired": true
    }
  ],
  "reclaimedCpuLists": []
}
"#;

#[test]
fn a_cgroup_that_was_widened_gets_its_cpus_back_and_only_it() {
    let conf = pool(&["0", "1"]);
    let wide = holder(&conf, "wide");
    let other = holder(&conf, "other");
    drift(&wide, "0-1");
    let before = conf.snapshot();
    let outcome = must_print(&conf, REPAIR, &ONE_REPAIRED.replace("PID", &wide.pid().to_string()));
    assert_eq!(outcome.lines("WARNING"), [""; 0], "{outcome:?}");
    assert_eq!((wide.cgroup().cpus(), wide.allowed_cpus()), ("0".into(), "0".into()));
    assert_eq!((other.cgroup().cpus(), other.allowed_cpus()), ("1".into(), "1".into()));
    assert_eq!(conf.snapshot(), before);
    must_print(&conf, REPAIR, NOTHING);
}

#[test]
fn a_cgroup_that_was_moved_or_confined_gets_its_cpus_back() {
    for (list, cpus, actual) in [("0", "1", 1), ("0-1", "0", 0), ("0-1", "1", 1)] {
        let conf = pool(&[list]);
        let holder = holder(&conf, "moved");
        drift(&holder, cpus);
        let entry = repaired("p", list, holder.pid(), &[actual], true);
        must_print(&conf, REPAIR, &document(&[entry], &[]));
        assert_eq!(holder.cgroup().cpus(), list);
        must_print(&conf, REPAIR, NOTHING);
    }
}

#[test]
fn a_cgroup_of_several_lists_gets_the_cpus_of_all_back() {
    let conf = pool(&["0", "1"]);
    let both = container("both");
    give(&conf, &both, 2);
    drift(&both, "1");
    let entries = ["0", "1"].map(|list| repaired("p", list, both.pid(), &[1], true));
    must_print(&conf, REPAIR, &document(&entries, &[]));
    assert_eq!(both.cgroup().cpus(), "0-1");
    must_print(&conf, REPAIR, NOTHING);
}

#[test]
fn several_containers_are_repaired_in_one_run_beside_one_that_cannot_be() {
    let conf = pool(&["0", "1", "0-1"]);
    let one = holder(&conf, "one");
    // Its record names a cgroup that is no more.
    let none = holder(&conf, "none");
    conf.edit(none.id(), &[("cgroupInode", 1.into())]);
    let three = holder(&conf, "three");
    // Lists are given in the order of their lowest CPUs.
    let lists = ["0", "0-1", "1"];
    let [first, second, third] = lists.map(|list| conf.tasks("p", list).parse::<i32>().unwrap());
    assert_eq!([first, second, third], [one.pid(), none.pid(), three.pid()]);
    drift(&one, "1");
    drift(&none, "1");
    drift(&three, "0-1");
    let entries = [
        repaired("p", "0", one.pid(), &[1], true),
        repaired("p", "0-1", none.pid(), &[1], false),
        repaired("p", "1", three.pid(), &[0, 1], true),
    ];
    must_print(&conf, REPAIR, &document(&entries, &[]));
    let cpus = [&one, &none, &three].map(|container| container.cgroup().cpus());
    assert_eq!(cpus, ["0", "1", "1"]);
}

#[test]
fn nothing_is_written_to_a_cgroup_that_is_as_it_should_be() {
    let conf = pool(&["0", "1"]);
    let holders = ["one", "two"].map(|role| holder(&conf, role));
    drift(&holders[0], "0-1");
    let first = traced(&conf, REPAIR);
    let entry = repaired("p", "0", holders[0].pid(), &[0, 1], true);
    assert_eq!(first.outcome.out, document(&[entry], &[]), "{:?}", first.outcome);
    let writes = first.cgroup_writes();
    let path = holders[0].cgroup().path();
    assert!(writes.iter().any(|call| call.starts_with("write(")), "{writes:?}");
    assert!(writes.iter().all(|call| call.contains(&path)), "{writes:?}");

    let second = traced(&conf, REPAIR);
    assert_eq!(second.outcome.out, NOTHING, "{:?}", second.outcome);
    assert_eq!(second.cgroup_writes(), [""; 0]);
}

#[test]
fn the_affinities_that_threads_have_given_themselves_are_not_touched() {
    let conf = pool(&["0-1"]);
    let program = in_own_namespaces("program", &threads::program());
    let others = threads::other_threads(program.pid());
    give(&conf, &program, 1);
    taskset(others[0], "0");
    drift(&program, "0");
    let run = traced(&conf, REPAIR);
    let entry = repaired("p", "0-1", program.pid(), &[0], true);
    assert_eq!(run.outcome.out, document(&[entry], &[]), "{:?}", run.outcome);
    assert_eq!(run.named("sched_setaffinity"), [""; 0]);
    assert_eq!((program.cgroup().cpus(), program.allowed_cpus()), ("0-1".into(), "0-1".into()));
    // An older kernel forgets affinities itself, whoever writes a cpuset.
    if kernel() >= (6, 2) {
        assert_eq!(allowed_cpus(others[0]), "0");
    }
    must_print(&conf, REPAIR, NOTHING);
}

/// Version of the kernel that runs.
fn kernel() -> (u32, u32) {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let mut numbers = release.split('.').map(|number| number.parse().unwrap());
    (numbers.next().unwrap(), numbers.next().unwrap())
}

#[test]
fn a_process_below_the_recorded_cgroup_is_its_containers() {
    let conf = pool(&["0"]);
    let nested = holder(&conf, "nested");
    let below = format!("{}/below", nested.cgroup().path());
    if is_cgroup_v2() {
        fs::create_dir(cgroup_file(&below, "")).unwrap();
    } else {
        make_cgroup(&below, "0");
    }
    let procs = cgroup_file(&below, "cgroup.procs");
    fs::write(procs, nested.pid().to_string()).unwrap();
    must_print(&conf, REPAIR, NOTHING);
    drift(&nested, "0-1");
    let entry = repaired("p", "0", nested.pid(), &[0, 1], true);
    must_print(&conf, REPAIR, &document(&[entry], &[]));
    assert_eq!((nested.cgroup().cpus(), nested.allowed_cpus()), ("0".into(), "0".into()));
    nested.cgroup().enter(nested.pid());
    fs::remove_dir(cgroup_file(&below, "")).unwrap();
}

#[test]
fn a_dead_container_is_reclaimed_and_its_cgroup_is_left_alone() {
    let conf = pool(&["0"]);
    let mut dead = holder(&conf, "dead");
    drift(&dead, "0-1");
    dead.kill();
    let run = traced(&conf, REPAIR);
    let entry = reclaimed("p", "0", dead.pid());
    assert_eq!(run.outcome.out, document(&[], &[entry]), "{:?}", run.outcome);
    assert_eq!(run.cgroup_writes(), [""; 0]);
    assert_eq!(dead.cgroup().cpus(), "0-1");
}

#[test]
fn a_container_with_threaded_cgroups_below_its_own_is_repaired() {
    if !is_cgroup_v2() {
        // Only there has a cgroup threads of a process (cgroup v2, section Threads).
        return;
    }
    let conf = pool(&["0"]);
    let program = in_own_namespaces("threaded", &threads::program());
    let others = threads::other_threads(program.pid());
    give(&conf, &program, 1);
    let below = format!("{}/threads", program.cgroup().path());
    fs::create_dir(cgroup_file(&below, "")).unwrap();
    fs::write(cgroup_file(&below, "cgroup.type"), "threaded").unwrap();
    fs::write(cgroup_file(&below, "cgroup.threads"), others[0].to_string()).unwrap();
    assert!(fs::read_to_string(cgroup_file(&below, "cgroup.procs")).is_err());
    drift(&program, "0-1");
    let entry = repaired("p", "0", program.pid(), &[0, 1], true);
    must_print(&conf, REPAIR, &document(&[entry], &[]));
    assert_eq!(program.cgroup().cpus(), "0");
    assert_eq!(allowed_cpus(others[0]), "0");
    must_print(&conf, REPAIR, NOTHING);
}
