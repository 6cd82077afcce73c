//! Containers and processes that are not on the CPUs of their lists: reported, and nothing else.

use std::fs;

use kcm_tests::conf_dir::ConfDir;
use kcm_tests::hook::HookCall;
use kcm_tests::machine::{cgroup_file, is_cgroup_v2, until};

use super::document::{NOTHING, document, mismatched, must_print, reconcile};
use super::elders::elders;
use super::holders::{
    Process, age, allowed_cpus, container, drift, give, holder, in_own_namespaces, pool, taskset,
    write_old_tasks, write_tasks,
};
use super::threads;

/// Fails the test unless nothing is reported.
#[track_caller]
fn must_be_in_order(conf: &ConfDir) {
    let before = conf.snapshot();
    must_print(conf, &[], NOTHING);
    assert_eq!(conf.snapshot(), before);
}

const ONE_WIDER: &str = r#"{
  "mismatchedCpuMasks": [
    {
      "actualCpus": [
        0,
        1
      ],
      "cpus": "0",
      "pid": PID,
      "pool": "p"
    }
  ],
  "reclaimedCpuLists": []
}
"#;

#[test]
fn a_container_whose_cgroup_was_widened_is_reported_byte_for_byte_and_left_so() {
    let conf = pool(&["0", "1"]);
    let wide = holder(&conf, "wide");
    let other = holder(&conf, "other");
    must_be_in_order(&conf);
    drift(&wide, "0-1");
    let before = conf.snapshot();
    let expected = ONE_WIDER.replace("PID", &wide.pid().to_string());
    for _ in 0..2 {
        must_print(&conf, &[], &expected);
        assert_eq!((wide.cgroup().cpus(), other.cgroup().cpus()), ("0-1".into(), "1".into()));
        assert_eq!(conf.snapshot(), before);
    }
}

#[test]
fn a_container_that_was_moved_or_confined_is_reported() {
    for (list, cpus, actual) in [("0", "1", &[1][..]), ("0-1", "0", &[0]), ("0-1", "1", &[1])] {
        let conf = pool(&[list]);
        let holder = holder(&conf, "moved");
        drift(&holder, cpus);
        must_print(&conf, &[], &document(&[mismatched("p", list, holder.pid(), actual)], &[]));
        assert_eq!(holder.cgroup().cpus(), cpus);
    }
}

#[test]
fn a_holder_of_several_lists_is_on_all_of_their_cpus_or_is_reported_for_each() {
    let conf = pool(&["0", "1"]);
    let both = container("both");
    give(&conf, &both, 2);
    assert_eq!(both.cgroup().cpus(), "0-1");
    must_be_in_order(&conf);
    drift(&both, "1");
    let entries = ["0", "1"].map(|list| mismatched("p", list, both.pid(), &[1]));
    must_print(&conf, &[], &document(&entries, &[]));
}

#[test]
fn several_are_sorted_by_pid() {
    let conf = ConfDir::new(&[("p", false, &["0"])]);
    let holders = ["a", "b", "c"].map(|role| holder(&conf, role));
    let tasks: Vec<i32> = holders.iter().rev().map(|holder| holder.pid()).collect();
    write_tasks(&conf, "p", "0", &tasks);
    for holder in &holders {
        drift(holder, "0-1");
    }
    let entries = holders.each_ref().map(|holder| mismatched("p", "0", holder.pid(), &[0, 1]));
    must_print(&conf, &[], &document(&entries, &[]));
}

#[test]
fn one_that_is_about_to_be_bound_is_not_reported() {
    let conf = pool(&["0"]);
    let young = container("young");
    let hook = HookCall::create(conf.path(), &young, "p").start_and_stop();
    assert_eq!(
        (conf.tasks("p", "0"), young.cgroup().cpus()),
        (young.pid().to_string(), "0".into())
    );
    drift(&young, "0-1");
    must_print(&conf, &[], NOTHING);
    // Nor does it lose its list, were tasks emptied in this very moment.
    write_tasks(&conf, "p", "0", &[]);
    must_print(&conf, &[], NOTHING);
    assert_eq!(conf.tasks("p", "0"), young.pid().to_string());
    drift(&young, "0");
    hook.finish().must_succeed();
    drift(&young, "0-1");
    must_print(&conf, &[], &document(&[mismatched("p", "0", young.pid(), &[0, 1])], &[]));
}

