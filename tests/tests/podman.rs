//! podman, after `kcm install --runtime=podman`: containers on CPUs of their own, which come back
//! whatever becomes of the containers.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods, missing_docs)]

use std::fs;

use kcm_tests::isolate::status;
use kcm_tests::machine::{reload_systemd, two_cpus};
use kcm_tests::node::{Node, on_a_node};
use kcm_tests::podman::Podman;

/// Lets a test play with podman, by each runtime, on a node with two pools of a CPU each.
fn with_each_runtime(play: impl Fn(&Podman<'_>) + Sync) {
    let [first, second] = two_cpus();
    for runtime in ["runc", "crun"] {
        on_a_node(|node| {
            node.make_pools(&[("exclusive", true, &first), ("infra", false, &second)]);
            play(&Podman::new(node, runtime));
        });
    }
}

fn install(node: &Node, flags: &[&str]) {
    node.kcm(&[&["install", "--runtime=podman"], flags].concat()).succeeded();
}

fn holder(podman: &Podman<'_>) -> String {
    podman.node.tasks("exclusive", &two_cpus()[0])
}

fn is_released(podman: &Podman<'_>) {
    podman.node.is_released("exclusive", &two_cpus()[0]);
}

const EXCLUSIVE: &[&str] = &["kcm.intel.com/pool=exclusive"];

#[test]
fn a_container_runs_on_its_cpus_is_listed_and_gives_them_back_however_it_ends() {
    let [cpu, _] = two_cpus();
    with_each_runtime(|podman| {
        install(podman.node, &[]);
        podman.start("a", EXCLUSIVE);
        assert_eq!(podman.cpus("a", 0), cpu);
        assert_eq!(holder(podman), podman.pid("a").to_string());
        reload_systemd();
        assert_eq!(status(podman.pid("a"), "Cpus_allowed_list"), cpu);
        let described = podman.node.kcm(&["describe"]).succeeded().out;
        assert!(described.contains(&podman.pid("a").to_string()), "{described}");

        let refused = podman.start_with("late", EXCLUSIVE, &["sh", "-c", "echo RAN"]);
        assert_eq!((refused.code, refused.out.as_str()), (Some(126), ""), "{refused:?}");
        let says_why = refused.err.contains("No free cpu lists in pool exclusive: 1 of 1 are held");
        // crun shows nobody what a hook says: that is in the log.
        assert!(says_why || podman.runtime == "crun", "{refused:?}");
        podman.node.log.has("No free cpu lists in pool exclusive: 1 of 1 are held");
        podman.podman(&["rm", "late"]);

        podman.podman(&["kill", "a"]).succeeded();
        is_released(podman);
        podman.podman(&["start", "a"]).succeeded();
        assert_eq!(
            (podman.cpus("a", 1), holder(podman)),
            (cpu.clone(), podman.pid("a").to_string())
        );
        podman.podman(&["restart", "--time=0", "a"]).succeeded();
        assert_eq!(
            (podman.cpus("a", 2), holder(podman)),
            (cpu.clone(), podman.pid("a").to_string())
        );
        podman.podman(&["rm", "--force", "--time=0", "a"]).succeeded();
        is_released(podman);

        podman.start_with("brief", EXCLUSIVE, &["sh", "-c", "exit 0"]).succeeded();
        is_released(podman);
    });
}

#[test]
fn what_a_failed_create_took_the_next_container_gets() {
    let [cpu, _] = two_cpus();
    with_each_runtime(|podman| {
        install(podman.node, &[]);
        // The hook has run when it turns out that there is no such program.
        let failed = podman.start_with("failed", EXCLUSIVE, &["/no/such/program"]);
        assert_eq!(failed.code, Some(127), "{failed:?}");
        podman.start("next", EXCLUSIVE);
        assert_eq!(
            (podman.cpus("next", 0), holder(podman)),
            (cpu.clone(), podman.pid("next").to_string())
        );
        assert_eq!(podman.node.records(), 1);
    });
}

#[test]
fn with_a_default_pool_a_container_that_asks_for_none_runs_on_its_cpus_and_is_never_refused() {
    let [exclusive, infra] = two_cpus();
    with_each_runtime(|podman| {
        install(podman.node, &["--default-pool=infra"]);
        podman.start("plain", &[]);
        assert_eq!(podman.cpus("plain", 0), infra);
        podman.start("asks", EXCLUSIVE);
        assert_eq!(podman.cpus("asks", 0), exclusive);

        fs::rename("/etc/kcm/pools", "/etc/kcm/elsewhere").unwrap();
        podman.start("unpinned", &[]);
        assert_ne!(podman.cpus("unpinned", 0), infra);
        podman.node.log.has("/etc/kcm");
        fs::rename("/etc/kcm/elsewhere", "/etc/kcm/pools").unwrap();
    });
}

#[test]
fn cpus_that_podman_asks_for_again_at_each_start_are_named_with_what_takes_them_back() {
    let [cpu, other] = two_cpus();
    with_each_runtime(|podman| {
        install(podman.node, &[]);
        // podman 4 forgets an update at the next start; from 5.1 on it keeps it in the container's
        // spec, as it keeps the flag.
        podman.start("a", EXCLUSIVE);
        podman.podman(&["update", "--cpuset-cpus", &other, "a"]).succeeded();
        let restarted = podman.podman(&["restart", "--time=0", "a"]);
        let kept = restarted.code != Some(0);
        if !kept {
            assert_eq!(podman.cpus("a", 1), cpu);
            podman.podman(&["rm", "--force", "--time=0", "a"]).succeeded();
            let stay = ["sh", "-c", "exec sleep 1000"];
            let flag = ["--cpuset-cpus", other.as_str()];
            let refused = podman.start_flagged("a", EXCLUSIVE, &flag, &stay);
            assert_ne!(refused.code, Some(0), "{refused:?}");
        }
        let said = format!("the container is given CPUs {other} already");
        podman.node.log.has(&said);
        podman
            .node
            .log
            .has("no update takes back: make the container anew (podman rm, then podman run");
        // So it is.
        podman.podman(&["update", "--cpuset-cpus=", "a"]);
        assert_ne!(podman.podman(&["start", "a"]).code, Some(0));
        podman.podman(&["rm", "a"]).succeeded();
        podman.start("a", EXCLUSIVE);
        assert_eq!(podman.cpus("a", 0), cpu);
    });
}

#[test]
fn without_kcm_containers_start_as_before() {
    with_each_runtime(|podman| {
        podman.start("before", EXCLUSIVE);
        let all = podman.cpus("before", 0);
        install(podman.node, &[]);
        podman.start("pinned", EXCLUSIVE);
        assert_ne!(podman.cpus("pinned", 0), all);
        podman.podman(&["rm", "--force", "--time=0", "pinned"]).succeeded();
        // podman skips a hook whose program is missing.
        fs::rename("/opt/kcm/kcm-hook", "/opt/kcm/aside").unwrap();
        podman.start("missing", EXCLUSIVE);
        assert_eq!(podman.cpus("missing", 0), all);
        fs::rename("/opt/kcm/aside", "/opt/kcm/kcm-hook").unwrap();
        podman.node.kcm(&["uninstall", "--runtime=podman"]).succeeded();
        podman.start("after", EXCLUSIVE);
        assert_eq!(podman.cpus("after", 0), all);
    });
}

#[test]
fn a_container_in_a_pod_is_podmans_and_runs_on_its_cpus() {
    let [cpu, _] = two_cpus();
    with_each_runtime(|podman| {
        install(podman.node, &[]);
        podman.make_pod("q");
        podman.start_in_pod("q", "inside", EXCLUSIVE).succeeded();
        is_podmans(podman, "inside", &cpu);
        podman.podman(&["pod", "rm", "--force", "--time=0", "q"]).succeeded();
        is_released(podman);

        podman.play(&[("kcm.intel.com/pool", "exclusive")], &["web"]).succeeded();
        is_podmans(podman, "p-web", &cpu);
        podman.play_down();
        is_released(podman);
    });
}

/// Fails the test unless the container runs on its CPU, and its record names podman and nothing that
/// podman does not tell.
#[track_caller]
fn is_podmans(podman: &Podman<'_>, name: &str, cpu: &str) {
    assert_eq!(podman.cpus(name, 0), cpu);
    let id = podman.podman(&["inspect", "--format", "{{.Id}}", name]).succeeded().out;
    let record = podman.node.read(&format!("/etc/kcm/allocations/{}.json", id.trim()));
    let record: serde_json::Value = serde_json::from_str(&record).unwrap();
    let who = ["runtime", "namespace", "pod", "container"].map(|key| record[key].as_str());
    assert_eq!(who, [Some("podman"), None, None, None]);
}

#[test]
fn what_would_run_unpinned_by_a_slip_or_by_a_name_that_podman_does_not_tell_is_refused() {
    with_each_runtime(|podman| {
        install(podman.node, &[]);
        for (number, (annotation, reason)) in [
            ("pol=exclusive", "unknown annotation kcm.intel.com/pol: kcm knows "),
            ("cores=2", "means nothing in a pod without a pool: name one (kcm.intel.com/pool)"),
            (
                "pool.c2=exclusive",
                "annotation kcm.intel.com/pool.c2 is \"exclusive\" is for the container \"c2\", and podman \
                 does not tell a hook how its containers are named: use kcm.intel.com/pool",
            ),
        ]
        .into_iter()
        .enumerate()
        {
            let annotation = format!("kcm.intel.com/{annotation}");
            let name = format!("c{number}");
            let refused = podman.start_with(&name, &[&annotation], &["sh", "-c", "echo RAN"]);
            assert_eq!((refused.code, refused.out.as_str()), (Some(126), ""), "{refused:?}");
            podman.node.log.has(reason);
            podman.podman(&["rm", &name]);
        }
        podman.play(&[("kcm.intel.com/pool.web", "exclusive")], &["web"]);
        podman.node.log.has("is for the container \"web\", and podman does not tell");
        let logs = podman.podman(&["logs", "p-web"]);
        assert!(!logs.out.contains("Cpus_allowed_list"), "{logs:?}");
        podman.play_down();
        assert_eq!(holder(podman), "");
    });
}

/// podman tells a hook nothing of labels, and calls it for annotations alone.
#[test]
fn a_label_asks_for_nothing() {
    with_each_runtime(|podman| {
        podman.start("before", &[]);
        let all = podman.cpus("before", 0);
        install(podman.node, &[]);
        podman.start_labelled("labelled", "kcm.intel.com/pool=exclusive");
        assert_eq!((podman.cpus("labelled", 0), holder(podman)), (all, String::new()));
    });
}

/// The author of a pod that is played can write all that CRI-O and containerd write, and who the
/// container's manager is: podman leaves it as it is.
#[test]
fn a_played_pod_is_in_no_namespace_whatever_it_says() {
    let [_, infra] = two_cpus();
    with_each_runtime(|podman| {
        install(podman.node, &["--default-pool=infra", "--allow-none=kube-*"]);
        let none = ("kcm.intel.com/pool", "none");
        let crio = [
            none,
            ("io.container.manager", "cri-o"),
            ("io.kubernetes.cri-o.ContainerID", "0123456789abcdef"),
            ("io.kubernetes.cri-o.ContainerType", "sandbox"),
            ("io.kubernetes.cri-o.Namespace", "kube-system"),
            ("io.kubernetes.pod.namespace", "kube-system"),
        ];
        let containerd = [
            none,
            ("io.kubernetes.cri.container-type", "sandbox"),
            ("io.kubernetes.cri.sandbox-namespace", "kube-system"),
        ];
        for forged in [&crio[..], &containerd, &[none]] {
            podman.play(forged, &["web"]).succeeded();
            assert_eq!(podman.cpus("p-web", 0), infra, "{forged:?}");
            podman.play_down();
        }
    });
}
