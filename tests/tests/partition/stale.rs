//! What is set aside for nobody refuses nobody; who has a claim is named.

use std::fs;
use std::process::Command;

use kcm_tests::alone::{alone, aside, others_have, partition};
use kcm_tests::machine::{cgroup_file, make_cgroup, remove_cgroup};
use kcm_tests::runtime::with_every_runtime;

use super::{Somebody, say};

#[test]
fn cpus_that_another_branch_sets_aside_for_nobody_are_taken_out_of_the_way() {
    let _alone = alone();
    with_every_runtime(&[("dataplane", true, &["2-3"])], |scene| {
        say(scene, "dataplane", "root");
        let stale = format!("/kcmstale{}", std::process::id());
        make_cgroup(&stale, "");
        fs::write(cgroup_file(&stale, "cgroup.subtree_control"), "+cpuset").unwrap();
        make_cgroup(&format!("{stale}/below"), "");
        for (partitioned, left) in [(false, "2-9"), (true, "2-3,8")] {
            fs::write(cgroup_file(&stale, "cpuset.cpus.exclusive"), left).unwrap();
            if partitioned {
                let below = format!("{stale}/below");
                fs::write(cgroup_file(&below, "cpuset.cpus.exclusive"), "2-3").unwrap();
                fs::write(cgroup_file(&below, "cpuset.cpus.partition"), "root").unwrap();
                assert_eq!(partition(&below), "root");
                assert!(!others_have("2-3"));
            }
            let container = scene.container("a").pool("dataplane").run();
            assert_eq!(
                (container.cpus(), partition(&container.cgroup)),
                ("2-3".into(), "root".into())
            );
            assert_eq!(aside(&stale), if partitioned { "8" } else { "4-9" });
            container.delete();
        }
        // A plain cpuset needs the way clear, too.
        say(scene, "dataplane", "none");
        let below = format!("{stale}/below");
        fs::write(cgroup_file(&stale, "cpuset.cpus.exclusive"), "2-3").unwrap();
        fs::write(cgroup_file(&below, "cpuset.cpus.exclusive"), "2-3").unwrap();
        fs::write(cgroup_file(&below, "cpuset.cpus.partition"), "root").unwrap();
        let container = scene.container("b").pool("dataplane").run();
        assert_eq!(
            (container.cpus(), partition(&container.cgroup)),
            ("2-3".into(), "member".into())
        );
        container.delete();
        remove_cgroup(&stale);
    });
}

#[test]
fn somebody_who_was_given_the_cpus_before_is_named_and_the_container_is_pinned_or_refused() {
    let _alone = alone();
    with_every_runtime(&[("dataplane", true, &["2-3"])], |scene| {
        say(scene, "dataplane", "root");
        let other = format!("/kcmother{}", std::process::id());
        make_cgroup(&other, "3");
        let somebody = Somebody::in_cgroup(&other);
        let container = scene.container("a").pool("dataplane").run();
        assert_eq!(
            (container.cpus(), partition(&container.cgroup)),
            ("2-3".into(), "member".into())
        );
        scene.logged("others may run on CPUs 2-3 of a");
        scene.logged(&format!("the cgroup {other} was given CPUs 3"));
        assert_eq!(aside(&scene.parent_cgroup()), "");
        container.delete();
        say(scene, "dataplane", "isolated required");
        let message = scene.container("b").pool("dataplane").refused();
        assert!(
            message.contains("which its pool requires") && message.contains(&other),
            "{message}"
        );
        assert_eq!(scene.conf.tasks("dataplane", "2-3"), "");
        drop(somebody);
        remove_cgroup(&other);
        let container = scene.container("c").pool("dataplane").run();
        assert_eq!(partition(&container.cgroup), "isolated");
        // Whoever asks for them while they are held starts, and gets something else.
        make_cgroup(&other, "2-3");
        let somebody = Somebody::in_cgroup(&other);
        assert_eq!(partition(&container.cgroup), "isolated");
        drop(somebody);
        remove_cgroup(&other);
    });
}

#[test]
fn two_hooks_at_once_do_not_break_each_others() {
    let _alone = alone();
    with_every_runtime(&[("dataplane", true, &["2", "3", "4", "5", "6", "7"])], |scene| {
        say(scene, "dataplane", "root");
        for _ in 0..3 {
            let starting: Vec<_> = (0..6)
                .map(|n| scene.container(&format!("c{n}")).pool("dataplane").spawn())
                .collect();
            let mut containers = Vec::new();
            for mut starting in starting {
                assert!(starting.wait().success(), "{}", starting.container.failure());
                containers.push(starting.container);
            }
            let mut cpus: Vec<String> = containers.iter().map(|c| c.cpus()).collect();
            for container in containers {
                assert_eq!(partition(&container.cgroup), "root");
                container.delete();
            }
            cpus.sort();
            assert_eq!(cpus, ["2", "3", "4", "5", "6", "7"]);
            assert_eq!(aside(&scene.parent_cgroup()), "");
        }
    });
    let left = Command::new("grep")
        .args(["-r", "-h", ".", "/sys/fs/cgroup", "--include=cpuset.cpus.exclusive"])
        .output();
    assert_eq!(String::from_utf8(left.unwrap().stdout).unwrap(), "");
}
