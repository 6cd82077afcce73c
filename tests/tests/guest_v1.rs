//! cgroup v1 on a machine of one's own, whose CPUs go offline and come back.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods, missing_docs)]

use std::fs;
use std::process::Command;

use kcm_tests::conf_dir::ConfDir;
use kcm_tests::hook::HookCall;
use kcm_tests::kcm::{kcm, reconcile, run};
use kcm_tests::machine::{
    Offline, is_cgroup_v2, must_be_the_guest, sysfs_cpus, with_cgroup_v1, with_own_mounts,
};
use kcm_tests::stand_in::{Cgroup, StandIn};

#[track_caller]
fn follow(said: &str) {
    let commands = said.split_once("give them back with: ").unwrap().1.lines().next().unwrap();
    let output = Command::new("sh").args(["-ec", commands]).output().unwrap();
    assert!(output.status.success(), "{commands:?}: {output:?}");
}

/// The last two CPUs, as one list.
fn last_two() -> ([String; 2], String) {
    let cpus: Vec<u32> = sysfs_cpus("cpu/online").iter().collect();
    let [.., before_last, last] = cpus[..] else { panic!("too few CPUs") };
    ([before_last.to_string(), last.to_string()], format!("{before_last}-{last}"))
}

/// A container in a group of a pod's, and the groups that are its own and the pod's.
fn in_a_pod(role: &str) -> (StandIn, [Cgroup; 2]) {
    let [pod, own] = [role.to_owned(), format!("{role}/c")].map(|name| Cgroup::new(&name));
    let container = StandIn::new(&format!("{role}-container"));
    own.enter(container.pid());
    (container, [own, pod])
}

#[test]
fn a_cpu_that_was_offline_is_given_back_to_the_groups_above_by_the_commands_that_are_told() {
    must_be_the_guest();
    with_own_mounts(|| {
        with_cgroup_v1();
        assert!(!is_cgroup_v2());
        let ([first, second], list) = last_two();
        let conf = ConfDir::new(&[("p", true, &[&list])]);
        let (container, [own, pod]) = in_a_pod("half");
        HookCall::create(conf.path(), &container, "p").run().must_succeed();
        assert_eq!((own.cpus(), container.allowed_cpus()), (list.clone(), list.clone()));
        drop(Offline::take(&second));
        assert_eq!((own.cpus(), container.allowed_cpus()), (first.clone(), first));

        let said = reconcile(&conf, &["--repair"]).succeeded().err;
        assert!(said.contains(&format!("has no CPUs {second} any more")), "{said}");
        follow(&said);
        let said = reconcile(&conf, &["--repair"]).succeeded().err;
        assert!(!said.contains("cannot repair"), "{said}");
        assert_eq!((own.cpus(), container.allowed_cpus()), (list.clone(), list));
        drop(container);
        drop((own, pod));
    });
}

#[test]
fn a_container_that_the_kernel_moved_out_of_its_group_is_told_to_be_restarted() {
    must_be_the_guest();
    with_own_mounts(|| {
        with_cgroup_v1();
        let (cpus, list) = last_two();
        let conf = ConfDir::new(&[("p", true, &[&list])]);
        let (container, [own, pod]) = in_a_pod("whole");
        HookCall::create(conf.path(), &container, "p").run().must_succeed();
        drop(cpus.map(|cpu| Offline::take(&cpu)));
        assert_eq!(own.cpus(), "");
        let file = format!("/proc/{}/cgroup", container.pid());
        let moved = format!(":cpuset:{}\n", pod.path());
        assert!(fs::read_to_string(&file).unwrap().contains(&moved));

        let said = reconcile(&conf, &["--repair"]).succeeded().err;
        follow(&said);
        let said = reconcile(&conf, &["--repair"]).succeeded().err;
        let parts = [
            format!(
                "its process is in cgroup {} and no more in its own, {}",
                pod.path(),
                own.path()
            ),
            "restart the container".to_owned(),
        ];
        assert!(parts.iter().all(|part| said.contains(part)), "{said}");
        // Whoever moves it by hand has it where it was.
        own.enter(container.pid());
        let said = reconcile(&conf, &["--repair"]).succeeded().err;
        assert!(!said.contains("cannot repair"), "{said}");
        assert_eq!((own.cpus(), container.allowed_cpus()), (list.clone(), list));
        drop(container);
        drop((own, pod));
    });
}

#[test]
fn without_systemd_the_shield_does_what_can_be_done_and_says_the_rest() {
    must_be_the_guest();
    with_own_mounts(|| {
        with_cgroup_v1();
        let (_, list) = last_two();
        let conf = ConfDir::new(&[("p", true, &[&list])]);
        let shield = |words: &[&str]| {
            let mut command = kcm();
            run(command.arg("shield").args(words).env("KCM_CONF_DIR", conf.path())).succeeded().out
        };
        let see = || {
            let kauditd = Command::new("pidof").arg("kauditd").output().unwrap();
            let kauditd = String::from_utf8(kauditd.stdout).unwrap();
            let status = fs::read_to_string(format!("/proc/{}/status", kauditd.trim())).unwrap();
            let allowed = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:\t"));
            let files =
                ["/proc/irq/default_smp_affinity", "/sys/devices/virtual/workqueue/cpumask"];
            let files = files.map(|path| fs::read_to_string(path).unwrap().trim().to_owned());
            (allowed.unwrap().to_owned(), files)
        };
        let before = see();
        let on = shield(&["on"]);
        assert!(on.contains("systemd is not PID 1 here") && on.contains("system.slice"), "{on}");
        let (kauditd, files) = see();
        assert_eq!((kauditd.as_str(), &files), ("0-13", &["3fff", "3fff"].map(str::to_owned)));
        let off = shield(&["off"]);
        assert!(off.contains("given back"), "{off}");
        assert_eq!(see(), before);
    });
}
