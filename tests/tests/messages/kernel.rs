//! What the kernel does not have, or has elsewhere; in mounts of the test's own.

use std::fs;
use std::path::Path;

use kcm_tests::conf_dir::ConfDir;
use kcm_tests::hook::HookCall;
use kcm_tests::machine::{guest, is_cgroup_v2, skip, together, two_cpus, until, with_own_mounts};
use kcm_tests::stand_in::StandIn;

use crate::{follow, part};

#[test]
fn a_cpuset_hierarchy_that_is_mounted_elsewhere_is_named_with_what_puts_it_right() {
    let is_v2 = is_cgroup_v2();
    if is_v2 && guest().is_none() {
        return skip("this takes the cpuset controller from cgroup v2, which the guest alone may");
    }
    with_own_mounts(|| {
        let [first, _] = two_cpus();
        let conf = ConfDir::new(&[("p", true, &[&first])]);
        let container = StandIn::new("elsewhere");
        let call = HookCall::create(conf.path(), &container, "p");
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join("cpuset");
        fs::create_dir(&place).unwrap();
        let place = place.to_str().unwrap();
        let before = if is_v2 {
            // As somebody's old tool does on a host of cgroup v2.
            let parent = container.cgroup().path();
            let parent = Path::new(&parent).parent().unwrap();
            let tests = Path::new("/sys/fs/cgroup").join(parent.strip_prefix("/").unwrap());
            for above in [tests.as_path(), Path::new("/sys/fs/cgroup")] {
                fs::write(above.join("cgroup.subtree_control"), "-cpuset").unwrap();
            }
            until("cgroup v1 to get the cpuset controller", || {
                let mounted = std::process::Command::new("mount")
                    .args(["-t", "cgroup", "-o", "cpuset", "cpuset", place])
                    .output();
                mounted.unwrap().status.success().then_some(())
            });
            "then: "
        } else {
            follow(&format!(
                "mount --bind /sys/fs/cgroup/cpuset {place}; umount /sys/fs/cgroup/cpuset"
            ));
            "have it there, too: "
        };

        let said =
            call.run().must_refuse(&["/sys/fs/cgroup", &format!("mounted on {place}")]).stderr;
        follow(part(&said, before, "\n"));
        if is_v2 {
            until("cgroup v2 to have the controller again", || {
                let text = fs::read_to_string("/sys/fs/cgroup/cgroup.controllers").unwrap();
                text.contains("cpuset").then_some(())
            });
        }
        call.run().must_succeed();
        assert_eq!(container.allowed_cpus(), first);
        if !is_v2 {
            follow(&format!("umount {place}"));
        }
    });
}

/// The kernel's own folder of nodes, in a view in which the second CPU's node has no memory.
#[test]
fn local_memory_of_a_node_that_has_none_is_refused_with_the_file_that_asks_for_it() {
    with_own_mounts(|| {
        let nodes = Path::new("/sys/devices/system/node");
        if !nodes.exists() {
            return skip("this kernel shows no NUMA nodes");
        }
        let [first, second] = two_cpus();
        let both = together([&first, &second]);
        follow(&format!("mount -t tmpfs nodes {}", nodes.display()));
        for (node, cpu) in [("node0", &first), ("node1", &second)] {
            fs::create_dir(nodes.join(node)).unwrap();
            fs::write(nodes.join(node).join("cpulist"), cpu).unwrap();
        }
        fs::write(nodes.join("has_memory"), "0\n").unwrap();
        let conf = ConfDir::new(&[("far", true, &[&second]), ("both", true, &[&both])]);
        for pool in ["far", "both"] {
            fs::write(conf.path().join("pools").join(pool).join("mems"), "local\n").unwrap();
        }
        let container = StandIn::new("far");
        let call = HookCall::create(conf.path(), &container, "far");
        let cause = format!("node 1 of CPUs {second} has none");
        let said = call.run().must_refuse(&["pool far", &cause, "remove that file"]).stderr;
        assert_eq!(conf.tasks("far", &second), "");

        // Both: node 0 has some.
        let other = StandIn::new("both");
        HookCall::create(conf.path(), &other, "both").run().must_succeed();
        let mems = kcm_tests::machine::cgroup_file(&other.cgroup().path(), "cpuset.mems");
        assert_eq!(fs::read_to_string(mems).unwrap().trim(), "0");

        fs::remove_file(part(&said, "NUMA nodes of its CPUs (", " says local")).unwrap();
        call.run().must_succeed();
        assert_eq!(container.allowed_cpus(), second);
    });
}
