//! podman's containers, whatever is done to them and beside them.

use std::path::Path;
use std::process::Command;

use kcm_tests::alone::{alone, others_have, partition};
use kcm_tests::isolate::{Isolate, status};
use kcm_tests::kcm::{reconcile, run};
use kcm_tests::machine::{Guest, effective_cpus, must_be_the_guest};
use kcm_tests::node::on_a_node;
use kcm_tests::podman::Podman;
use kcm_tests::runtime::systemctl;

use super::guard;

const CONF: &str = "/etc/kcm";
const EXCLUSIVE: &[&str] = &["kcm.intel.com/pool=exclusive"];

pub(crate) fn cgroup_of(pid: i32) -> String {
    let text = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    text.trim().strip_prefix("0::").unwrap().to_owned()
}

#[test]
fn a_podman_container_of_runc_keeps_its_partition_and_has_one_again_after_a_restart() {
    keeps_its_partition("runc");
}

#[test]
fn a_podman_container_of_crun_keeps_its_partition_and_has_one_again_after_a_restart() {
    keeps_its_partition("crun");
}

/// Until its end, whatever is done to it and beside it.
fn keeps_its_partition(runtime: &'static str) {
    let _alone = alone();
    on_a_node(|node| {
        node.make_pools(&[("exclusive", true, "4-5"), ("infra", false, "0")]);
        node.kcm(&["install", "--runtime=podman"]).succeeded();
        let podman = Podman::new(node, runtime);
        let is_systemd = must_be_the_guest() == Guest::Systemd;
        if runtime == "runc" || !is_systemd {
            // Others may stand beside it: it has to be asked for.
            podman.start("a", EXCLUSIVE);
            assert_eq!(partition(&cgroup_of(podman.pid("a"))), "member");
            let (state, message) = guard(Path::new(CONF), "exclusive", "partition");
            assert_eq!(state, "partly", "{message}");
            assert!(message.contains(" is a cpuset partition (auto), but not "), "{message}");
            podman.podman(&["rm", "--force", "--time=0", "a"]).succeeded();
            node.is_released("exclusive", "4-5");
            let flag = "--partition=exclusive=root";
            node.kcm(&["init", flag]).succeeded();
        }
        podman.start("a", EXCLUSIVE);
        let must_hold = |after: &str| {
            let pid = podman.pid("a");
            let cgroup = cgroup_of(pid);
            assert_eq!(partition(&cgroup), "root", "{runtime}, after {after}");
            assert_eq!(effective_cpus(&cgroup).to_string(), "4-5", "{runtime}, after {after}");
            assert_eq!(status(pid, "Cpus_allowed_list"), "4-5", "{runtime}, after {after}");
            assert!(!others_have("4"), "{runtime}, after {after}");
            cgroup
        };
        let cgroup = must_hold("its start");
        let (state, message) = guard(Path::new(CONF), "exclusive", "partition");
        let expected = if message.contains("nobody stands beside") { "partly" } else { "holds" };
        assert!(state == expected && !message.contains(", but not"), "{state}: {message}");
        let exec = podman.podman(&["exec", "a", "grep", "Cpus_allowed_list:", "/proc/self/status"]);
        assert_eq!(exec.succeeded().out.split_whitespace().last(), Some("4-5"));
        podman.podman(&["update", "--cpu-shares=700", "a"]).succeeded();
        must_hold("podman update");
        if is_systemd {
            systemctl(&["daemon-reload"]);
            must_hold("daemon-reload");
            let scope = cgroup.split('/').find(|part| part.ends_with(".scope")).unwrap();
            systemctl(&["set-property", "--runtime", scope, "CPUWeight=200"]);
            must_hold("set-property");
            systemctl(&["daemon-reexec"]);
            must_hold("daemon-reexec");
        }
        if runtime == "crun" && is_systemd {
            // One that asks for those CPUs starts, and runs on everything else.
            let flags = ["--cpuset-cpus=4-5"];
            podman.start_flagged("b", &[], &flags, &["sleep", "1000"]).succeeded();
            let b = status(podman.pid("b"), "Cpus_allowed_list");
            assert!(!b.contains('4'), "{b}");
            must_hold("another that asked for its CPUs");
            podman.podman(&["rm", "--force", "--time=0", "b"]).succeeded();
            must_hold("the end of that one");
        }
        podman.podman(&["restart", "--time=0", "a"]).succeeded();
        must_hold("a restart");
        podman.podman(&["kill", "a"]).succeeded();
        node.is_released("exclusive", "4-5");
        assert!(others_have("4-5"));
    });
}

#[test]
fn a_command_of_isolate_has_its_cpus_for_itself_alone() {
    let _alone = alone();
    let conf = kcm_tests::conf_dir::ConfDir::new(&[("p", true, &["6-7"])]);
    let isolate = Isolate::new(&conf, "p", &[]).script("echo $$; exec sleep 600");
    let isolate = match must_be_the_guest() {
        Guest::Plain => isolate,
        Guest::Systemd => isolate.under([
            "systemd-run",
            "--scope",
            "--quiet",
            "--slice=user-0.slice",
            "--unit=session-kcmalone",
        ]),
    };
    let mut isolate = isolate.start();
    let process = isolate.process(0);
    let cgroup = isolate.cgroup();
    assert_eq!(partition(&cgroup), "root");
    assert_eq!(process.status("Cpus_allowed_list"), "6-7");
    assert!(!others_have("6"));
    let stranger = run(Command::new("taskset").args(["-c", "6", "true"]));
    assert_ne!(stranger.code, Some(0), "{stranger:?}");
    isolate.kill();
    // A cgroup that kcm made itself stays until the next kcm comes along.
    kcm_tests::machine::until("others to have the CPUs again", || {
        reconcile(&conf, &[]).succeeded();
        others_have("6-7").then_some(())
    });
}
