//! podman's containers, whatever is done to them and beside them.

use std::process::Command;

use kcm_tests::isolate::{Isolate, status};
use kcm_tests::kcm::run;
use kcm_tests::machine::{Guest, effective_cpus, must_be_the_guest};
use kcm_tests::node::on_a_node;
use kcm_tests::podman::Podman;
use kcm_tests::runtime::systemctl;

use super::{alone, others_have, partition};

const EXCLUSIVE: &[&str] = &["kcm.intel.com/pool=exclusive"];

fn cgroup_of(pid: i32) -> String {
    let text = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    text.trim().strip_prefix("0::").unwrap().to_owned()
}

#[test]
fn a_podman_container_keeps_its_partition_until_its_end_and_has_one_again_after_a_restart() {
    let _alone = alone();
    for runtime in ["runc", "crun"] {
        on_a_node(|node| {
            node.make_pools(&[("exclusive", true, "4-5"), ("infra", false, "0")]);
            node.kcm(&["install", "--runtime=podman"]).succeeded();
            let podman = Podman::new(node, runtime);
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
            let exec =
                podman.podman(&["exec", "a", "grep", "Cpus_allowed_list:", "/proc/self/status"]);
            assert_eq!(exec.succeeded().out.split_whitespace().last(), Some("4-5"));
            podman.podman(&["update", "--cpu-shares=700", "a"]).succeeded();
            must_hold("podman update");
            if must_be_the_guest() == Guest::Systemd {
                systemctl(&["daemon-reload"]);
                must_hold("daemon-reload");
                let scope = cgroup.split('/').find(|part| part.ends_with(".scope")).unwrap();
                systemctl(&["set-property", "--runtime", scope, "CPUWeight=200"]);
                must_hold("set-property");
                systemctl(&["daemon-reexec"]);
                must_hold("daemon-reexec");
            }
            // One that asks for those CPUs starts, and does not get them. In the same slice it takes
            // runc's partition away, which is a scope of that slice; crun's is one level below.
            podman.start_flagged("b", &[], &["--cpuset-cpus=4-5"], &["sleep", "1000"]).succeeded();
            if runtime == "crun" {
                let b = status(podman.pid("b"), "Cpus_allowed_list");
                assert!(!b.contains('4'), "{b}");
                must_hold("another that asked for its CPUs");
            } else {
                assert_eq!(partition(&cgroup), "root invalid");
                let b = cgroup_of(podman.pid("b"));
                let found = node.kcm(&["reconcile", "--repair"]).succeeded();
                let warnings = found.lines("WARNING");
                let names_b = |line: &&str| line.contains(&format!("{b} was given CPUs 4-5"));
                assert!(warnings.iter().any(names_b), "{warnings:?}");
            }
            podman.podman(&["rm", "--force", "--time=0", "b"]).succeeded();
            node.kcm(&["reconcile", "--repair"]).succeeded();
            must_hold("the end of the one that asked for its CPUs");
            podman.podman(&["restart", "--time=0", "a"]).succeeded();
            must_hold("a restart");
            podman.podman(&["kill", "a"]).succeeded();
            node.is_released("exclusive", "4-5");
            assert!(others_have("4-5"));
        });
    }
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
    kcm_tests::machine::until("others to have the CPUs again", || others_have("6-7").then_some(()));
}
