//! What is killed of podman while a container has a partition. (docker has a test of its own.)

use std::path::Path;

use kcm_tests::alone::{alone, others_have, partition};
use kcm_tests::hook::HookCall;
use kcm_tests::isolate::status;
use kcm_tests::machine::{kill_and_wait, until};
use kcm_tests::node::{Node, on_a_node};
use kcm_tests::podman::Podman;
use kcm_tests::stand_in::{StandIn, new_id};

use super::engines::cgroup_of;

const EXCLUSIVE: &[&str] = &["kcm.intel.com/pool=exclusive"];

/// Fails the test unless a process has its CPUs for itself alone.
fn must_be_alone(pid: i32, cpus: &str, when: &str) {
    let allowed = status(pid, "Cpus_allowed_list");
    assert_eq!((partition(&cgroup_of(pid)).as_str(), allowed.as_str()), ("root", cpus), "{when}");
    assert!(!others_have(&cpus[..1]), "CPUs {cpus}, {when}");
}

/// The process that has the list, once there is one.
fn holder(node: &Node) -> i32 {
    until("a container to be given a list", || node.tasks("exclusive", "4-5").parse().ok())
}

#[test]
fn neither_the_end_of_conmon_nor_of_podman_costs_anybody_a_partition_or_leaves_one_behind() {
    let _alone = alone();
    on_a_node(|node| {
        node.make_pools(&[("exclusive", true, "4-5"), ("second", true, "6-7")]);
        node.kcm(&["init", "--partition=exclusive=root", "--partition=second=root"]).succeeded();
        node.kcm(&["install", "--runtime=podman"]).succeeded();
        let other = StandIn::new(&new_id("other"));
        HookCall::create(Path::new("/etc/kcm"), &other, "second").run().must_succeed();
        let podman = Podman::new(node, "crun");
        let is_released = |when: &str| {
            until(when, || {
                (node.tasks("exclusive", "4-5").is_empty() && others_have("4-5")).then_some(())
            });
            must_be_alone(other.pid(), "6-7", when);
        };

        podman.start("a", EXCLUSIVE);
        let inspect = ["inspect", "--format", "{{.State.ConmonPid}}", "a"];
        let conmon = podman.podman(&inspect).succeeded().out.trim().parse().unwrap();
        let pid = holder(node);
        kill_and_wait(conmon);
        must_be_alone(pid, "4-5", "without conmon");
        must_be_alone(other.pid(), "6-7", "without another's conmon");
        podman.podman(&["rm", "--force", "--time=0", "a"]);
        is_released("the end of a container without conmon");

        // It was not told that the container was made, and forgets it: what has been made so far waits.
        let mut begun = podman.begin("b", EXCLUSIVE);
        let pid = holder(node);
        begun.kill().unwrap();
        begun.wait().unwrap();
        until("the partition", || (partition(&cgroup_of(pid)) == "root").then_some(()));
        must_be_alone(other.pid(), "6-7", "without podman");
        podman.podman(&["rm", "--force", "--time=0", "b"]).succeeded();
        must_be_alone(pid, "4-5", "when podman has forgotten it");
        assert_ne!(podman.start_with("c", EXCLUSIVE, &["sleep", "1"]).code, Some(0));
        node.log.has(&format!("(process {pid})"));
        kill_and_wait(pid);
        podman.start("d", EXCLUSIVE);
        must_be_alone(holder(node), "4-5", "after all that");
    });
}