#[test]
fn one_that_asked_not_to_be_bound_is_not_reported() {
    let conf = pool(&["0"]);
    let free = holder(&conf, "free");
    conf.edit(free.id(), &[("affinity", false.into())]);
    drift(&free, "0-1");
    must_be_in_order(&conf);
    conf.edit(free.id(), &[("affinity", true.into())]);
    let entry = mismatched("p", "0", free.pid(), &[0, 1]);
    must_print(&conf, &[], &document(&[entry], &[]));
}

#[test]
fn a_program_that_pins_its_own_threads_inside_its_list_is_not_reported() {
    let conf = pool(&["0-1"]);
    let program = in_own_namespaces("program", &threads::program());
    let others = threads::other_threads(program.pid());
    give(&conf, &program, 1);
    taskset(program.pid(), "1");
    taskset(others[0], "0");
    must_be_in_order(&conf);
}

#[test]
fn a_thread_that_was_bound_outside_of_its_list_is_reported() {
    let conf = pool(&["0"]);
    let program = in_own_namespaces("thread", &threads::program());
    let others = threads::other_threads(program.pid());
    give(&conf, &program, 1);
    drift(&program, "0-1");
    taskset(program.pid(), "0");
    taskset(others[0], "1");
    let entry = mismatched("p", "0", program.pid(), &[0, 1]);
    must_print(&conf, &[], &document(&[entry], &[]));
}

#[test]
fn a_thread_in_another_cgroup_is_reported_though_the_recorded_cgroup_is_right() {
    if is_cgroup_v2() {
        // There a process is in one domain cgroup as a whole.
        return;
    }
    let conf = pool(&["0"]);
    let program = in_own_namespaces("stray", &threads::program());
    let others = threads::other_threads(program.pid());
    give(&conf, &program, 1);
    fs::write(cgroup_file("/", "tasks"), others[0].to_string()).unwrap();
    taskset(others[0], "1");
    assert_eq!((program.cgroup().cpus(), program.allowed_cpus()), ("0".into(), "0".into()));
    let entry = mismatched("p", "0", program.pid(), &[0, 1]);
    must_print(&conf, &[], &document(&[entry], &[]));
}

#[test]
fn a_pid_without_a_record_is_reported_where_it_may_run_outside_of_its_list() {
    let conf = pool(&["0"]);
    let process = &elders().sleeping;
    for (cpus, actual) in [("1", &[1][..]), ("0-1", &[0, 1])] {
        taskset(process.pid(), cpus);
        write_old_tasks(&conf, process.pid());
        let entry = mismatched("p", "0", process.pid(), actual);
        must_print(&conf, &[], &document(&[entry], &[]));
        assert_eq!(allowed_cpus(process.pid()), cpus);
    }
    taskset(process.pid(), "0");
    must_be_in_order(&conf);
}

#[test]
fn any_thread_of_a_pid_without_a_record_may_be_the_one_that_is_outside() {
    let conf = pool(&["0"]);
    let process = &elders().threaded;
    let others = threads::other_threads(process.pid());
    write_old_tasks(&conf, process.pid());
    must_be_in_order(&conf);
    taskset(others[0], "1");
    let entry = mismatched("p", "0", process.pid(), &[0, 1]);
    must_print(&conf, &[], &document(&[entry], &[]));
}

#[test]
fn a_young_pid_without_a_record_is_not_reported() {
    until("a machine fast enough", || {
        let process = Process::sleeping();
        taskset(process.pid(), "1");
        let conf = pool(&["0"]);
        write_tasks(&conf, "p", "0", &[process.pid()]);
        let outcome = reconcile(&conf, &[]);
        (age(process.pid()) < 19.0).then(|| {
            assert_eq!(outcome.succeeded().out, NOTHING);
        })
    });
}
