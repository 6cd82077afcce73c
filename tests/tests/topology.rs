//! The machine as kcm sees it is the machine as `lscpu` prints it: on captured and made-up sysfs
//! trees, and on the machine that runs the tests. util-linux's lscpu is the oracle; it must be
//! installed.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods, missing_docs)]

#[path = "topology/machines.rs"]
mod machines;

use std::fs;
use std::path::Path;
use std::process::Command;

use kcm_core::CpuSet;
use kcm_core::host::sysfs;
use kcm_core::topology::kernel_cmdline;
use machines::{Files, machines, set};

/// CPU, core, socket, NUMA node.
type Row = (u32, u32, u32, Option<u32>);

const CAPTURED: [(&str, &str); 2] = [
    ("two-sockets-smt-offline", include_str!("../fixtures/topology/two-sockets-smt-offline.txt")),
    ("two-sockets-four-dies", include_str!("../fixtures/topology/two-sockets-four-dies.txt")),
];

/// Writes the tree, and the /proc/cpuinfo without which lscpu prints blanks.
fn write_tree(root: &Path, files: &Files) {
    for (path, text) in files {
        let path = root.join("sys/devices/system").join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, format!("{text}\n")).unwrap();
    }
    let online = set(&files["cpu/online"]);
    let cpuinfo = online.iter().map(|cpu| {
        format!(
            "processor\t: {cpu}\nvendor_id\t: GenuineIntel\ncpu family\t: 6\nmodel\t\t: 85\n\
             model name\t: Made up\nstepping\t: 4\nflags\t\t: fpu lm\n\n"
        )
    });
    fs::create_dir_all(root.join("proc")).unwrap();
    fs::write(root.join("proc/cpuinfo"), cpuinfo.collect::<String>()).unwrap();
}

/// What lscpu prints, of the machine or of a tree. A blank where a number should be is a failure:
/// the oracle knows nothing then.
fn lscpu(sys_root: Option<&Path>, has_nodes: bool) -> Vec<Row> {
    let mut command = Command::new("lscpu");
    command.args(sys_root.map(|root| format!("--sysroot={}", root.display())));
    let output = command.arg("-p=CPU,CORE,SOCKET,NODE").env("LC_ALL", "C").output();
    let output = output.expect("lscpu of util-linux is installed");
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    let rows = text.lines().filter(|line| !line.starts_with('#')).map(|line| {
        let number = |column: &str| column.parse().unwrap_or_else(|_| panic!("a blank: {line:?}"));
        match line.split(',').collect::<Vec<_>>()[..] {
            [cpu, core, socket, ""] if !has_nodes => {
                (number(cpu), number(core), number(socket), None)
            }
            [cpu, core, socket, node] => {
                (number(cpu), number(core), number(socket), Some(number(node)))
            }
            _ => panic!("not four columns: {line:?}"),
        }
    });
    rows.collect()
}

fn kcm(sys_root: &Path) -> Vec<Row> {
    let topology = sysfs::read_topology(sys_root, &CpuSet::new()).unwrap();
    topology.cpus.iter().map(|cpu| (cpu.id, cpu.core, cpu.socket, cpu.node)).collect()
}

fn assert_equals_lscpu(name: &str, files: &Files) {
    let root = tempfile::tempdir().unwrap();
    write_tree(root.path(), files);
    let has_nodes = files.keys().any(|path| path.starts_with("node/"));
    let rows = lscpu(Some(root.path()), has_nodes);
    assert_eq!(kcm(root.path()), rows, "{name}");
    assert_eq!(rows.len(), set(&files["cpu/online"]).len(), "{name}: lscpu saw other CPUs");
}

#[test]
fn made_up_machines_equal_lscpu() {
    for machine in machines() {
        assert_equals_lscpu(machine.name, &machine.files());
    }
}

#[test]
fn captured_machines_equal_lscpu() {
    for (name, text) in CAPTURED {
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        let files = lines.map(|line| line.split_once(':').unwrap());
        let files = files.map(|(path, text)| (path.to_owned(), text.trim().to_owned()));
        assert_equals_lscpu(name, &files.collect());
    }
}

#[test]
fn this_machine_equals_lscpu() {
    let has_nodes = Path::new("/sys/devices/system/node/node0").exists();
    assert_eq!(kcm(Path::new("/")), lscpu(None, has_nodes));
}

/// The kernel is the oracle for its own command line. Says nothing on a machine without
/// `isolcpus=`; CI's guest has it in several forms.
#[test]
fn this_machines_command_line_isolates_what_sysfs_says() {
    let root = Path::new("/");
    let cmdline = fs::read_to_string("/proc/cmdline").unwrap();
    let isolated = sysfs::read_isolated(root).unwrap();
    let last = sysfs::last_possible_cpu(root).unwrap();
    match kernel_cmdline::isolcpus(&cmdline, last) {
        Ok(Some(cpus)) => assert_eq!(cpus, isolated, "{cmdline}"),
        // The kernel dropped the option too.
        Err(error) => assert!(isolated.is_empty(), "{error}: {cmdline}"),
        Ok(None) => {}
    }
}
