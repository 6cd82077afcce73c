//! What only a machine of one's own can show: CPUs that go away, and memory of several nodes.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods, missing_docs)]

use kcm_tests::machine::{Offline, must_be_the_guest, sysfs_cpus, two_cpus};
use kcm_tests::runtime::with_every_runtime;

#[test]
fn a_list_with_an_offline_cpu_is_passed_over_and_named_where_none_is_left() {
    must_be_the_guest();
    let cpus: Vec<u32> = sysfs_cpus("cpu/online").iter().collect();
    let [.., before_last, last] = &cpus.iter().map(u32::to_string).collect::<Vec<_>>()[..] else {
        panic!("too few CPUs")
    };
    // The offline one comes first in the pool: a list is ordered by its lowest CPU.
    let half_offline = format!("{},{last}", two_cpus()[0]);
    let pools: &[(_, _, &[&str])] = &[("dataplane", true, &[&half_offline, before_last])];
    with_every_runtime(pools, |scene| {
        let offline = Offline::take(last);
        let container = scene.container("a").pool("dataplane").run();
        assert_eq!(container.cpus(), *before_last);
        scene.logged(&format!("skipping CPU list {half_offline} of pool dataplane"));
        let message = scene.container("b").pool("dataplane").refused();
        assert!(message.contains("No free cpu lists in pool dataplane"), "{message}");
        let two = scene.container("c").pool("dataplane").annotation("kcm.intel.com/cores", "2");
        let message = two.refused();
        assert!(
            message.contains("only 1 of 2 CPU lists of pool dataplane can be used"),
            "{message}"
        );
        drop(offline);
        let container = scene.container("d").pool("dataplane").run();
        assert_eq!(container.cpus(), half_offline);
    });
}
