//! The default pool: containers that ask for nothing stay off the exclusive CPUs, and start
//! whatever is wrong with kcm.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods, missing_docs)]

use std::fs::{self, File};

use kcm_tests::container::Builder;
use kcm_tests::machine::{effective_cpus, two_cpus};
use kcm_tests::runtime::{Scene, with_every_runtime};
use nix::fcntl::{Flock, FlockArg};

const DEFAULT: &str = "--default-pool=infra";

fn in_namespace<'s>(container: Builder<'s>, namespace: &str) -> Builder<'s> {
    container.annotations(&[
        ("io.kubernetes.cri.container-type", "container"),
        ("io.kubernetes.cri.sandbox-namespace", namespace),
    ])
}

fn all_cpus(scene: &Scene) -> String {
    effective_cpus(&scene.parent_cgroup()).to_string()
}

#[test]
fn a_container_that_asks_for_nothing_runs_on_the_default_pool_without_lock_record_or_task() {
    let [first, second] = two_cpus();
    with_every_runtime(&[("dataplane", true, &[&first]), ("infra", false, &[&second])], |scene| {
        let before = scene.conf.snapshot();
        let file = File::open(scene.conf.path().join("lock")).unwrap();
        let lock = Flock::lock(file, FlockArg::LockExclusive).unwrap();
        let plain = scene.container("plain").hook_flag(DEFAULT).run();
        assert_eq!(plain.cpus(), second);
        plain.delete();
        drop(lock);
        assert_eq!(scene.conf.snapshot(), before);

        let other = scene.container("other").hook_flag(DEFAULT).pool("dataplane").run();
        assert_eq!(other.cpus(), first);
    });
}

#[test]
fn none_opts_out_only_in_namespaces_that_the_administrator_named() {
    let [first, second] = two_cpus();
    with_every_runtime(&[("dataplane", true, &[&first]), ("infra", false, &[&second])], |scene| {
        let in_namespace = |id, namespace| {
            let container = scene.container(id).hook_flag(DEFAULT).pool("none");
            in_namespace(container.hook_flag("--allow-none=kcm-*,kube-system"), namespace).run()
        };
        assert_eq!(in_namespace("isolates", "kcm-tools").cpus(), all_cpus(scene));
        assert_eq!(in_namespace("user", "default").cpus(), second);
        scene.logged("annotation 'none' does not count in namespace default");
    });
}

#[test]
fn a_broken_configuration_does_not_stop_a_container_and_is_logged() {
    let [first, second] = two_cpus();
    let pools: &[(_, _, &[&str])] = &[("dataplane", true, &[&first]), ("infra", false, &[&second])];
    type Break = fn(&Scene);
    for (broken, error) in [
        ((|scene| fs::remove_dir_all(scene.conf.path()).unwrap()) as Break, "kcm init"),
        (
            |scene| {
                let pools = scene.conf.path().join("pools");
                fs::remove_dir_all(&pools).unwrap();
                fs::write(pools, "garbage").unwrap();
            },
            "pools",
        ),
        (
            |scene| fs::write(scene.conf.path().join("pools/infra/exclusive"), "1").unwrap(),
            "a default pool must be shared, and infra is exclusive",
        ),
    ] {
        with_every_runtime(pools, |scene| {
            broken(scene);
            let container = scene.container("plain").hook_flag(DEFAULT).run();
            assert_eq!(container.cpus(), all_cpus(scene));
            scene.logged("container \"plain\" is not bound to default pool infra");
            scene.logged(error);
        });
    }
}

#[test]
fn a_default_pool_outside_the_parents_cpuset_is_logged_and_stops_nothing() {
    let [first, second] = two_cpus();
    with_every_runtime(&[("infra", false, &[&second])], |scene| {
        scene.limit_to(&first);
        let container = scene.container("plain").hook_flag(DEFAULT).run();
        assert_eq!(container.cpus(), first);
        scene.logged(&format!("none of its CPUs is in {first}"));
    });
}

#[test]
fn a_container_that_somebody_gave_cpus_already_is_left_alone() {
    let [first, second] = two_cpus();
    with_every_runtime(&[("infra", false, &[&second])], |scene| {
        let container = scene.container("given").hook_flag(DEFAULT);
        let container = container.with(|bundle| bundle.cpus = Some(first.clone())).run();
        assert_eq!(container.cpus(), first);
        scene.logged("stays on CPUs");
    });
}
