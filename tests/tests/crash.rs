//! The hook killed at, or failed by, every system call that changes anything: no sampling. After
//! each, nobody shares an exclusive list, and none is lost.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods, missing_docs)]

use kcm_tests::crash::{recovers_from_a_kill_at_every_point, survives_an_error_at_every_point};
use kcm_tests::scenario::Scenario;
use kcm_tests::strace::Trace;

#[test]
fn a_signal_comes_before_its_system_call_so_that_no_moment_is_left_out() {
    let scenario = Scenario::the_first_allocation();
    // The first is that of the boot.
    let trace = Trace::of(&scenario.call, &["renameat:signal=SIGKILL:when=2"]);
    assert!(trace.ran.was_killed() && trace.count("renameat") == 2);
    assert_eq!(scenario.conf_dir.allocations(), [".tmp-0", ".tmp-1", ".tmp-2"]);
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
