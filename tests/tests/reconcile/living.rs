//! The living: what they hold stays, though much about them looks dead.

use std::fs::File;
use std::time::{Duration, SystemTime};

use kcm_tests::conf_dir::ConfDir;
use kcm_tests::machine::start_time;
use kcm_tests::stand_in::{StandIn, new_id};
use nix::fcntl::{FcntlArg, fcntl};

use super::document::{NOBODY, NOTHING, must_print, must_reclaim};
use super::holders::{Process, give, holder, pool, write_tasks};
use super::records::isolate_record;

/// Fails the test unless nothing is reclaimed, and nothing written.
#[track_caller]
fn must_be_kept(conf: &ConfDir) {
    let before = conf.snapshot();
    must_print(conf, &[], NOTHING);
    assert_eq!(conf.snapshot(), before);
}

#[test]
fn containers_and_processes_that_live_keep_what_they_hold() {
    let conf = ConfDir::new(&[("p", true, &["0", "1", "0-1"]), ("shared", false, &["0-1"])]);
    let one = holder(&conf, "one");
    let two = holder(&conf, "two");
    let [three, four] = [Process::sleeping(), Process::sleeping()];
    write_tasks(&conf, "p", "1", &[three.pid()]);
    write_tasks(&conf, "shared", "0-1", &[four.pid(), three.pid()]);
    must_be_kept(&conf);
    for (list, pid) in [("0", one.pid()), ("0-1", two.pid()), ("1", three.pid())] {
        assert_eq!(conf.tasks("p", list), pid.to_string());
    }
}

#[test]
fn a_container_lives_as_long_as_any_process_is_in_its_cgroup() {
    let conf = pool(&["0"]);
    // With the host's PID namespace, the end of its init is not the end of what init started.
    let mut dead = StandIn::new(&new_id("host-pids"));
    give(&conf, &dead, 1);
    let left = Process::sleeping();
    dead.cgroup().enter(left.pid());
    dead.kill();
    must_be_kept(&conf);
    drop(left);
    must_reclaim(&conf, &[("p", "0", dead.pid())]);
    assert_eq!(conf.allocations(), [""; 0]);
}

#[test]
fn no_clock_is_asked_so_that_a_file_of_any_age_holds() {
    for age in [-50, 50] {
        let conf = pool(&["0", "1"]);
        let holder = holder(&conf, "clock");
        let bare = Process::sleeping();
        write_tasks(&conf, "p", "1", &[bare.pid()]);
        // Half a century ago, before any boot, and half a century from now.
        let year = Duration::from_secs(365 * 86_400);
        let now = SystemTime::now();
        let then = if age < 0 { now - 50 * year } else { now + 50 * year };
        for path in
            [conf.tasks_path("p", "0"), conf.tasks_path("p", "1"), conf.record_path(holder.id())]
        {
            File::options().write(true).open(path).unwrap().set_modified(then).unwrap();
        }
        must_be_kept(&conf);
        assert_eq!(conf.tasks("p", "1"), bare.pid().to_string());
    }
}

#[test]
fn where_no_start_time_is_recorded_existence_decides() {
    let conf = pool(&["0"]);
    let mut holder = holder(&conf, "existence");
    let mut record = conf.record(holder.id()).unwrap();
    assert_eq!(record["startTime"], start_time(holder.pid()));
    record.as_object_mut().unwrap().remove("startTime");
    conf.write_record(holder.id(), &record);
    must_be_kept(&conf);
    holder.kill();
    must_reclaim(&conf, &[("p", "0", holder.pid())]);
}

#[test]
fn what_isolate_started_holds_its_list_by_the_lock_of_the_record() {
    let conf = pool(&["0", "1"]);
    // kcm isolate itself is dead, and so is the other one, of which nothing is left.
    for (list, pid) in [("0", NOBODY), ("1", NOBODY + 1)] {
        isolate_record(&conf, "p", list, pid, 1);
        write_tasks(&conf, "p", list, &[pid]);
    }
    let record = conf.record_path(&format!("isolate-{NOBODY}"));
    let inherited = File::options().write(true).open(record).unwrap();
    let whole = libc::flock {
        l_type: libc::F_WRLCK as i16,
        l_whence: libc::SEEK_SET as i16,
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    };
    fcntl(&inherited, FcntlArg::F_OFD_SETLK(&whole)).unwrap();
    must_reclaim(&conf, &[("p", "1", NOBODY + 1)]);
    assert_eq!(conf.tasks("p", "0"), NOBODY.to_string());
    assert_eq!(conf.allocations(), [format!("isolate-{NOBODY}.json")]);
    drop(inherited);
    must_reclaim(&conf, &[("p", "0", NOBODY)]);
    assert_eq!(conf.allocations(), [""; 0]);
}

#[test]
fn a_shared_list_keeps_its_living_in_their_order() {
    let conf = ConfDir::new(&[("p", false, &["0-1"])]);
    let [first, mut second, third] = ["first", "second", "third"].map(|role| holder(&conf, role));
    second.kill();
    must_reclaim(&conf, &[("p", "0-1", second.pid())]);
    assert_eq!(conf.tasks("p", "0-1"), format!("{},{}", first.pid(), third.pid()));
    let mut left = [&first, &third].map(|holder| format!("{}.json", holder.id()));
    left.sort();
    assert_eq!(conf.allocations(), left);
}

#[test]
fn a_forged_record_of_a_dead_holder_takes_nothing_from_a_live_one() {
    let conf = pool(&["0"]);
    let holder = holder(&conf, "forged");
    let mut record = conf.record(holder.id()).unwrap();
    record["owner"] = "forged".into();
    record["startTime"] = 1.into();
    record["cgroup"] = "/kcm-test-gone".into();
    conf.write_record("forged", &record);
    must_print(&conf, &[], NOTHING);
    assert_eq!(conf.tasks("p", "0"), holder.pid().to_string());
    assert_eq!(conf.record(holder.id()).unwrap()["pid"], holder.pid());
}
