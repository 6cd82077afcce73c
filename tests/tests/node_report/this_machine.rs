//! The machine that runs the tests, whatever it is; lscpu of util-linux is the oracle for its
//! cores, the kernel for what is isolated.

use std::collections::BTreeMap;
use std::process::Command;

use kcm_tests::kcm::{bare, kcm, run};
use kcm_tests::machine::sysfs_cpus;
use serde_json::Value;

use super::{errors, parse};

/// Socket → core → CPU → whether it is isolated.
type Sockets = BTreeMap<u64, BTreeMap<u64, BTreeMap<u64, bool>>>;

fn lscpu() -> Sockets {
    let mut lscpu = Command::new("lscpu");
    bare(&mut lscpu);
    let lines = run(lscpu.arg("-p=CPU,CORE,SOCKET")).succeeded().out;
    let isolated = sysfs_cpus("cpu/isolated");
    let mut sockets = Sockets::new();
    for line in lines.lines().filter(|line| !line.starts_with('#')) {
        let numbers: Vec<u32> = line.split(',').map(|word| word.parse().unwrap()).collect();
        let [cpu, core, socket] = numbers[..] else { panic!("{line:?}") };
        let cores = sockets.entry(socket.into()).or_default();
        cores.entry(core.into()).or_default().insert(cpu.into(), isolated.contains(cpu));
    }
    sockets
}

fn id(object: &Value) -> u64 {
    object["id"].as_u64().unwrap()
}

/// The same of a report. Fails the test where ids are out of order, or come twice.
fn reported(report: &Value) -> Sockets {
    fn numbered<T>(objects: &Value, inner: impl Fn(&Value) -> T) -> BTreeMap<u64, T> {
        let objects = objects.as_array().unwrap();
        let ids: Vec<u64> = objects.iter().map(id).collect();
        assert!(ids.is_sorted_by(|a, b| a < b), "{ids:?}");
        objects.iter().map(|object| (id(object), inner(object))).collect()
    }
    let sockets = report["topology"]["sockets"].as_object().unwrap();
    let sockets = sockets.iter().map(|(key, socket)| {
        assert_eq!(*key, id(socket).to_string());
        let isolated = |cpu: &Value| cpu["isolated"].as_bool().unwrap();
        (id(socket), numbered(&socket["cores"], |core| numbered(&core["cpus"], isolated)))
    });
    sockets.collect()
}

#[test]
fn this_machine_is_reported_as_lscpu_prints_it() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = kcm();
    command.arg("node-report").arg("--conf-dir").arg(folder.path().join("absent"));
    let report = parse(&run(&mut command).succeeded());
    assert_eq!(errors(&report).len(), 1);
    assert_eq!(reported(&report), lscpu());
}
