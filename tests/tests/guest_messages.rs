//! Messages of what only a machine of one's own can show, whose remedies are executed and work.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods, missing_docs)]

use std::fs;
use std::process::Command;

use kcm_tests::conf_dir::ConfDir;
use kcm_tests::hook::HookCall;
use kcm_tests::machine::{Offline, cgroup_file, is_cgroup_v2, must_be_the_guest, sysfs_cpus};
use kcm_tests::stand_in::{Cgroup, StandIn};

#[track_caller]
fn follow(commands: &str) {
    let output = Command::new("sh").args(["-ec", commands]).output().unwrap();
    assert!(output.status.success(), "{commands:?}: {output:?}");
}

#[test]
fn a_list_whose_cpus_are_all_offline_is_named_with_what_brings_them_back() {
    must_be_the_guest();
    let cpus: Vec<u32> = sysfs_cpus("cpu/online").iter().collect();
    let [.., before_last, last] = cpus[..] else { panic!("too few CPUs") };
    let list = format!("{before_last}-{last}");
    let conf = ConfDir::new(&[("p", true, &[&list])]);
    let offline = [before_last, last].map(|cpu| Offline::take(&cpu.to_string()));
    let container = StandIn::new("offline");
    let call = HookCall::create(conf.path(), &container, "p");
    let lacking =
        format!("CPUs {list} are not to be had: write 1 into /sys/devices/system/cpu/cpu");
    let only = "only 0 of 1 CPU lists of pool p can be used here";
    let said = call.run().must_refuse(&[only, &lacking]).stderr;
    assert!(
        said.contains(&format!("skipping CPU list {list} of pool p: CPUs {list} are")),
        "{said}"
    );

    for cpu in [before_last, last] {
        let file = format!("/sys/devices/system/cpu/cpu{cpu}/online");
        assert_eq!(fs::read_to_string(&file).unwrap().trim(), "0");
        follow(&format!("echo 1 > {file}"));
    }
    call.run().must_succeed();
    assert_eq!(container.allowed_cpus(), list);
    drop(offline);
}

/// "No internal processes" of cgroup v2: the container's parent has processes of its own.
#[test]
fn a_parent_with_processes_of_its_own_is_named_with_the_commands_that_move_them() {
    must_be_the_guest();
    assert!(is_cgroup_v2());
    let first = sysfs_cpus("cpu/online").iter().next().unwrap().to_string();
    let conf = ConfDir::new(&[("p", true, &[&first])]);
    let [parent, own] = ["busy", "busy/c"].map(Cgroup::new);
    let control = cgroup_file(&parent.path(), "cgroup.subtree_control");
    fs::write(&control, "-cpuset").unwrap();
    let container = StandIn::new("nested");
    own.enter(container.pid());
    let mut others = [(); 2].map(|()| Command::new("sleep").arg("600").spawn().unwrap());
    others.iter().for_each(|other| parent.enter(other.id() as i32));

    let call = HookCall::create(conf.path(), &container, "p");
    let who = format!("2 processes ({} to {}) are in", others[0].id(), others[1].id());
    let said = call.run().must_refuse(&[control.to_str().unwrap(), &who]).stderr;
    assert_eq!(conf.tasks("p", &first), "");
    follow(said.trim().rsplit_once("below it: ").unwrap().1);

    call.run().must_succeed();
    assert_eq!((own.cpus(), container.allowed_cpus()), (first.clone(), first));
    for other in &mut others {
        other.kill().unwrap();
        other.wait().unwrap();
    }
    fs::remove_dir(cgroup_file(&parent.path(), "own")).unwrap();
    drop(container);
    drop((own, parent));
}
