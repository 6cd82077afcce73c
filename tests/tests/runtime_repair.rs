//! Containers of real runtimes that somebody moves off their CPUs: reported, and put back.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods, missing_docs)]

use std::fs;

use kcm_tests::conf_dir::ConfDir;
use kcm_tests::container::Container;
use kcm_tests::kcm::reconcile;
use kcm_tests::machine::{effective_cpus, together, two_cpus};
use kcm_tests::runtime::{Scene, with_every_runtime};
use serde_json::{Value, json};

fn printed(conf: &ConfDir, flags: &[&str]) -> Value {
    serde_json::from_str(&reconcile(conf, flags).succeeded().out).unwrap()
}

fn allowed_cpus(container: &Container<'_>) -> String {
    let status = fs::read_to_string(format!("/proc/{}/status", container.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
    line.unwrap().trim().to_owned()
}

/// Has the runtime give a container other CPUs. Whether it has: crun with systemd changes the scope
/// alone, within which the container's own cgroup may keep its CPUs; then nothing is to be repaired.
fn update(scene: &Scene, container: &Container<'_>, cpus: &str) -> bool {
    let before = effective_cpus(&container.cgroup).to_string();
    container.update(&["--cpuset-cpus", cpus]);
    let after = effective_cpus(&container.cgroup).to_string();
    if scene.runtime.to_string() == "crun --systemd-cgroup" && after == before {
        assert_eq!(printed(&scene.conf, &["--repair"]), mismatched(&[]));
        return false;
    }
    assert_eq!(after, cpus);
    true
}

/// Nothing reclaimed, and these mismatched.
fn mismatched(entries: &[Value]) -> Value {
    json!({"mismatchedCpuMasks": entries, "reclaimedCpuLists": []})
}

#[test]
fn a_container_that_its_runtime_has_widened_or_moved_is_reported_and_put_back() {
    let [first, second] = two_cpus();
    let both = together([&first, &second]);
    let number = |cpu: &str| cpu.parse::<u32>().unwrap();
    let all = [number(&first), number(&second)];
    with_every_runtime(&[("dataplane", true, &[&first, &second])], |scene| {
        let container = scene.container("a").pool("dataplane").run();
        let other = scene.container("b").pool("dataplane").run();
        assert_eq!(printed(&scene.conf, &["--repair"]), mismatched(&[]));
        for (cpus, actual) in [(&both, &all[..]), (&second, &all[1..])] {
            if !update(scene, &container, cpus) {
                continue;
            }
            let mut entry = json!({
                "actualCpus": actual, "cpus": first, "pid": container.pid(), "pool": "dataplane",
            });
            assert_eq!(printed(&scene.conf, &[]), mismatched(&[entry.clone()]));
            assert_eq!(effective_cpus(&container.cgroup).to_string(), *cpus);

            entry["repaired"] = true.into();
            assert_eq!(printed(&scene.conf, &["--repair"]), mismatched(&[entry]));
            assert_eq!(effective_cpus(&container.cgroup).to_string(), first);
            assert_eq!(allowed_cpus(&container), first);
            assert_eq!(effective_cpus(&other.cgroup).to_string(), second);
            assert_eq!(printed(&scene.conf, &["--repair"]), mismatched(&[]));
        }
    });
}

#[test]
fn a_container_of_two_lists_is_put_back_on_the_cpus_of_both() {
    let [first, second] = two_cpus();
    let both = together([&first, &second]);
    with_every_runtime(&[("dataplane", true, &[&first, &second])], |scene| {
        let two = scene.container("two").pool("dataplane").annotation("kcm.intel.com/cores", "2");
        let container = two.run();
        if !update(scene, &container, &first) {
            return;
        }
        let actual = [first.parse::<u32>().unwrap()];
        let entries = [&first, &second].map(|list| {
            json!({
                "actualCpus": actual, "cpus": list, "pid": container.pid(), "pool": "dataplane",
                "repaired": true,
            })
        });
        assert_eq!(printed(&scene.conf, &["--repair"]), mismatched(&entries));
        assert_eq!(effective_cpus(&container.cgroup).to_string(), both);
    });
}

#[test]
fn a_created_container_and_a_running_one_keep_their_lists_and_a_dead_one_does_not() {
    let [first, second] = two_cpus();
    with_every_runtime(&[("dataplane", true, &[&first, &second])], |scene| {
        let created = scene.container("created").pool("dataplane").create();
        let dead = scene.container("dead").pool("dataplane").run();
        let before = scene.conf.snapshot();
        assert_eq!(printed(&scene.conf, &[]), mismatched(&[]));
        assert_eq!(scene.conf.snapshot(), before);

        // Its poststop hook is called by `delete`, which does not come.
        dead.kill();
        let entry = json!({"cpus": second, "pid": dead.pid(), "pool": "dataplane"});
        let expected = json!({"mismatchedCpuMasks": [], "reclaimedCpuLists": [entry]});
        assert_eq!(printed(&scene.conf, &[]), expected);
        assert_eq!(scene.conf.allocations(), ["created.json"]);
        assert_eq!(scene.conf.tasks("dataplane", &second), "");

        // It comes late, and takes nothing from whoever has the list by now.
        let next = scene.container("next").pool("dataplane").run();
        dead.delete();
        assert_eq!(scene.conf.tasks("dataplane", &second), next.pid().to_string());
        assert_eq!(scene.conf.tasks("dataplane", &first), created.pid().to_string());
        assert_eq!(next.cpus(), second);
    });
}

#[test]
fn a_container_restarted_under_its_id_is_repaired_to_its_new_cpus() {
    let [first, second] = two_cpus();
    with_every_runtime(&[("dataplane", true, &[&first, &second])], |scene| {
        let old = scene.container("a").pool("dataplane").run();
        let pid = old.pid();
        old.delete();
        let taker = scene.container("taker").pool("dataplane").run();
        let new = scene.container("a").pool("dataplane").run();
        assert!(new.pid() != pid && new.cpus() == second);
        if !update(scene, &new, &first) {
            return;
        }
        let out = printed(&scene.conf, &["--repair"]);
        assert_eq!(out["mismatchedCpuMasks"][0]["repaired"], true, "{out}");
        assert_eq!(out["mismatchedCpuMasks"][0]["cpus"], second, "{out}");
        assert_eq!(effective_cpus(&new.cgroup).to_string(), second);
        assert_eq!(effective_cpus(&taker.cgroup).to_string(), first);
    });
}
