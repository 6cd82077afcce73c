//! What the kernel shows, as files that say anything: of a procfs, a cgroup file system and sysfs.

use std::cell::OnceCell;
use std::fs;
use std::path::Path;

use kcm_core::CpuSet;
use kcm_core::host::cgroup::Hierarchy;
use kcm_core::host::neighbours;
use kcm_core::host::procfs::Procfs;
use kcm_core::host::sysfs;
use kcm_core::task::Pid;
use tempfile::TempDir;

thread_local! {
    static FOLDER: OnceCell<TempDir> = const { OnceCell::new() };
}

/// Calls it with a folder in which these files hold what NULs part in the data.
fn with_files(names: &[&str], data: &[u8], look: impl FnOnce(&Path)) {
    FOLDER.with(|folder| {
        let folder = folder.get_or_init(super::folder).path();
        let mut contents = data.split(|&byte| byte == 0);
        for name in names {
            let path = folder.join(name);
            match contents.next() {
                Some(content) => {
                    fs::create_dir_all(path.parent().unwrap()).unwrap();
                    fs::write(path, content).unwrap();
                }
                None => drop(fs::remove_file(path)),
            }
        }
        look(folder);
    });
}

pub(super) fn procfs(data: &[u8]) {
    let files = [
        "5/stat",
        "5/status",
        "5/cgroup",
        "5/task/5/stat",
        "5/task/5/status",
        "5/task/5/children",
        "1/stat",
        "self/cgroup",
        "cmdline",
        "sys/kernel/random/boot_id",
        "irq/9/smp_affinity_list",
    ];
    with_files(&files, data, |root| {
        let procfs = Procfs::new(root);
        let pid: Pid = "5".parse().unwrap();
        if let Ok(Some(process)) = procfs.process(pid) {
            let _ = procfs.is_alive(&process, true).unwrap();
        }
        let _ = (procfs.boot_id(), procfs.own_capabilities(), procfs.sees_the_host().is_ok());
        let _ = (procfs.allowed_cpus(pid, pid), procfs.cgroup(pid), procfs.own_cgroup());
        let _ = (procfs.is_in_container(pid), procfs.is_in_the_hosts_pid_namespace(pid));
        let _ = (procfs.children(pid), procfs.threads(pid), procfs.pids());
        let _ = neighbours::interrupts(&procfs, &"0-3".parse::<CpuSet>().unwrap());
    });
}

pub(super) fn cgroups(data: &[u8]) {
    let files = [
        "proc-cgroup",
        "cpuset.cpus",
        "cpuset.cpus.effective",
        "cgroup.procs",
        "cgroup.events",
        "cgroup.type",
        "cpu.max",
        "cgroup.controllers",
        "sys/devices/system/cpu/online",
        "sys/devices/system/cpu/possible",
        "sys/devices/system/cpu/cpu0/topology/core_cpus",
        "sys/devices/system/cpu/cpu0/topology/package_cpus",
        "sys/devices/system/node/node0/cpumap",
    ];
    with_files(&files, data, |root| {
        let shown = fs::read(root.join("proc-cgroup")).unwrap_or_default();
        let shown = String::from_utf8_lossy(&shown);
        if let Ok(hierarchy) = Hierarchy::find(root, "0::/\n") {
            let _ = (hierarchy.cgroup_of(&shown), hierarchy.place("/a/b", &shown));
            let own = hierarchy.own();
            let _ = (own.processes(), own.is_populated(), own.effective_cpus());
            let _ = (own.own_cpus(), own.cpu_quota(), own.inode());
        }
        let _ = Hierarchy::find(root, &shown);
        let _ = (sysfs::online(root), sysfs::numa_nodes(root), sysfs::last_possible_cpu(root));
        let _ = sysfs::read_topology(root, &CpuSet::new());
    });
}
