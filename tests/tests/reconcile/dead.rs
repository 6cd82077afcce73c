//! The dead: whatever they died of, their lists come back, and are printed.

use std::fs;

use kcm_tests::conf_dir::ConfDir;
use kcm_tests::machine::kill_and_wait;
use kcm_tests::stand_in::{StandIn, new_id};

use super::document::{NOBODY, NOTHING, must_print, must_reclaim};
use super::holders::{Process, container, give, holder, pool, write_tasks};

/// Sorted by number (as text, the greatest PID would come first), then by pool.
const FOUR_TIMES_TWO_DEAD: &str = r#"{
  "mismatchedCpuMasks": [],
  "reclaimedCpuLists": [
    {
      "cpus": "1",
      "pid": 4194305,
      "pool": "a"
    },
    {
      "cpus": "1,0",
      "pid": 4194305,
      "pool": "b"
    },
    {
      "cpus": "1,0",
      "pid": 4194306,
      "pool": "b"
    },
    {
      "cpus": "1",
      "pid": 10000001,
      "pool": "a"
    }
  ]
}
"#;

#[test]
fn what_is_reclaimed_is_printed_byte_for_byte_once_for_each_list_and_pid() {
    let conf = ConfDir::new(&[("b", false, &["1,0"]), ("a", true, &["0", "1"])]);
    write_tasks(&conf, "a", "1", &[10_000_001, NOBODY]);
    write_tasks(&conf, "b", "1,0", &[NOBODY + 1, NOBODY, NOBODY + 1]);
    must_print(&conf, &[], FOUR_TIMES_TWO_DEAD);
    for (pool, list) in [("a", "0"), ("a", "1"), ("b", "1,0")] {
        assert_eq!(conf.tasks(pool, list), "", "{pool} {list}");
    }
    must_print(&conf, &[], NOTHING);
}

#[test]
fn a_container_whose_poststop_was_never_called_loses_its_list_and_its_record() {
    let conf = pool(&["0", "1"]);
    let mut dead = holder(&conf, "killed");
    dead.kill();
    must_reclaim(&conf, &[("p", "0", dead.pid())]);
    assert_eq!((conf.tasks("p", "0"), conf.allocations()), (String::new(), vec![]));
    drop(dead);
}

#[test]
fn a_container_whose_cgroup_is_gone_loses_its_list_and_its_record() {
    let conf = pool(&["0"]);
    let dead = holder(&conf, "removed");
    let pid = dead.pid();
    drop(dead);
    must_reclaim(&conf, &[("p", "0", pid)]);
    assert_eq!(conf.allocations(), [""; 0]);
}

#[test]
fn a_zombie_loses_its_list() {
    let conf = pool(&["0"]);
    // This test is its parent, and does not wait for it.
    let zombie = StandIn::new(&new_id("zombie"));
    give(&conf, &zombie, 1);
    kill_and_wait(zombie.pid());
    let stat = fs::read_to_string(format!("/proc/{}/stat", zombie.pid())).unwrap();
    assert!(stat.contains(") Z "), "{stat}");
    must_reclaim(&conf, &[("p", "0", zombie.pid())]);
    assert_eq!(conf.allocations(), [""; 0]);
}

#[test]
fn a_holder_of_another_boot_loses_its_list_though_its_pid_lives() {
    let conf = pool(&["0"]);
    // What has its PID and its cgroup's name in this boot is somebody else.
    let holder = holder(&conf, "boot");
    let another = "00000000-0000-4000-8000-000000000000";
    conf.edit(holder.id(), &[("bootId", another.into())]);
    must_reclaim(&conf, &[("p", "0", holder.pid())]);
    assert_eq!(conf.allocations(), [""; 0]);
    assert!(holder.is_alive());
}

#[test]
fn a_pid_without_a_record_that_no_process_has_is_taken_out_from_among_others() {
    let conf = ConfDir::new(&[("p", true, &["0"]), ("shared", false, &["0-1"])]);
    let dead = [Process::sleeping().end(), Process::sleeping().end()];
    let alive = [Process::sleeping(), Process::sleeping()];
    write_tasks(&conf, "p", "0", &dead[..1]);
    let tasks = [alive[1].pid(), dead[1], alive[0].pid()];
    write_tasks(&conf, "shared", "0-1", &tasks);
    must_reclaim(&conf, &[("p", "0", dead[0]), ("shared", "0-1", dead[1])]);
    assert_eq!(conf.tasks("p", "0"), "");
    let left = format!("{},{}", alive[1].pid(), alive[0].pid());
    assert_eq!(conf.tasks("shared", "0-1"), left);
}

#[test]
fn a_holder_of_several_lists_loses_each_and_is_printed_for_each() {
    let conf = pool(&["0", "1", "0-1"]);
    let alive = container("alive");
    let mut dead = container("several");
    give(&conf, &dead, 2);
    give(&conf, &alive, 1);
    dead.kill();
    must_reclaim(&conf, &[("p", "0", dead.pid()), ("p", "0-1", dead.pid())]);
    assert_eq!(conf.tasks("p", "1"), alive.pid().to_string());
    assert_eq!(conf.allocations(), [format!("{}.json", alive.id())]);
}
