//! What a partition costs, counted in system calls.

use std::fs;

use kcm_tests::alone::{alone, partition};
use kcm_tests::conf_dir::ConfDir;
use kcm_tests::hook::HookCall;
use kcm_tests::stand_in::{StandIn, new_id};
use kcm_tests::strace::Trace;

/// How many system calls a start makes in a pool that says this of partitions, with so many cgroups
/// above the container's.
fn calls(policy: &str, above: usize) -> usize {
    let conf = ConfDir::new(&[("p", true, &["2-3"])]);
    fs::write(conf.path().join("pools/p/partition"), policy).unwrap();
    let container = StandIn::below(above, &new_id("c"));
    // The first one of a boot does more.
    HookCall::create(conf.path(), &container, "p").run().must_succeed();
    let id = container.id().to_owned();
    drop(container);
    HookCall::poststop(conf.path(), &id).run().must_succeed();
    let container = StandIn::below(above, &new_id("c"));
    let trace = Trace::of(&HookCall::create(conf.path(), &container, "p"), &[]);
    assert!(trace.ran.succeeded(), "{:?}", trace.ran);
    let is = if policy == "none" { "member" } else { "root" };
    assert_eq!(partition(&container.cgroup().path()), is);
    // No second process, whatever it costs.
    let started = ["clone", "clone3", "fork", "vfork", "execve"].map(|name| trace.count(name));
    assert_eq!(started, [0, 0, 0, 0, 1], "{above} above");
    trace.calls.len()
}

#[test]
fn a_partition_costs_twelve_system_calls_and_three_for_each_cgroup_above_and_no_process() {
    let _alone = alone();
    for above in [1, 2, 4] {
        let (without, with) = (calls("none", above), calls("root", above));
        let cost = with.saturating_sub(without);
        println!(
            "with {above} cgroups above: {without} system calls without a partition, {cost} for one"
        );
        assert!((1..=12 + 3 * above).contains(&cost), "{above} above: {with}, not {without}");
    }
}
