//! Containers of real runtimes that never rest, with a quota that would have them rest.

use kcm_tests::container::Container;
use kcm_tests::machine::{two_cpus, until};
use kcm_tests::runtime::{Scene, with_every_runtime};

use super::{alone, quota, throttled};

/// One that is busy all the time.
fn spinner<'s>(scene: &'s Scene, id: &str, pool: &str, quota: i64) -> Container<'s> {
    let spin = "echo up; while :; do :; done";
    let spinner = scene.container(id).pool(pool).command(spin);
    let container = spinner.with(|bundle| bundle.quota = Some(quota)).run();
    until("it to be busy", || (container.out() == "up\n").then_some(()));
    container
}

#[test]
fn one_with_cpus_of_its_own_is_never_throttled_and_one_of_a_shared_pool_is() {
    let _alone = alone();
    let [first, second] = two_cpus();
    let pools: [(&str, bool, &[&str]); 2] =
        [("alone", true, &[&first]), ("shared", false, &[&second])];
    with_every_runtime(&pools, |scene| {
        let alone = spinner(scene, "alone", "alone", 10_000);
        let shared = spinner(scene, "shared", "shared", 10_000);
        // Before the hook was called the runtime itself may have been throttled in it.
        let before = [&alone, &shared].map(|container| throttled(&container.cgroup));
        // Three periods in which both had more to do than they may.
        until("it to be throttled", || (throttled(&shared.cgroup) > before[1] + 2).then_some(()));
        let now = (quota(&alone.cgroup), throttled(&alone.cgroup));
        assert_eq!(now, ("max 100000".to_owned(), before[0]));
        assert_eq!(quota(&shared.cgroup), "10000 100000");
        let id = &alone.id;
        scene.logged(&format!("{id} is not throttled by the CFS quota (10000 100000)"));
    });
}

#[test]
fn a_quota_that_is_above_its_cpus_stays() {
    let _alone = alone();
    let [cpu, _] = two_cpus();
    with_every_runtime(&[("alone", true, &[&cpu])], |scene| {
        let container = spinner(scene, "c", "alone", 150_000);
        assert_eq!(quota(&container.cgroup), "150000 100000");
    });
}
