//! The hook killed at, or failed by, every system call that changes anything: no sampling. After
//! each, nobody shares an exclusive list, and none is lost.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods, missing_docs)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use kcm_tests::scenario::Scenario;
use kcm_tests::strace::{Call, Trace};

/// The changes that an undisturbed run makes.
fn changes(scenario: Scenario) -> Vec<Call> {
    let injections: Vec<&str> = scenario.fault.into_iter().collect();
    let trace = Trace::of(&scenario.call, &injections);
    assert_eq!(trace.ran.status.code(), Some(scenario.status), "{}", trace.ran.stderr);
    trace.changes()
}

/// Makes the call with something done to it at one point, beside what it meets anyway.
fn disturbed(scenario: &Scenario, point: &Call, what: &str) -> Trace {
    let injection = format!("{}:{what}:when={}", point.name, point.nth);
    // strace takes one injection a name; the later one of a name replaces the fault.
    let fault = scenario.fault.filter(|fault| !fault.starts_with(&point.name));
    let injections: Vec<&str> = fault.into_iter().chain([injection.as_str()]).collect();
    Trace::of(&scenario.call, &injections)
}

/// Kills the call at every point. The signal comes before the system call is made, so the points
/// are every moment between two changes, before the first and after the last.
fn recovers_from_a_kill_at_every_point(name: &str, scenario: fn() -> Scenario) {
    let points = changes(scenario());
    let mut tried = 0;
    for point in &points {
        let scenario = scenario();
        let trace = disturbed(&scenario, point, "signal=SIGKILL");
        assert!(trace.ran.was_killed(), "{point:?}: {}", trace.ran.status);
        assert_eq!(trace.count(&point.name), point.nth, "killed elsewhere than at {point:?}");
        println!("killed at {}", point.line);
        scenario.must_recover();
        tried += 1;
    }
    assert!(tried == points.len() && tried > 10);
    println!("{name}: killed at {tried} of {} points", points.len());
}

#[test]
fn a_signal_comes_before_its_system_call_so_that_no_moment_is_left_out() {
    let scenario = Scenario::the_first_allocation();
    let trace = Trace::of(&scenario.call, &["renameat:signal=SIGKILL:when=1"]);
    assert!(trace.ran.was_killed() && trace.count("renameat") == 1);
    assert_eq!(scenario.conf_dir.allocations(), [".tmp-0", ".tmp-1"]);
}

/// Has every change fail, one at a time. Before the first rename nothing has changed and the error
/// names the file; after it the next allocations make good what was left half done.
fn survives_an_error_at_every_point(name: &str, scenario: fn() -> Scenario) {
    let points = changes(scenario());
    let in_place = |call: &Call| matches!(call.name.as_str(), "renameat" | "unlinkat");
    let first_in_place = points.iter().position(in_place).unwrap();
    let mut tried = 0;
    for (number, point) in points.iter().enumerate() {
        let Some(error) = error_for(point) else { continue };
        let scenario = scenario();
        let before = contents(&scenario);
        let leftovers = before.0.keys().any(|path| is_staged(path));
        let trace = disturbed(&scenario, point, &format!("error={error}"));
        let said = &trace.ran.stderr;
        tried += 1;
        println!("{error} at {}: {}", point.line, said.lines().last().unwrap_or_default());
        match trace.ran.status.code() {
            Some(0) if is_create(&scenario) => scenario.must_be_pinned(),
            Some(0) => {}
            Some(1) => {
                assert!(is_create(&scenario), "poststop must not fail a deletion: {said}");
                let file = said.contains(scenario.conf_dir.path().to_str().unwrap())
                    || said.contains(&scenario.container.cgroup().path())
                    || said.contains(&format!("thread {}", scenario.container.pid()));
                assert!(file || is_log(point), "no file is named: {said}");
                if number < first_in_place {
                    let after = contents(&scenario);
                    assert_eq!(without_staged(&after), without_staged(&before), "{point:?}");
                    assert!(leftovers || !after.0.keys().any(|path| is_staged(path)), "{after:?}");
                }
            }
            _ => panic!("{} at {point:?}: {said}", trace.ran.status),
        }
        scenario.must_recover();
    }
    println!("{name}: failed at {tried} of {} points", points.len());
}

/// The error that this system call is given; none where it cannot fail, or only tries whether the
/// log is there.
fn error_for(point: &Call) -> Option<&'static str> {
    Some(match point.name.as_str() {
        "exit_group" => return None,
        "write" | "openat2" | "mkdirat" => "ENOSPC",
        "flock" => "ENOLCK",
        "fchmod" | "chmod" | "sched_setaffinity" => "EPERM",
        "connect" => "EAGAIN",
        _ => "EIO",
    })
}

