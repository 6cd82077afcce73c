//! Containers of real runtimes run on the CPUs they were given, and give them back.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods, missing_docs)]

use std::fs;
use std::os::unix::fs::MetadataExt;

use kcm_tests::container::Container;
use kcm_tests::machine::{self, cgroup_file, is_cgroup_v2, sysfs_cpus, together, two_cpus};
use kcm_tests::runtime::{Pools, Runtime, with_every_runtime};
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;

#[test]
fn a_container_runs_on_exactly_its_cpus_from_the_first_instruction_and_gives_them_back() {
    let [first, second] = two_cpus();
    with_every_runtime(&[("dataplane", true, &[&first, &second])], |scene| {
        let container = scene.container("a").pool("dataplane").create();
        let pid = container.state()["pid"].as_i64().unwrap();
        assert_eq!(scene.conf.tasks("dataplane", &first), pid.to_string());
        assert_eq!(scene.conf.tasks("dataplane", &second), "");

        let record = scene.conf.record("a").unwrap();
        let boot_id = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
        let created_at = record["createdAt"].as_str().unwrap();
        assert!(created_at.starts_with("20") && created_at.ends_with('Z'), "{created_at}");
        let mut expected = serde_json::json!({
            "owner": "a",
            "pool": "dataplane",
            "cpuLists": [first],
            "cpus": first,
            "pid": pid,
            "startTime": machine::start_time(pid as i32),
            "bootId": boot_id.trim(),
            "createdAt": created_at,
            "cgroup": container.cgroup,
            "cgroupInode": fs::metadata(machine::cgroup_file(&container.cgroup, "")).unwrap().ino(),
            "affinity": true,
        });
        // crun divides the scope that systemd makes for it, so that nobody stands beside its container.
        let has_partitions = machine::cgroup_file("/", "cpuset.cpus.isolated").exists();
        if has_partitions && scene.runtime.systemd && scene.runtime.program == "crun" {
            expected["partition"] = "root".into();
        }
        assert_eq!(record, expected);

        container.start();
        assert_eq!(container.cpus(), first);
        assert_eq!(machine::effective_cpus(&container.cgroup).to_string(), first);
        scene.logged("allocated CPUs");

        container.delete();
        assert_eq!(scene.conf.tasks("dataplane", &first), "");
        assert_eq!(scene.conf.allocations(), [""; 0]);
        scene.logged("released CPUs");
    });
}

#[test]
fn a_second_container_gets_another_list_and_one_too_many_is_refused_before_it_runs() {
    let [first, second] = two_cpus();
    with_every_runtime(&[("dataplane", true, &[&first, &second])], |scene| {
        let one = scene.container("tenant-one").pool("dataplane").run();
        let two = scene.container("tenant-two").pool("dataplane").run();
        assert_eq!((one.cpus(), two.cpus()), (first.clone(), second.clone()));

        let before = scene.conf.snapshot();
        let message = scene.container("late").pool("dataplane").refused();
        assert!(
            message.contains(
                "No free cpu lists in pool dataplane: 2 of 2 are held, 1 wanted; end a container"
            ),
            "{message}"
        );
        assert!(!message.contains("tenant"), "it names another's container: {message}");
        scene.logged("by tenant-one (process");
        assert_eq!(scene.conf.snapshot(), before);
    });
}

/// Annotations of a pod as containerd passes them on, or as CRI-O does.
fn of_a_pod(runtime: Runtime, kind: &str, container: &str) -> Vec<(&'static str, String)> {
    let keys = match runtime.program {
        "runc" => ["io.kubernetes.cri.container-type", "io.kubernetes.cri.container-name"],
        _ => ["io.kubernetes.cri-o.ContainerType", "io.kubernetes.container.name"],
    };
    let pod = [("kcm.intel.com/pool", "shared"), ("kcm.intel.com/pool.web", "dataplane")];
    let pod = pod.into_iter().chain([("kcm.intel.com/pool.log", "none")]);
    keys.into_iter().zip([kind, container]).chain(pod).map(|(k, v)| (k, v.to_owned())).collect()
}

#[test]
fn each_container_of_a_pod_gets_what_its_own_entry_says_else_what_its_pods_says() {
    let [first, second] = two_cpus();
    let pools: &Pools = &[("dataplane", true, &[&first]), ("shared", false, &[&second])];
    with_every_runtime(pools, |scene| {
        let start = |kind, name: &str| {
            let annotations = of_a_pod(scene.runtime, kind, name);
            let pairs: Vec<_> = annotations.iter().map(|(k, v)| (*k, v.as_str())).collect();
            scene.container(&format!("{kind}-{name}")).annotations(&pairs).run()
        };
        let [pause, log] = [start("sandbox", "web"), start("container", "log")];
        let all = machine::effective_cpus(&scene.parent_cgroup()).to_string();
        assert_eq!((pause.cpus(), log.cpus()), (all.clone(), all), "not ours to pin");
        assert_eq!(scene.conf.allocations(), [""; 0]);

        let [web, db] = [start("container", "web"), start("container", "db")];
        assert_eq!((web.cpus(), db.cpus()), (first.clone(), second.clone()));
        assert_eq!(scene.conf.record("container-web").unwrap()["container"], "web");
    });
}

