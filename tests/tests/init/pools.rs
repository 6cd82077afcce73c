//! Which cores get into which pool, and how it lies on disk.

use super::machine::{MANUAL, Machine};
use super::tree::{pools, tree};
use kcm_tests::kcm::{kcm, run};

/// The whole directory that the operator manual's machine gets.
pub(crate) const MANUALS_TREE: [&str; 22] = [
    "0755 ./",
    "0755 allocations/",
    "0600 lock=",
    "0755 pools/",
    "0755 pools/controlplane/",
    "0755 pools/controlplane/4,12/",
    "0644 pools/controlplane/4,12/tasks=",
    "0644 pools/controlplane/exclusive=0",
    "0755 pools/dataplane/",
    "0755 pools/dataplane/0,8/",
    "0644 pools/dataplane/0,8/tasks=",
    "0755 pools/dataplane/1,9/",
    "0644 pools/dataplane/1,9/tasks=",
    "0755 pools/dataplane/2,10/",
    "0644 pools/dataplane/2,10/tasks=",
    "0755 pools/dataplane/3,11/",
    "0644 pools/dataplane/3,11/tasks=",
    "0644 pools/dataplane/exclusive=1",
    "0755 pools/infra/",
    "0755 pools/infra/5-7,13-15/",
    "0644 pools/infra/5-7,13-15/tasks=",
    "0644 pools/infra/exclusive=0",
];

#[test]
fn the_operator_manuals_machine_gets_the_manuals_pools() {
    let machine = Machine::new(MANUAL).with_cmdline("isolcpus=0-4,8-12");
    let init = machine.kcm(&["init"]).succeeded();
    assert_eq!(tree(&machine.conf_dir()), MANUALS_TREE);
    assert_eq!(init.out, "", "the log goes to standard error");
    let expected = [
        "Adding cpu list 0,8 to dataplane pool.",
        "Adding cpu list 1,9 to dataplane pool.",
        "Adding cpu list 2,10 to dataplane pool.",
        "Adding cpu list 3,11 to dataplane pool.",
        "Adding cpu list 4,12 to controlplane pool.",
        "Adding cpu list 5-7,13-15 to infra pool.",
    ];
    assert_eq!(init.lines("INFO")[..6], expected);
    let [warning] = init.lines("WARNING")[..] else { panic!("{init:?}") };
    assert!(warning.contains("controlplane has the isolated CPUs 4,12"));
}

#[test]
fn the_modes_are_the_same_whatever_the_umask() {
    for umask in ["000", "022", "077", "0777"] {
        let machine = Machine::new(MANUAL).with_cmdline("isolcpus=0-4,8-12");
        let mut shell = std::process::Command::new("sh");
        shell.args(["-c", "umask $0; exec $1 init", umask]);
        shell.arg(kcm().get_program());
        run(machine.show_to(&mut shell)).succeeded();
        assert_eq!(tree(&machine.conf_dir()), MANUALS_TREE, "umask {umask}");
        let parent = &tree(&machine.path("etc"))[0];
        assert_eq!(parent, "0755 ./", "the parent that was made, umask {umask}");
    }
}

#[test]
fn machines_of_any_shape_are_divided_in_socket_then_core_order() {
    let no_smt = "1 5 9 13; 0 4 8 12; 3 7 11 15; 2 6 10 14";
    for (sockets, offline, isolcpus, cores, expected) in [
        // One socket, two, four; siblings adjacent, far apart, none.
        ("0-1 2-3 4-5", "", "", (1, 1), "0-1 | 2-3 | 4-5"),
        ("0,4 1,5; 2,6 3,7", "", "", (2, 1), "0,4 1,5 | 2,6 | 3,7"),
        ("0-1 2-3; 4-5 6-7", "", "2-5", (1, 1), "2-3 | 4-5 | 0-1,6-7"),
        ("0,4 2,6; 1,5 3,7", "", "", (2, 1), "0,4 2,6 | 1,5 | 3,7"),
        (no_smt, "", "", (6, 2), "0 1 4 5 8 12 | 9,13 | 2-3,6-7,10-11,14-15"),
        // Offline CPUs are in no pool, and a core is what is left of it, in the place of
        // its first CPU.
        (MANUAL, "1,3,8,11", "", (3, 1), "0 2,10 4,12 | 5,13 | 6-7,9,14-15"),
        (MANUAL, "12", "4,12", (1, 0), "4 |  | 0-3,5-11,13-15"),
        // Zero cores make a pool without CPU lists.
        (MANUAL, "", "", (0, 1), " | 0,8 | 1-7,9-15"),
        (MANUAL, "", "", (4, 0), "0,8 1,9 2,10 3,11 |  | 4-7,12-15"),
        (MANUAL, "", "", (0, 0), " |  | 0-15"),
        (MANUAL, "", "3,11", (0, 0), " |  | 0-2,4-10,12-15"),
    ] {
        let machine = Machine::with_offline(sockets, offline);
        let machine = match isolcpus {
            "" => machine,
            _ => machine.with_cmdline(&format!("isolcpus={isolcpus}")),
        };
        machine.init(cores.0, cores.1).succeeded();
        let made = pools(&machine.conf_dir());
        assert_eq!(made, expected, "{sockets}, {offline} offline, isolcpus={isolcpus}");
    }
}

#[test]
fn a_thousand_cpus_make_a_list_for_each_core() {
    let cores: Vec<String> = (0..512).map(|n| format!("{n},{}", n + 512)).collect();
    let sockets: Vec<String> = cores.chunks(128).map(|socket| socket.join(" ")).collect();
    let machine = Machine::new(&sockets.join("; "));
    machine.init(500, 6).succeeded();
    let expected = format!("{} | 500-505,1012-1017 | 506-511,1018-1023", cores[..500].join(" "));
    assert_eq!(pools(&machine.conf_dir()), expected);
    // Every second core: a list with no ranges in it, too long for a folder's name.
    let odd = cores.iter().skip(1).step_by(2).cloned().collect::<Vec<_>>().join(",");
    let machine = Machine::new(&sockets.join("; ")).with_cmdline(&format!("isolcpus={odd}"));
    machine.init(256, 0).failed_with(&["infra", "255"]);
    assert!(!machine.path("etc").exists());
}

#[test]
fn too_few_cores_are_refused_and_nothing_is_written() {
    for (isolcpus, cores, message) in [
        ("", (9, 1), "9 cores requested for dataplane. Only 8 cores available"),
        ("", (7, 2), "2 cores requested for controlplane. Only 1 cores available"),
        ("", (7, 1), "No more free cores left to assign for infra"),
        (
            "isolcpus=0-3,8-11",
            (4, 1),
            "Cannot use isolated cores for data plane and control plane cores: not enough \
             isolated cores 4 compared to requested 5",
        ),
    ] {
        let machine = Machine::new(MANUAL).with_cmdline(isolcpus);
        machine.init(cores.0, cores.1).failed_with(&[message]);
        assert!(!machine.path("etc").exists());
    }
}