fn is_create(scenario: &Scenario) -> bool {
    scenario.container.is_alive()
}

fn is_log(point: &Call) -> bool {
    point.line.starts_with("write(2,")
}

fn is_staged(path: &Path) -> bool {
    path.file_name().unwrap().to_str().unwrap().starts_with(".tmp-")
}

type Contents = (BTreeMap<PathBuf, Vec<u8>>, String);

fn without_staged((files, cpus): &Contents) -> Contents {
    let files = files.iter().filter(|(path, _)| !is_staged(path));
    (files.map(|(path, content)| (path.clone(), content.clone())).collect(), cpus.clone())
}

/// Every file with its content, and what the kernel has for the container. A new empty
/// `allocations/` is no change: the original's directory has none.
fn contents(scenario: &Scenario) -> Contents {
    let mut files = scenario.conf_dir.snapshot();
    if scenario.conf_dir.allocations().is_empty() {
        files.remove(&scenario.conf_dir.path().join("allocations").join(""));
    }
    (files, scenario.container.cgroup().cpus())
}

#[test]
fn a_hook_killed_in_the_first_allocation_loses_and_shares_no_list() {
    recovers_from_a_kill_at_every_point("the first allocation", Scenario::the_first_allocation);
}

#[test]
fn a_hook_that_meets_an_error_in_the_first_allocation_survives_it() {
    survives_an_error_at_every_point("the first allocation", Scenario::the_first_allocation);
}

#[test]
fn a_hook_killed_in_taking_a_free_list_loses_and_shares_no_list() {
    recovers_from_a_kill_at_every_point("a free list", Scenario::a_free_list);
}

#[test]
fn a_hook_that_meets_an_error_in_taking_a_free_list_survives_it() {
    survives_an_error_at_every_point("a free list", Scenario::a_free_list);
}

#[test]
fn a_hook_killed_in_reclaiming_the_dead_loses_and_shares_no_list() {
    recovers_from_a_kill_at_every_point("reclaiming the dead", Scenario::reclaiming_the_dead);
}

#[test]
fn a_hook_that_meets_an_error_in_reclaiming_the_dead_survives_it() {
    survives_an_error_at_every_point("reclaiming the dead", Scenario::reclaiming_the_dead);
}

#[test]
fn a_hook_killed_in_a_restart_under_the_same_id_loses_and_shares_no_list() {
    recovers_from_a_kill_at_every_point(
        "a restart under the same id",
        Scenario::a_restart_under_the_same_id,
    );
}

#[test]
fn a_hook_that_meets_an_error_in_a_restart_under_the_same_id_survives_it() {
    survives_an_error_at_every_point(
        "a restart under the same id",
        Scenario::a_restart_under_the_same_id,
    );
}

#[test]
fn a_hook_killed_in_taking_two_cores_loses_and_shares_no_list() {
    recovers_from_a_kill_at_every_point("two cores", Scenario::two_cores);
}

#[test]
fn a_hook_that_meets_an_error_in_taking_two_cores_survives_it() {
    survives_an_error_at_every_point("two cores", Scenario::two_cores);
}

#[test]
fn a_hook_killed_in_the_midst_of_an_earlier_crashs_files_loses_and_shares_no_list() {
    recovers_from_a_kill_at_every_point("leftovers of a crash", Scenario::leftovers_of_a_crash);
}

#[test]
fn a_hook_that_meets_an_error_in_the_midst_of_an_earlier_crashs_files_survives_it() {
    survives_an_error_at_every_point("leftovers of a crash", Scenario::leftovers_of_a_crash);
}

#[test]
fn a_hook_killed_in_a_rollback_loses_and_shares_no_list() {
    recovers_from_a_kill_at_every_point("a rollback", Scenario::a_rollback);
}

#[test]
fn a_hook_that_meets_an_error_in_a_rollback_survives_it() {
    survives_an_error_at_every_point("a rollback", Scenario::a_rollback);
}

#[test]
fn a_hook_killed_in_poststop_loses_and_shares_no_list() {
    recovers_from_a_kill_at_every_point("poststop", Scenario::poststop);
}

#[test]
fn a_hook_that_meets_an_error_in_poststop_survives_it() {
    survives_an_error_at_every_point("poststop", Scenario::poststop);
}