#[test]
fn two_cores_are_two_lists_and_a_cpuset_of_both() {
    let [first, second] = two_cpus();
    with_every_runtime(&[("dataplane", true, &[&first, &second])], |scene| {
        let two = scene.container("two").pool("dataplane").annotation("kcm.intel.com/cores", "2");
        let container = two.run();
        let pid = container.pid().to_string();
        assert_eq!(container.cpus(), together([&first, &second]));
        for list in [&first, &second] {
            assert_eq!(scene.conf.tasks("dataplane", list), pid);
        }
        let record = scene.conf.record("two").unwrap();
        assert_eq!(record["cpuLists"], serde_json::json!([first, second]));
        assert_eq!(record["cpus"], together([&first, &second]));
        container.delete();
        for list in [&first, &second] {
            assert_eq!(scene.conf.tasks("dataplane", list), "");
        }
    });
}

#[test]
fn containers_of_a_shared_pool_share_its_list() {
    let [first, second] = two_cpus();
    let list = format!("{first},{second}");
    with_every_runtime(&[("shared", false, &[&list])], |scene| {
        let [one, two] = ["one", "two"].map(|id| scene.container(id).pool("shared").run());
        for container in [&one, &two] {
            assert_eq!(container.cpus(), together([&first, &second]));
        }
        let both = format!("{},{}", one.pid(), two.pid());
        assert_eq!(scene.conf.tasks("shared", &list), both);
        if sysfs_cpus("cpu/isolated").len() > 1 {
            scene.logged("are isolated: the kernel does not balance load between them");
        }
        one.delete();
        assert_eq!(scene.conf.tasks("shared", &list), two.pid().to_string());
    });
}

#[test]
fn memory_comes_from_the_cpus_own_nodes_where_the_pool_says_local() {
    let last = sysfs_cpus("cpu/online").iter().last().unwrap().to_string();
    let node = sysfs_cpus("node/online").iter().last().unwrap().to_string();
    let pools: &Pools = &[("near", true, &[&last]), ("as-it-is", true, &["0"])];
    with_every_runtime(pools, |scene| {
        fs::write(scene.conf.path().join("pools/near/mems"), "local\n").unwrap();
        let near = scene.container("near").pool("near").run();
        let other = scene.container("other").pool("as-it-is").run();
        let mems = |container: &Container<'_>| {
            let text = fs::read_to_string(cgroup_file(&container.cgroup, "cpuset.mems")).unwrap();
            text.trim().to_owned()
        };
        assert_eq!((near.cpus(), mems(&near)), (last.clone(), node.clone()));
        let untouched = if is_cgroup_v2() { String::new() } else { mems_of_the_root() };
        assert_eq!(mems(&other), untouched);
    });
}

fn mems_of_the_root() -> String {
    fs::read_to_string(cgroup_file("/", "cpuset.mems")).unwrap().trim().to_owned()
}

#[test]
fn an_affinity_inherited_from_the_caller_does_not_confine_a_container() {
    let [first, second] = two_cpus();
    let both = together([&first, &second]);
    with_every_runtime(&[("wide", true, &[&both]), ("other", true, &[&second])], |scene| {
        // What `taskset -c` does: the runtime, and its container, inherit it.
        let mut one = CpuSet::new();
        one.set(first.parse().unwrap()).unwrap();
        sched_setaffinity(Pid::from_raw(0), &one).unwrap();
        assert_eq!(scene.container("wide").pool("wide").run().cpus(), both);
        assert_eq!(scene.container("other").pool("other").run().cpus(), second);
    });
}

#[test]
fn a_list_outside_the_parents_cpuset_is_passed_over_and_named_where_none_is_left() {
    let [first, second] = two_cpus();
    with_every_runtime(&[("dataplane", true, &[&first, &second])], |scene| {
        scene.limit_to(&second);
        let container = scene.container("a").pool("dataplane").run();
        assert_eq!(container.cpus(), second);
        scene.logged(&format!("skipping CPU list {first} of pool dataplane"));
        let two = scene.container("b").pool("dataplane").annotation("kcm.intel.com/cores", "2");
        let message = two.refused();
        let expected = format!(
            "only 1 of 2 CPU lists of pool dataplane can be used here (2 wanted): the others have \
             CPUs that are offline or outside the cpuset of the parent cgroup or of the caller, \
             {second}, or a damaged tasks file"
        );
        assert!(message.contains(&expected), "{message}");
        assert_eq!(scene.conf.allocations(), ["a.json"]);
    });
}
