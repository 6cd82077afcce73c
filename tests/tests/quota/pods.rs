//! A pod's quota: lifted while a container of an exclusive pool is in it, and put back after the last.

use std::fs::{self, File};

use kcm_tests::conf_dir::ConfDir;
use kcm_tests::hook::{HookCall, Ran};
use kcm_tests::kcm::reconcile;
use kcm_tests::machine::two_cpus;
use kcm_tests::stand_in::new_id;

use super::{InPod, Pod, alone, quota, set_quota};

fn start(conf: &ConfDir, container: &InPod, pool: &str) -> Ran {
    HookCall::create(conf.path(), &container.stand_in, pool).run().must_succeed()
}

/// Ends a container, of which the runtime then tells the hook.
fn end(conf: &ConfDir, container: InPod) {
    container.end();
    HookCall::poststop(conf.path(), container.stand_in.id()).run().must_succeed();
}

fn two_pools() -> ConfDir {
    let [first, second] = two_cpus();
    ConfDir::new(&[("alone", true, &[&first, &second]), ("all", false, &["0"])])
}

#[test]
fn it_is_lifted_for_the_first_and_put_back_after_the_last_of_several() {
    let _alone = alone();
    let conf = two_pools();
    let pod = Pod::new("150000");
    let [first, second, shared] = ["a", "b", "c"].map(|role| pod.container(&new_id(role)));
    start(&conf, &shared, "all");
    assert_eq!(pod.quota(), "150000 100000");
    let said = start(&conf, &first, "alone").stderr;
    let told = "is not throttled by the CFS quota of its pod (150000 100000)";
    assert!(said.contains(told), "{said}");
    assert_eq!(pod.quota(), "max 100000");
    start(&conf, &second, "alone");
    end(&conf, first);
    end(&conf, shared);
    assert_eq!(pod.quota(), "max 100000");
    end(&conf, second);
    assert_eq!(pod.quota(), "150000 100000");
    // A container that is started anew in its place.
    for _ in 0..2 {
        let again = pod.container(&new_id("again"));
        start(&conf, &again, "alone");
        assert_eq!(pod.quota(), "max 100000");
        end(&conf, again);
        assert_eq!(pod.quota(), "150000 100000");
    }
}

#[test]
fn one_without_limits_stays_so_and_nothing_is_said_of_it() {
    let _alone = alone();
    let conf = two_pools();
    let pod = Pod::new(if kcm_tests::machine::is_cgroup_v2() { "max" } else { "-1" });
    let container = pod.container(&new_id("c"));
    let said = start(&conf, &container, "alone").stderr;
    assert!(!said.contains("quota"), "{said}");
    end(&conf, container);
    assert_eq!(pod.quota(), "max 100000");
}

#[test]
fn where_nobody_told_of_the_containers_end_reconcile_puts_it_back() {
    let _alone = alone();
    let conf = two_pools();
    let pod = Pod::new("150000");
    let [first, second] = ["a", "b"].map(|role| pod.container(&new_id(role)));
    start(&conf, &first, "alone");
    start(&conf, &second, "alone");
    first.end();
    reconcile(&conf, &[]).succeeded();
    assert_eq!(pod.quota(), "max 100000");
    second.end();
    reconcile(&conf, &[]).succeeded();
    assert_eq!(pod.quota(), "150000 100000");
}

#[test]
fn whoever_ends_next_puts_it_back_where_another_hook_has_freed_the_record() {
    let _alone = alone();
    let [cpu, _] = two_cpus();
    let conf = ConfDir::new(&[("alone", true, &[&cpu])]);
    let [pod, other] = [Pod::new("150000"), Pod::new("120000")];
    let first = pod.container(&new_id("a"));
    start(&conf, &first, "alone");
    first.end();
    let second = other.container(&new_id("b"));
    let said = start(&conf, &second, "alone").stderr;
    assert!(conf.record(first.stand_in.id()).is_none(), "{said}");
    assert_eq!((pod.quota(), other.quota()), ("max 100000".into(), "max 100000".into()));
    HookCall::poststop(conf.path(), first.stand_in.id()).run().must_succeed();
    assert_eq!((pod.quota(), other.quota()), ("150000 100000".into(), "max 100000".into()));
    end(&conf, second);
    assert_eq!(other.quota(), "120000 100000");
}

#[test]
fn another_that_the_kubelet_gives_it_meanwhile_is_kept() {
    let _alone = alone();
    let conf = two_pools();
    let pod = Pod::new("150000");
    let [first, second] = ["a", "b"].map(|role| pod.container(&new_id(role)));
    start(&conf, &first, "alone");
    set_quota(&pod.path, "120000");
    end(&conf, first);
    assert_eq!(pod.quota(), "120000 100000");
    start(&conf, &second, "alone");
    set_quota(&pod.path, "130000");
    let third = pod.container(&new_id("c"));
    start(&conf, &third, "alone");
    assert_eq!(pod.quota(), "max 100000");
    end(&conf, second);
    end(&conf, third);
    assert_eq!(pod.quota(), "130000 100000");
}

#[test]
fn a_lock_that_somebody_holds_does_not_keep_its_container_from_starting() {
    let _alone = alone();
    let conf = two_pools();
    let pod = Pod::new("150000");
    let container = pod.container(&new_id("c"));
    fs::create_dir_all("/run/kcm").unwrap();
    let lock = File::create("/run/kcm/quotas.lock").unwrap();
    lock.lock().unwrap();
    let said = start(&conf, &container, "alone").stderr;
    let why = "quotas.lock: somebody keeps it locked";
    assert!(said.contains("may be throttled by a CFS quota") && said.contains(why), "{said}");
    assert_eq!(quota(&pod.path), "150000 100000");
    lock.unlock().unwrap();
    end(&conf, container);
    assert_eq!(pod.quota(), "150000 100000");
}
