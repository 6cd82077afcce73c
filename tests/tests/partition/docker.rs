//! docker's containers, whatever is done to them, and whatever of their engine is killed; under the
//! shield as without.

use kcm_core::CpuSet;
use kcm_tests::alone::{alone, aside, others_have, partition};
use kcm_tests::docker::Docker;
use kcm_tests::isolate::status;
use kcm_tests::machine::{effective_cpus, until};
use kcm_tests::node::{Node, on_a_node};

use super::engines::cgroup_of;

/// What each of the two containers has.
const CPUS: [(&str, &str); 2] = [("first", "4-5"), ("second", "6-7")];

/// A container has its CPUs for itself alone.
fn must_be_alone(pid: i32, cpus: &str, when: &str) {
    let cgroup = cgroup_of(pid);
    assert!(cgroup.starts_with("/system.slice/docker-"), "{cgroup}, {when}");
    assert_eq!(partition(&cgroup), "root", "CPUs {cpus}, {when}");
    assert_eq!(effective_cpus(&cgroup).to_string(), cpus, "{when}");
    assert_eq!(status(pid, "Cpus_allowed_list"), cpus, "{when}");
    assert!(!others_have(&cpus[..1]), "CPUs {cpus}, {when}");
}

fn both_must_be_alone(docker: &Docker<'_>, when: &str) {
    CPUS.iter().for_each(|(name, cpus)| must_be_alone(docker.pid(name), cpus, when));
}

fn is_given_back(node: &Node, pool: &str, cpus: &str) {
    until("its CPUs to be given back", || {
        (node.tasks(pool, cpus).is_empty() && others_have(cpus)).then_some(())
    });
}

/// A daemon takes long to start in a guest: it is one test.
#[test]
fn a_docker_container_keeps_its_partition_under_the_shield_and_whatever_of_its_engine_is_killed() {
    let _alone = alone();
    on_a_node(|node| {
        node.make_pools(&[("first", true, "4-5"), ("second", true, "6-7"), ("infra", false, "0")]);
        node.kcm(&["init", "--partition=first=root", "--partition=second=root"]).succeeded();
        let docker = Docker::start(node);
        docker.run("first", "first");
        must_be_alone(docker.pid("first"), "4-5", "at its start");
        one_starts_before_the_shield_and_one_under_it(node, &docker);
        a_shim_is_killed(node, &docker);
        the_daemon_is_killed(node, &docker);
        docker.remove_all();
        CPUS.iter().for_each(|(pool, cpus)| is_given_back(node, pool, cpus));
        assert_eq!((aside("/system.slice"), node.records()), (String::new(), 0));
        let status = node.kcm(&["shield", "off"]).succeeded();
        assert!(status.out.starts_with("shield: off\n"), "{status:?}");
    });
}

fn one_starts_before_the_shield_and_one_under_it(node: &Node, docker: &Docker<'_>) {
    let pools: CpuSet = "4-7".parse().unwrap();
    let is_off = |cpus: CpuSet| cpus.intersection(&pools).is_empty();
    node.kcm(&["shield", "on"]).succeeded();
    assert!(is_off(effective_cpus("/system.slice")), "system.slice is not shielded");
    must_be_alone(docker.pid("first"), "4-5", "when the shield was put on");
    docker.run("second", "second");
    both_must_be_alone(docker, "under the shield");
    let words = ["--cpu-shares=700", "--memory=200m", "--memory-swap=200m"];
    docker.docker(&[&["update"], &words[..], &["first"]].concat()).succeeded();
    both_must_be_alone(docker, "after docker update");
    let off = node.kcm(&["shield", "off"]);
    assert!(off.out.starts_with("shield: off, but not all is as it was before"), "{off:?}");
    assert!(off.lines("ERROR")[0].contains("CPUs 6-7 stay out of it"), "{off:?}");
    both_must_be_alone(docker, "when the shield was taken off");
}

/// containerd then ends the container.
fn a_shim_is_killed(node: &Node, docker: &Docker<'_>) {
    docker.kill_shim("first");
    is_given_back(node, "first", "4-5");
    must_be_alone(docker.pid("second"), "6-7", "at the end of another's shim");
}

/// The next daemon ends all containers that it finds.
fn the_daemon_is_killed(node: &Node, docker: &Docker<'_>) {
    let second = docker.pid("second");
    docker.kill_daemon(|| must_be_alone(second, "6-7", "without a daemon"));
    is_given_back(node, "second", "6-7");
    docker.docker(&["start", "first", "second"]).succeeded();
    both_must_be_alone(docker, "after the end of shim and daemon, and another start");
}
