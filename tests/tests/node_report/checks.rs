//! What is wrong with pools that can all be read: each check, and what makes it fail.

use std::fs;

use kcm_tests::conf_dir::ConfDir;

use super::machine::{MANUAL, Machine};
use super::{errors_of, sixteen_cpus};

/// Pools as (name, exclusive, CPU lists), and all that is wrong with them, in order.
type Case<'a> = (&'a [(&'a str, bool, &'a [&'a str])], &'a [&'a str]);

#[track_caller]
fn check(machine: &Machine, cases: &[Case<'_>]) {
    for (pools, expected) in cases {
        assert_eq!(errors_of(machine, &ConfDir::new(pools)), *expected, "{pools:?}");
    }
}

#[test]
fn pools_that_share_nothing_are_in_order() {
    check(
        &sixteen_cpus(),
        &[
            (&[("dataplane", true, &["0,8", "1,9"]), ("infra", false, &["2-7,10-15"])], &[]),
            (&[("controlplane", false, &[]), ("infra", false, &["0-15"])], &[]),
            (&[], &[]),
        ],
    );
}

#[test]
fn lists_of_two_pools_that_share_cpus_are_named_with_just_those() {
    check(
        &sixteen_cpus(),
        &[
            (
                &[("exclusive", true, &["0"]), ("shared", false, &["0"])],
                &["CPU list overlap detected in exclusive:0 and shared:0 (in both: [0])"],
            ),
            (
                &[("a", true, &["0", "2-3"]), ("b", false, &["3-5,8-9"])],
                &["CPU list overlap detected in a:2-3 and b:3-5,8-9 (in both: [3])"],
            ),
            (
                &[("infra", false, &["0-15"]), ("dataplane", true, &["3,11"])],
                &["CPU list overlap detected in dataplane:3,11 and infra:0-15 (in both: [3, 11])"],
            ),
        ],
    );
}

#[test]
fn lists_of_one_pool_that_share_cpus_are_named() {
    check(
        &sixteen_cpus(),
        &[
            (
                &[("p", true, &["0-1", "1-2", "4"])],
                &["CPU list overlap detected in p:0-1 and p:1-2 (in both: [1])"],
            ),
            (
                &[("p", false, &["8-12", "12,14"])],
                &["CPU list overlap detected in p:8-12 and p:12,14 (in both: [12])"],
            ),
        ],
    );
}

#[test]
fn two_spellings_of_one_set_share_all_of_it() {
    check(
        &sixteen_cpus(),
        &[
            (
                &[("p", true, &["0-1", "0,1"])],
                &["CPU list overlap detected in p:0,1 and p:0-1 (in both: [0, 1])"],
            ),
            (
                &[("p", true, &["5,13,6,14"]), ("q", true, &["5-6,13-14"])],
                &["CPU list overlap detected in p:5,13,6,14 and q:5-6,13-14 \
                   (in both: [5, 6, 13, 14])"],
            ),
        ],
    );
}

#[test]
fn every_pair_that_overlaps_is_named_pools_by_name_and_lists_by_lowest_cpu() {
    check(
        &sixteen_cpus(),
        &[
            (
                &[("b", true, &["1"]), ("a", true, &["1-2", "0-1"])],
                &[
                    "CPU list overlap detected in a:0-1 and a:1-2 (in both: [1])",
                    "CPU list overlap detected in a:0-1 and b:1 (in both: [1])",
                    "CPU list overlap detected in a:1-2 and b:1 (in both: [1])",
                ],
            ),
            (
                &[("b", true, &["3,10"]), ("a", true, &["10-11", "2-3"])],
                &[
                    "CPU list overlap detected in a:2-3 and b:3,10 (in both: [3])",
                    "CPU list overlap detected in a:10-11 and b:3,10 (in both: [10])",
                ],
            ),
        ],
    );
}

#[test]
fn cpus_that_are_not_online_are_named_with_their_list() {
    check(
        &Machine::with_offline(MANUAL, "6-7,14"),
        &[
            (&[("p", true, &["0-5", "8-13,15"])], &[]),
            (
                &[("p", true, &["5-7", "6,14", "13,15"])],
                &[
                    "CPU list p:5-7 has CPUs that are not online: 6-7",
                    "CPU list p:6,14 has CPUs that are not online: 6,14",
                    "CPU list overlap detected in p:5-7 and p:6,14 (in both: [6])",
                ],
            ),
            // CPUs that the machine never had.
            (
                &[("q", false, &["15-17"]), ("p", true, &["8191"])],
                &[
                    "CPU list p:8191 has CPUs that are not online: 8191",
                    "CPU list q:15-17 has CPUs that are not online: 16-17",
                ],
            ),
        ],
    );
}

#[test]
fn an_exclusive_list_with_two_tasks_is_named_and_a_shared_one_is_not() {
    for (exclusive, tasks, expected) in [
        (true, "", None),
        (true, "12", None),
        (true, "12,\n", None),
        // The original kcm adds a PID again without looking.
        (true, "12,12", None),
        (true, "12,34", Some("CPU list p:0,8 is exclusive and has 2 tasks: 12, 34")),
        (true, "12,34,56\n", Some("CPU list p:0,8 is exclusive and has 3 tasks: 12, 34, 56")),
        (false, "12,34", None),
    ] {
        let conf = ConfDir::new(&[("p", exclusive, &["0,8", "1,9"])]);
        fs::write(conf.tasks_path("p", "0,8"), tasks).unwrap();
        // Another list's task is no second one.
        fs::write(conf.tasks_path("p", "1,9"), "99").unwrap();
        let expected: Vec<&str> = expected.into_iter().collect();
        assert_eq!(errors_of(&sixteen_cpus(), &conf), expected, "{exclusive} {tasks:?}");
    }
}
