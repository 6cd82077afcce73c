//! The default pool: containers that ask for nothing stay off the exclusive CPUs, and start
//! whatever is wrong with kcm.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods, missing_docs)]

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use kcm_tests::conf_dir::ConfDir;
use kcm_tests::container::Builder;
use kcm_tests::hook::HookCall;
use kcm_tests::machine::{effective_cpus, two_cpus};
use kcm_tests::runtime::{Scene, with_every_runtime};
use kcm_tests::stand_in::{StandIn, new_id};
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

type Case = (&'static str, fn(&Path), bool);

/// What may be wrong, how it comes to be in a configuration directory, and whether the pool's CPUs can be
/// told all the same.
const WRONG: [Case; 14] = [
    ("nothing", |_| {}, true),
    ("there is no directory", |conf| fs::remove_dir_all(conf).unwrap(), false),
    ("a file is in its place", |conf| in_place_of(conf, b""), false),
    ("the pools are no folder", |conf| in_place_of(&conf.join("pools"), b"garbage"), false),
    ("the pool is gone", |conf| fs::remove_dir_all(conf.join("pools/infra")).unwrap(), false),
    (
        "it has no CPU list",
        |conf| lists(conf).iter().for_each(|list| fs::remove_dir_all(list).unwrap()),
        false,
    ),
    ("it is exclusive", |conf| fs::write(conf.join("pools/infra/exclusive"), "1").unwrap(), false),
    ("nobody can tell", |conf| fs::write(conf.join("pools/infra/exclusive"), "x").unwrap(), false),
    (
        "its exclusive would wait for a writer",
        |conf| {
            let path = conf.join("pools/infra/exclusive");
            fs::remove_file(&path).unwrap();
            nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        },
        false,
    ),
    ("a list is no list", |conf| fs::create_dir(conf.join("pools/infra/3-1")).unwrap(), true),
    (
        "its CPUs are none of this machine",
        |conf| {
            let list = &lists(conf)[0];
            fs::rename(list, list.with_file_name("8000")).unwrap();
        },
        false,
    ),
    (
        "partition is damaged",
        |conf| fs::write(conf.join("pools/infra/partition"), "x").unwrap(),
        true,
    ),
    // All the room that a `tasks` has, and more.
    (
        "it is full",
        |conf| {
            let pids: Vec<String> = (1_000_000..1_030_000).map(|pid| pid.to_string()).collect();
            fs::write(lists(conf)[0].join("tasks"), pids.join(",")).unwrap();
        },
        true,
    ),
    (
        "its tasks are damaged",
        |conf| fs::write(lists(conf)[0].join("tasks"), b"\0\0x").unwrap(),
        true,
    ),
];

fn lists(conf: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(conf.join("pools/infra")).unwrap();
    entries.map(|entry| entry.unwrap().path()).filter(|path| path.is_dir()).collect()
}

fn in_place_of(path: &Path, content: &[u8]) {
    fs::remove_dir_all(path).unwrap();
    fs::write(path, content).unwrap();
}

/// Nothing that can become of the default pool keeps a container of kube-system from starting, and
/// nothing makes it wait: not even whoever has the lock.
#[test]
fn a_container_of_kube_system_starts_whatever_becomes_of_the_default_pool() {
    let [first, second] = two_cpus();
    for (number, (what, make_wrong, is_bound)) in WRONG.into_iter().enumerate() {
        // Whoever opts out is not bound, whatever becomes of the pool.
        let pools = if number < 2 { &["", "none"][..] } else { &[""] };
        for pool in pools.iter().copied() {
            let conf =
                ConfDir::new(&[("dataplane", true, &[&first]), ("infra", false, &[&second])]);
            let file = File::open(conf.path().join("lock")).unwrap();
            let _lock = Flock::lock(file, FlockArg::LockExclusive).unwrap();
            make_wrong(conf.path());
            let container = StandIn::new(&new_id("kube"));
            let before = container.allowed_cpus();
            let mut annotations = vec![
                ("io.kubernetes.cri.container-type", "container"),
                ("io.kubernetes.cri.container-name", "coredns"),
                ("io.kubernetes.cri.sandbox-namespace", "kube-system"),
            ];
            annotations.extend((!pool.is_empty()).then_some(("kcm.intel.com/pool", pool)));
            let state = container.state(&annotations);
            let call = HookCall::with_input(conf.path(), "createRuntime", state);
            let call = call.flag(DEFAULT).flag("--allow-none=kube-system,kcm-system");
            let begun = Instant::now();
            call.run().must_succeed();
            assert!(begun.elapsed() < Duration::from_secs(10), "{what}: {:?}", begun.elapsed());
            let is_bound = is_bound && pool.is_empty();
            let expected = if is_bound { second.clone() } else { before };
            assert_eq!(container.allowed_cpus(), expected, "{what} {pool}");
            HookCall::poststop(conf.path(), container.id()).flag(DEFAULT).run().must_succeed();
        }
    }
}
