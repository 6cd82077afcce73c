//! What a partition costs, counted in system calls.

use std::fs;

use kcm_tests::conf_dir::ConfDir;
use kcm_tests::hook::HookCall;
use kcm_tests::stand_in::{StandIn, new_id};
use kcm_tests::strace::Trace;

use super::{alone, partition};

/// How many system calls a start makes in a pool that says this of partitions.
fn calls(policy: &str) -> usize {
    let conf = ConfDir::new(&[("p", true, &["2-3"])]);
    fs::write(conf.path().join("pools/p/partition"), policy).unwrap();
    let container = StandIn::new(&new_id("c"));
    // The first one of a boot does more.
    HookCall::create(conf.path(), &container, "p").run().must_succeed();
    let id = container.id().to_owned();
    drop(container);
    HookCall::poststop(conf.path(), &id).run().must_succeed();
    let container = StandIn::new(&new_id("c"));
    let trace = Trace::of(&HookCall::create(conf.path(), &container, "p"), &[]);
    assert!(trace.ran.succeeded(), "{:?}", trace.ran);
    let is = if policy == "none" { "member" } else { "root" };
    assert_eq!(partition(&container.cgroup().path()), is);
    trace.calls.len()
}

#[test]
fn a_partition_costs_twelve_system_calls_and_three_for_a_cgroup_above() {
    let _alone = alone();
    let (without, with) = (calls("none"), calls("root"));
    println!("{without} system calls without a partition, {with} with one");
    assert!(with <= without + 12 + 3, "{with} system calls with a partition, {without} without");
}
