//! containerd, after `kcm install --runtime=containerd`, through its CRI socket: pods on CPUs of their
//! own, and everybody else as before.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods, missing_docs)]

use std::fs;

use kcm_tests::cri::{CONFIG, Containerd};
use kcm_tests::isolate::status;
use kcm_tests::machine::{kill_and_wait, reload_systemd, two_cpus};
use kcm_tests::node::{Node, on_a_node};

const EXCLUSIVE: &[(&str, &str)] = &[("kcm.intel.com/pool", "exclusive")];
const STAY: &str = "exec sleep 1000";

/// More of a user's own settings: a second runtime.
const OTHERS: &str = r#"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.other]
      runtime_type = "io.containerd.runc.v2"
"#;

/// Lets a test play with a containerd on a node with two pools of a CPU each.
fn with_containerd(play: impl Fn(&Node, &Containerd<'_>) + Sync) {
    let [first, second] = two_cpus();
    on_a_node(|node| {
        node.make_pools(&[("exclusive", true, &first), ("infra", false, &second)]);
        play(node, &Containerd::new(node, OTHERS));
    });
}

fn install(node: &Node, flags: &[&str]) {
    node.kcm(&[&["install", "--runtime=containerd"], flags].concat()).succeeded();
}

fn cpus(pid: i32) -> String {
    status(pid, "Cpus_allowed_list")
}

fn holder(node: &Node) -> String {
    node.tasks("exclusive", &two_cpus()[0])
}

fn is_released(node: &Node) {
    node.is_released("exclusive", &two_cpus()[0]);
}

#[test]
fn a_pod_of_the_handler_is_pinned_its_sandbox_is_not_and_at_its_end_the_list_is_free() {
    let [cpu, _] = two_cpus();
    with_containerd(|node, containerd| {
        install(node, &[]);
        containerd.start();
        let pod = containerd.sandbox("pod", "kcm", EXCLUSIVE).unwrap();
        let container = pod.container("main", STAY).unwrap();
        assert_eq!(
            (cpus(container.pid()), holder(node)),
            (cpu.clone(), container.pid().to_string())
        );
        reload_systemd();
        assert_eq!(cpus(container.pid()), cpu);
        assert_ne!(cpus(pod.pid()), cpu, "the sandbox is pinned");
        let record = node.read(&format!("/etc/kcm/allocations/{}.json", container.id()));
        let record: serde_json::Value = serde_json::from_str(&record).unwrap();
        let names = ["pod", "namespace", "container"].map(|key| record[key].as_str());
        assert_eq!(names, [Some("pod"), Some("default"), Some("main")], "{record}");

        // One too many: what the hook says is in the CRI's error, as in a pod's event.
        let late = containerd.sandbox("late", "kcm", EXCLUSIVE).unwrap();
        let refused = late.container("main", STAY).unwrap_err();
        let why = "No free cpu lists in pool exclusive: 1 of 1 are held";
        assert!(refused.contains(why), "{refused}");
        // Other handlers know nothing of kcm, whatever a pod asks for.
        for handler in ["", "runc", "other"] {
            let name = format!("plain{handler}");
            let plain = containerd.sandbox(&name, handler, EXCLUSIVE).unwrap();
            assert_ne!(cpus(plain.container("main", STAY).unwrap().pid()), cpu, "{handler}");
        }

        container.stop();
        is_released(node);
        container.remove();
        let brief = pod.container("brief", "exit 3").unwrap();
        assert_eq!(brief.ends(), 3);
        is_released(node);
        let killed = pod.container("killed", STAY).unwrap();
        kill_and_wait(killed.pid());
        is_released(node);
        // A container that no program is found for was given its list when that turned out.
        assert!(pod.container("none", "exec /no/such/program").unwrap().ends() != 0);
        is_released(node);
    });
}

#[test]
fn containers_live_on_when_containerd_is_restarted_and_keep_what_they_hold() {
    let [cpu, _] = two_cpus();
    with_containerd(|node, containerd| {
        install(node, &[]);
        containerd.start();
        let pod = containerd.sandbox("pod", "kcm", EXCLUSIVE).unwrap();
        let container = pod.container("main", STAY).unwrap();
        let pid = container.pid();
        containerd.stop();
        assert_eq!((cpus(pid), holder(node)), (cpu.clone(), pid.to_string()));
        containerd.start();
        assert_eq!((cpus(pid), holder(node)), (cpu.clone(), pid.to_string()));
        assert_eq!(container.pid(), pid);
        node.kcm(&["reconcile"]).succeeded();
        assert_eq!(holder(node), pid.to_string());
        container.stop();
        is_released(node);
    });
}

#[test]
fn with_a_default_pool_every_container_of_the_default_handler_runs_on_its_cpus() {
    let [exclusive, infra] = two_cpus();
    with_containerd(|node, containerd| {
        install(node, &["--default-pool=infra"]);
        containerd.start();
        let pod = containerd.sandbox("plain", "", &[]).unwrap();
        assert_eq!(cpus(pod.container("main", STAY).unwrap().pid()), infra);
        let asks = containerd.sandbox("asks", "", EXCLUSIVE).unwrap();
        assert_eq!(cpus(asks.container("main", STAY).unwrap().pid()), exclusive);
        let other = containerd.sandbox("other", "other", &[]).unwrap();
        assert_ne!(cpus(other.container("main", STAY).unwrap().pid()), infra);

        fs::rename("/etc/kcm/pools", "/etc/kcm/elsewhere").unwrap();
        let unpinned = pod.container("unpinned", STAY).unwrap();
        assert_ne!(cpus(unpinned.pid()), infra);
        node.log.has("/etc/kcm");
        fs::rename("/etc/kcm/elsewhere", "/etc/kcm/pools").unwrap();
    });
}

#[test]
fn ctr_runs_a_container_of_the_base_spec_on_its_cpus() {
    let [cpu, _] = two_cpus();
    with_containerd(|node, containerd| {
        install(node, &[]);
        containerd.start();
        let mut spec: serde_json::Value =
            serde_json::from_str(&node.read("/etc/containerd/kcm-base-spec.json")).unwrap();
        let rootfs = node.folder().join("busybox");
        let id = &format!("by-ctr-{}", std::process::id());
        spec["root"]["path"] = rootfs.to_str().unwrap().into();
        spec["process"]["args"] = serde_json::json!(["/bin/sleep", "1000"]);
        spec["process"]["env"] = serde_json::json!(["PATH=/bin"]);
        spec["linux"]["cgroupsPath"] = format!("{}/ctr", containerd.cgroup()).into();
        spec["annotations"] = serde_json::json!({"kcm.intel.com/pool": "exclusive"});
        // What the folder of busybox has no places for.
        let mounts = spec["mounts"].as_array_mut().unwrap();
        mounts.retain(|mount| mount["destination"] == "/proc");
        let path = node.folder().join("spec.json");
        fs::write(&path, spec.to_string()).unwrap();
        containerd.ctr(&["run", "--detach", "--config", path.to_str().unwrap(), id]);
        let pid: i32 = holder(node).parse().unwrap();
        assert_eq!(cpus(pid), cpu);
        // Nobody but ctr deletes a task that has ended: only then is poststop called.
        containerd.ctr(&["tasks", "delete", "--force", id]);
        is_released(node);
        containerd.ctr(&["container", "delete", id]);
    });
}

#[test]
fn without_kcm_pods_run_as_before() {
    with_containerd(|node, containerd| {
        let config = node.read(CONFIG);
        install(node, &["--default-pool=infra"]);
        node.kcm(&["uninstall", "--runtime=containerd"]).succeeded();
        assert_eq!(node.read(CONFIG), config);
        containerd.start();
        let unknown = containerd.sandbox("pod", "kcm", EXCLUSIVE).unwrap_err();
        assert!(unknown.contains("kcm"), "{unknown}");
        let [cpu, _] = two_cpus();
        let pod = containerd.sandbox("pod", "", EXCLUSIVE).unwrap();
        assert_ne!(cpus(pod.container("main", STAY).unwrap().pid()), cpu);
        assert!(!fs::exists("/etc/kcm/allocations").unwrap());
    });
}

#[test]
fn a_pod_that_would_run_unpinned_by_a_slip_is_refused_and_the_pods_event_says_why() {
    with_containerd(|node, containerd| {
        install(node, &[]);
        containerd.start();
        for (key, value, why) in [
            ("pol", "exclusive", "unknown annotation kcm.intel.com/pol: kcm knows "),
            ("cores", "2", "means nothing in a pod without a pool: name one (kcm.intel.com/pool)"),
        ] {
            let key = format!("kcm.intel.com/{key}");
            let pod = containerd.sandbox("pod", "kcm", &[(&key, value)]).unwrap();
            let refused = pod.container("main", STAY).unwrap_err();
            assert!(refused.contains(why), "{refused}");
        }
        assert_eq!(holder(node), "");
    });
}

#[test]
fn whatever_annotations_a_handler_lets_pass_a_pod_is_in_no_namespace_but_its_own() {
    let [exclusive, infra] = two_cpus();
    with_containerd(|node, containerd| {
        let runc = "containerd.runtimes.runc]\n";
        let open = format!("{runc}      pod_annotations = [\"*\"]\n");
        node.write(CONFIG, &node.read(CONFIG).replacen(runc, &open, 1));
        install(node, &["--default-pool=infra", "--allow-none=kube-*"]);
        containerd.start();
        let crio = [
            ("io.container.manager", "cri-o"),
            ("io.kubernetes.cri-o.ContainerID", "0123456789abcdef"),
            ("io.kubernetes.cri-o.ContainerType", "sandbox"),
            ("io.kubernetes.container.name", "other"),
            ("io.kubernetes.pod.namespace", "kube-system"),
        ];
        let podman = [("io.container.manager", "libpod"), crio[2], crio[4]];
        for (number, forged) in [&crio[..], &crio[2..], &podman].into_iter().enumerate() {
            let name = format!("none{number}");
            let asked = [forged, &[("kcm.intel.com/pool", "none")]].concat();
            let pod = containerd.sandbox(&name, "", &asked).unwrap();
            assert_eq!(cpus(pod.container("main", STAY).unwrap().pid()), infra, "{forged:?}");
            // His own container's name is as little believed as another's.
            let name = format!("named{number}");
            let asked = [forged, &[("kcm.intel.com/pool.main", "exclusive")]].concat();
            let pod = containerd.sandbox(&name, "", &asked).unwrap();
            let refused = pod.container("main", STAY).unwrap_err();
            assert!(refused.contains("annotations of several engines contradict"), "{refused}");
        }
        let honest = [("kcm.intel.com/pool.main", "exclusive")];
        let pod = containerd.sandbox("honest", "", &honest).unwrap();
        assert_eq!(cpus(pod.container("main", STAY).unwrap().pid()), exclusive);
    });
}

/// The base spec with the hooks is the CRI service's; docs/hook.md says so.
#[test]
fn ctr_run_with_an_annotation_alone_is_not_seen() {
    let [cpu, _] = two_cpus();
    with_containerd(|node, containerd| {
        install(node, &[]);
        containerd.start();
        let id = &format!("ctr-alone-{}", std::process::id());
        let cgroup = format!("{}/ctr", containerd.cgroup());
        let rootfs = node.folder().join("busybox");
        let annotation = "kcm.intel.com/pool=exclusive";
        let place = ["--rootfs", "--cgroup", &cgroup, "--annotation", annotation];
        let what = [rootfs.to_str().unwrap(), id, "/bin/sleep", "1000"];
        containerd.ctr(&[&["run", "--detach"], &place[..], &what].concat());
        let tasks = containerd.ctr(&["tasks", "list"]);
        let line = tasks.lines().find(|line| line.starts_with(id.as_str())).unwrap();
        let pid = line.split_whitespace().nth(1).unwrap().parse().unwrap();
        assert_ne!(cpus(pid), cpu);
        assert_eq!(holder(node), "");
        containerd.ctr(&["tasks", "delete", "--force", id]);
        containerd.ctr(&["container", "delete", id]);
    });
}
