//! The mask of the kernel's unbound workqueues, which hooks and the shield change: whoever comes first,
//! and in whatever order they go, it is as before in the end.

use std::fs;

use kcm_core::CpuSet;
use kcm_tests::alone::{alone, partition};
use kcm_tests::conf_dir::ConfDir;
use kcm_tests::hook::HookCall;
use kcm_tests::kcm::{kcm, run};
use kcm_tests::stand_in::{StandIn, new_id};

/// What the kernel was asked for.
fn mask() -> CpuSet {
    let text = fs::read_to_string("/sys/devices/virtual/workqueue/cpumask_requested").unwrap();
    let bits = u32::from_str_radix(text.trim(), 16).unwrap();
    (0..32).filter(|cpu| bits >> cpu & 1 == 1).collect()
}

fn less(cpus: &CpuSet, others: &str) -> CpuSet {
    cpus.difference(&others.parse().unwrap())
}

/// A container that has the only CPU list of a pool, as a partition.
struct Held {
    conf: ConfDir,
    container: StandIn,
}

impl Held {
    fn new(cpus: &str) -> Self {
        let conf = ConfDir::new(&[("p", true, &[cpus])]);
        fs::write(conf.path().join("pools/p/partition"), "root").unwrap();
        let container = StandIn::new(&new_id("c"));
        HookCall::create(conf.path(), &container, "p").run().must_succeed();
        assert_eq!(partition(&container.cgroup().path()), "root");
        Self { conf, container }
    }

    fn end(self) {
        let (conf, id) = (self.conf, self.container.id().to_owned());
        drop(self.container);
        HookCall::poststop(conf.path(), &id).run().must_succeed();
    }
}

fn uninstall() {
    run(kcm().args(["uninstall", "--runtime=podman"])).succeeded();
}

#[test]
fn it_is_as_before_after_hooks_and_the_shield_in_whatever_order() {
    let _alone = alone();
    uninstall();
    let before = mask();
    let conf = |list: &str| ConfDir::new(&[("p", true, &[list])]);
    let pools = [conf("2-3"), conf("4-5")];
    let shield = |words: &[&str], pools: &ConfDir| {
        let done = run(kcm().arg("shield").args(words).env("KCM_CONF_DIR", pools.path()));
        assert_eq!(done.lines("WARNING"), [""; 0], "it takes a hook's change for somebody else's");
        done.succeeded()
    };
    // A hook before it, one under it, whose pool is made after it was put on.
    let first = Held::new("2-3");
    assert_eq!(mask(), less(&before, "2-3"));
    shield(&["on"], &pools[0]);
    let second = Held::new("6");
    assert_eq!(mask(), less(&before, "2-3,6"));
    shield(&["on"], &pools[1]);
    assert_eq!(mask(), less(&before, "2-6"));
    first.end();
    shield(&["off"], &pools[1]);
    assert_eq!(mask(), less(&before, "2-3,6"));
    second.end();
    uninstall();
    assert_eq!(mask(), before);
    // Put on before, taken off after another pool's.
    shield(&["on"], &pools[0]);
    let third = Held::new("7");
    shield(&["off"], &pools[0]);
    assert_eq!(mask(), less(&before, "7"));
    third.end();
    uninstall();
    assert_eq!(mask(), before);
}
