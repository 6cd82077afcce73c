//! Isolated CPUs: where they are read from, and what is said of them.

use super::machine::{MANUAL, Machine};
use super::tree::pools;

const ALL: &str = "0,8 1,9 2,10 3,11 | 4,12 | 5-7,13-15";
const ISOLATED: &str = "3,11 4,12 5,13 6,14 | 7,15 | 0-2,8-10";

#[test]
fn isolcpus_is_read_in_every_form_that_the_kernel_takes() {
    for (cmdline, expected) in [
        ("isolcpus=3-7,11-15", ISOLATED),
        ("isolcpus=3,4,5,6,7,11,12,13,14,15", ISOLATED),
        ("root=/dev/sda1 ro isolcpus=3-7,11-15 quiet", ISOLATED),
        ("isolcpus=domain,3-7,11-15", ISOLATED),
        ("isolcpus=nohz,domain,3-7,11-15", ISOLATED),
        ("isolcpus=nohz,domain,managed_irq,3-7,11-15", ISOLATED),
        ("isolcpus=managed_irq,domain,nohz,3-7,11-15", ISOLATED),
        ("isolcpus=3-15:5/8", ISOLATED),
        ("isolcpus=3-7,11-N", ISOLATED),
        ("isolcpus=\"3-7,11-15\"", ISOLATED),
        ("\"isolcpus=3-7, 11-15\" quiet", ISOLATED),
        // The first list of a flag stays.
        ("isolcpus=3-7,11-15 isolcpus=3-7,11-15", ISOLATED),
        ("isolcpus=3-7,11-15 isolcpus=0", ISOLATED),
        ("isolcpus=nohz,3-7,11-15 isolcpus=domain,3-7,11-15", ISOLATED),
        // These isolate nothing from the scheduler.
        ("", ALL),
        ("isolcpus=nohz,3-7,11-15", ALL),
        ("isolcpus=managed_irq,3-7,11-15", ALL),
        ("nohz_full=3-7,11-15", ALL),
        ("quiet -- isolcpus=3-7,11-15", ALL),
        ("my.isolcpus=3-7,11-15", ALL),
    ] {
        let machine = Machine::new(MANUAL).with_cmdline(cmdline);
        let init = machine.init(4, 1).succeeded();
        assert_eq!(pools(&machine.conf_dir()), expected, "{cmdline}");
        let says = init.err.contains("INFO No physical core is isolated");
        assert_eq!(says, expected == ALL, "{cmdline}: {init:?}");
    }
}

#[test]
fn without_isolcpus_sysfs_says_what_is_isolated() {
    let machine = Machine::new(MANUAL).with_isolated_in_sysfs("3-7,11-15");
    machine.init(4, 1).succeeded();
    assert_eq!(pools(&machine.conf_dir()), ISOLATED);
    // The command line is asked first.
    let machine =
        Machine::new(MANUAL).with_isolated_in_sysfs("0-1,8-9").with_cmdline("isolcpus=3-7,11-15");
    machine.init(4, 1).succeeded();
    assert_eq!(pools(&machine.conf_dir()), ISOLATED);
}

#[test]
fn an_isolcpus_that_the_kernel_drops_is_an_error_that_names_the_part() {
    for (cmdline, part) in [
        ("isolcpus=3-x", "'3-x'"),
        ("isolcpus=7-3", "'7-3'"),
        ("isolcpus=3-7,16", "'16'"),
        ("isolcpus=all", "'all'"),
    ] {
        let machine = Machine::new(MANUAL).with_cmdline(cmdline);
        machine.init(4, 1).failed_with(&["proc/cmdline", "isolcpus", part]);
        assert!(!machine.path("etc").exists(), "{cmdline}");
    }
}

#[test]
fn a_partially_isolated_core_is_not_isolated_and_named() {
    let machine = Machine::new(MANUAL).with_cmdline("isolcpus=0-4,8-11");
    let init = machine.init(4, 0).succeeded();
    let expected = "0,8 1,9 2,10 3,11 |  | 4-7,12-15";
    assert_eq!(pools(&machine.conf_dir()), expected);
    let [warning] = init.lines("WARNING")[..] else { panic!("{init:?}") };
    assert!(warning.starts_with("Physical core 4 is partially isolated: "));
    assert!(warning.contains("add 12 to isolcpus"), "{warning}");
}

#[test]
fn isolated_cores_that_nobody_asked_for_are_in_no_pool_and_named() {
    let machine = Machine::new(MANUAL).with_cmdline("isolcpus=0-4,8-12");
    let init = machine.init(2, 1).succeeded();
    let expected = "0,8 1,9 | 2,10 | 5-7,13-15";
    assert_eq!(pools(&machine.conf_dir()), expected);
    let warnings = init.lines("WARNING");
    let not_all = "Not all isolated cores will be used by data and control plane. ";
    assert!(warnings[0].starts_with(not_all), "{warnings:?}");
    assert!(warnings[0].contains("CPUs 3-4,11-12 are in no pool"));
}
