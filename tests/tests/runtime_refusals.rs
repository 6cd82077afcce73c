//! Containers that are refused: before their command runs, with a message that helps, and with
//! nothing left behind.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods, missing_docs)]

use kcm_tests::machine::{effective_cpus, two_cpus};
use kcm_tests::runtime::{Runtime, with_every_runtime, with_runtime};

#[test]
fn wrong_annotations_are_named_with_their_value_and_what_would_be_right() {
    let [first, second] = two_cpus();
    let pools = [("dataplane", true, &[&*first] as &[_]), ("shared", false, &[&*second])];
    for (annotations, expected) in [
        (
            &[("kcm.intel.com/pool", "dtaplane")] as &[(&str, &str)],
            &["kcm.intel.com/pool", "dtaplane", "dataplane", "shared"] as &[&str],
        ),
        (&[("kcm.intel.com/pool", "../../etc")], &["kcm.intel.com/pool", "../../etc", "letters"]),
        (
            &[("kcm.intel.com/pool", "dataplane"), ("kcm.intel.com/cores", "two")],
            &["annotation kcm.intel.com/cores is \"two\"; give a number of cores, 1 or more"],
        ),
        (
            &[("kcm.intel.com/pool", "dataplane"), ("kcm.intel.com/cores", "2")],
            &["2 cores requested of pool dataplane, which has 1; ask for 1 at most"],
        ),
    ] {
        with_every_runtime(&pools, |scene| {
            let before = scene.conf.snapshot();
            let message = scene.container("wrong").annotations(annotations).refused();
            for part in expected {
                assert!(message.contains(part), "{part:?} is not in: {message}");
            }
            let mut after = scene.conf.snapshot();
            after.remove(&scene.conf.path().join("allocations/"));
            assert_eq!(after, before);
        });
    }
}

#[test]
fn a_container_that_somebody_gave_cpus_already_is_refused_and_told_who_probably_did() {
    let [first, second] = two_cpus();
    with_every_runtime(&[("dataplane", true, &[&first])], |scene| {
        let before = scene.conf.snapshot();
        let container = scene.container("twice").pool("dataplane");
        let message = container.with(|bundle| bundle.cpus = Some(second.clone())).refused();
        let expected = format!("the container is given CPUs {second} already");
        assert!(message.contains(&expected), "{message}");
        assert!(message.contains("cpuManagerPolicy") && message.contains("--cpuset-cpus"));
        assert_eq!(scene.conf.snapshot(), before);
    });
}

#[test]
fn a_container_in_its_callers_cgroup_is_refused_and_the_cgroup_stays_as_it_is() {
    let [first, _] = two_cpus();
    let crun = Runtime { program: "crun", systemd: false };
    with_runtime(crun, &[("dataplane", true, &[&first])], |scene| {
        let before = (scene.conf.snapshot(), effective_cpus("/"));
        let container = scene.container("guest-of-its-caller").pool("dataplane");
        let message = container.without_cgroup().refused();
        assert!(message.contains("the container has no cgroup of its own"), "{message}");
        assert_eq!((scene.conf.snapshot(), effective_cpus("/")), before);
    });
}
