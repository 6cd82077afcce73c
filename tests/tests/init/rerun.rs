//! `kcm init` on a directory that is initialised already.

use std::fs;

use super::machine::{MANUAL, Machine};
use super::tree::tree;

fn initialised(sockets: &str, dataplane: usize, controlplane: usize) -> Machine {
    let machine = Machine::new(sockets);
    machine.init(dataplane, controlplane).succeeded();
    machine
}

#[test]
fn asking_for_what_is_there_changes_nothing() {
    for (dataplane, controlplane) in [(4, 1), (2, 3), (0, 1), (1, 0), (0, 0)] {
        let machine = initialised(MANUAL, dataplane, controlplane);
        let tasks = fs::read_dir(machine.conf_dir().join("pools/infra")).unwrap();
        let list = tasks.map(|e| e.unwrap().path()).find(|p| p.is_dir());
        fs::write(list.unwrap().join("tasks"), "1,2").unwrap();
        let before = tree(&machine.conf_dir());
        let again = machine.init(dataplane, controlplane).succeeded();
        assert_eq!(again.lines("INFO").len(), 1, "{again:?}");
        assert!(again.err.contains("initialised already"), "{again:?}");
        assert_eq!(tree(&machine.conf_dir()), before);
    }
}

#[test]
fn asking_for_something_else_is_an_error_and_changes_nothing() {
    let machine = initialised(MANUAL, 4, 2);
    let before = tree(&machine.conf_dir());
    for (dataplane, controlplane, messages) in [
        (3, 2, &["4 dataplane cores (3 requested)"][..]),
        (5, 2, &["4 dataplane cores (5 requested)"]),
        (4, 1, &["2 controlplane cores (1 requested)"]),
        (4, 3, &["2 controlplane cores (3 requested)"]),
        (0, 0, &["4 dataplane cores (0 requested)", "2 controlplane cores (0 requested)"]),
        // More than the machine has.
        (400, 2, &["4 dataplane cores (400 requested)"]),
    ] {
        machine.init(dataplane, controlplane).failed_with(messages);
        assert_eq!(tree(&machine.conf_dir()), before);
    }
}

#[test]
fn controlplane_counts_cores_not_cpus() {
    for sockets in [MANUAL, "0 1 2 3 4 5", "0-3 4-7 8-11 12-15 16-19 20-23"] {
        let machine = initialised(sockets, 2, 3);
        machine.init(2, 3).succeeded();
        machine.init(2, 6).failed_with(&["3 controlplane cores (6 requested)"]);
    }
}

#[test]
fn a_directory_of_the_original_is_compared_like_ours() {
    let machine = Machine::new(MANUAL);
    for (path, text) in [
        ("lock", ""),
        ("pools/dataplane/exclusive", "1"),
        ("pools/dataplane/4,12/tasks", "2000"),
        ("pools/dataplane/5,13/tasks", "2001"),
        ("pools/controlplane/exclusive", "0"),
        ("pools/controlplane/2,10,3,11/tasks", ""),
        ("pools/infra/exclusive", "0"),
        ("pools/infra/0,8,1,9,6,14,7,15/tasks", "3000,3001"),
    ] {
        let path = machine.conf_dir().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    let before = tree(&machine.conf_dir());
    machine.init(2, 2).succeeded();
    machine.init(2, 1).failed_with(&["2 controlplane cores (1 requested)"]);
    assert_eq!(tree(&machine.conf_dir()), before);
}

#[test]
fn cores_that_went_offline_meanwhile_are_no_difference() {
    let machine = initialised(MANUAL, 2, 2);
    let half = Machine::with_offline(MANUAL, "0,2,10,11");
    fs::create_dir(half.path("etc")).unwrap();
    fs::rename(machine.conf_dir(), half.conf_dir()).unwrap();
    half.init(2, 2).succeeded();
    half.init(2, 5).failed_with(&["1 controlplane cores (5 requested)"]);
}

#[test]
fn the_command_line_of_the_kernel_does_not_matter_any_more() {
    let machine = initialised(MANUAL, 4, 1).with_cmdline("isolcpus=x");
    machine.init(4, 1).succeeded();
}

#[test]
fn a_directory_without_inits_pools_is_an_error_that_names_those_it_has() {
    let machine = initialised(MANUAL, 4, 1);
    let pools = machine.conf_dir().join("pools");
    fs::rename(pools.join("infra"), pools.join("gpu")).unwrap();
    let before = tree(&machine.conf_dir());
    let path = pools.to_str().unwrap().to_owned();
    machine.init(4, 1).failed_with(&[&path, "no pool infra", "remove"]);
    assert_eq!(tree(&machine.conf_dir()), before);
    // What a failed init of the original leaves behind.
    fs::remove_dir_all(&pools).unwrap();
    fs::create_dir(&pools).unwrap();
    machine.init(4, 1).failed_with(&[&path, "no pool dataplane", "remove"]);
}

#[test]
fn what_is_no_cpu_list_is_not_counted_and_named() {
    let machine = initialised(MANUAL, 4, 1);
    fs::create_dir(machine.conf_dir().join("pools/dataplane/notes")).unwrap();
    let again = machine.init(4, 1).succeeded();
    let [warning] = again.lines("WARNING")[..] else { panic!("{again:?}") };
    assert!(warning.contains("pools/dataplane/notes"), "{warning}");
}
