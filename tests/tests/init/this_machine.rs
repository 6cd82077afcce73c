//! `kcm init` on the machine that runs the tests, whatever it is; lscpu of util-linux is the
//! oracle.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use kcm_core::CpuSet;

use kcm_tests::kcm::{bare, kcm, run};

/// The online CPUs of each core, by lscpu's core number.
fn cores() -> Vec<CpuSet> {
    let mut lscpu = Command::new("lscpu");
    bare(&mut lscpu);
    let lines = run(lscpu.arg("-p=CPU,CORE")).succeeded().out;
    let mut cores: BTreeMap<u32, CpuSet> = BTreeMap::new();
    for line in lines.lines().filter(|line| !line.starts_with('#')) {
        let (cpu, core) = line.split_once(',').unwrap();
        cores.entry(core.parse().unwrap()).or_default().insert(cpu.parse().unwrap());
    }
    cores.into_values().collect()
}

fn union<'a>(sets: impl IntoIterator<Item = &'a CpuSet>) -> CpuSet {
    sets.into_iter().fold(CpuSet::new(), |all, set| all.union(set))
}

/// The CPU lists of a pool.
fn lists(conf_dir: &Path, pool: &str) -> Vec<CpuSet> {
    let entries = fs::read_dir(conf_dir.join("pools").join(pool)).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name != "exclusive").map(|name| name.parse().unwrap()).collect()
}

#[test]
fn this_machines_cores_are_divided_among_the_pools() {
    let isolated = fs::read_to_string("/sys/devices/system/cpu/isolated").unwrap();
    let isolated = CpuSet::parse_possibly_empty(&isolated).unwrap();
    let cores = cores();
    let is_isolated = |core: &&CpuSet| core.is_subset(&isolated);
    let (isolated_cores, others): (Vec<_>, Vec<_>) = cores.iter().partition(is_isolated);
    // Of what pools are taken from, infra gets or isolation leaves one core at least.
    let from = if isolated_cores.is_empty() { &others } else { &isolated_cores };
    let controlplane = usize::from(from.len() > 2);
    let dataplane = from.len() - 1 - controlplane;

    let folder = tempfile::tempdir().unwrap();
    let conf_dir = folder.path().join("kcm");
    let mut command = kcm();
    command.arg("init").arg("--conf-dir").arg(&conf_dir);
    command.args(["--num-dp-cores", &dataplane.to_string()]);
    command.args(["--num-cp-cores", &controlplane.to_string()]);
    let init = run(&mut command).succeeded();
    print!("{}", init.err);

    let [dp, cp, infra] = ["dataplane", "controlplane", "infra"].map(|p| lists(&conf_dir, p));
    assert_eq!((dp.len(), cp.len(), infra.len()), (dataplane, controlplane, 1));
    for list in &dp {
        assert!(cores.contains(list), "{list} is not one core of {cores:?}");
    }
    let all: Vec<&CpuSet> = dp.iter().chain(&cp).chain(&infra).collect();
    let stranded = match isolated_cores.is_empty() {
        true => CpuSet::new(),
        false => union(isolated_cores.iter().copied()).difference(&union(dp.iter().chain(&cp))),
    };
    let online = union(&cores);
    assert_eq!(union(all.iter().copied()), online.difference(&stranded));
    let sum: usize = all.iter().map(|list| list.len()).sum();
    assert_eq!(sum, online.len() - stranded.len(), "no CPU is in two lists");
    let expected = if isolated_cores.is_empty() { 0 } else { 1 };
    let stranded_cores = cores.iter().filter(|core| core.is_subset(&stranded)).count();
    assert_eq!(stranded_cores, expected);
    run(&mut command).succeeded();
}
