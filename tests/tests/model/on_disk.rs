//! A `Node` on a real configuration directory, with a procfs made of plain files. A hook that is
//! killed never came to write here: the crash tests kill real ones.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;

use kcm_core::Node;
use kcm_core::host::cgroup::Hierarchy;
use kcm_core::host::procfs::Procfs;
use kcm_core::request::Request;
use kcm_core::state::{ConfDir as State, LockTimeout};
use kcm_tests::conf_dir::ConfDir;
use tempfile::TempDir;

use crate::{BOOT, LISTS, Subject, request};

pub(crate) struct OnDisk {
    conf_dir: ConfDir,
    root: TempDir,
    node: Node,
}

impl OnDisk {
    pub(crate) fn new() -> Self {
        let conf_dir = ConfDir::new(&[("p", true, &LISTS)]);
        let root = tempfile::tempdir().unwrap();
        let node = Node {
            conf: State::new(conf_dir.path(), LockTimeout::default()),
            procfs: Procfs::new(root.path().join("proc")),
            hierarchy: {
                fs::write(root.path().join("cgroup.controllers"), "cpuset").unwrap();
                Some(Hierarchy::find(root.path(), "0::/\n").unwrap())
            },
            sys_root: root.path().to_owned(),
        };
        for (number, cpus) in [("node0", "0-7"), ("node1", "8-15")] {
            let folder = root.path().join("sys/devices/system/node").join(number);
            fs::create_dir_all(&folder).unwrap();
            fs::write(folder.join("cpulist"), cpus).unwrap();
        }
        let mut subject = Self { conf_dir, root, node };
        subject.live(&BTreeMap::new());
        subject
    }
}

impl Subject for OnDisk {
    fn allocate(&mut self, request: &Request, killed_after: Option<usize>) -> Option<Vec<String>> {
        if killed_after.is_some() {
            return None;
        }
        let granted = self.node.allocate(request, &mut Vec::new()).ok()?;
        Some(granted.allocation.lists.iter().map(ToString::to_string).collect())
    }

    fn release(&mut self, owner: &str, killed_after: Option<usize>) {
        if killed_after.is_none() {
            self.node.release(&owner.parse().unwrap(), &mut Vec::new()).unwrap();
        }
    }

    fn live(&mut self, live: &BTreeMap<i32, u64>) {
        let proc = self.root.path().join("proc");
        let _ = fs::remove_dir_all(&proc);
        fs::create_dir_all(proc.join("sys/kernel/random")).unwrap();
        fs::write(proc.join("sys/kernel/random/boot_id"), BOOT).unwrap();
        symlink("1", proc.join("self")).unwrap();
        for (pid, start_time) in live.iter().chain([(&1, &0)]) {
            let folder = proc.join(pid.to_string());
            fs::create_dir(&folder).unwrap();
            // proc_pid_stat(5): state is field 3, the start time field 22.
            let stat = format!("{pid} (c) S{} {start_time} 0 0\n", " 0".repeat(18));
            fs::write(folder.join("stat"), stat).unwrap();
            // namespaces(7): in the initial PID namespace.
            fs::create_dir(folder.join("ns")).unwrap();
            symlink("pid:[4026531836]", folder.join("ns/pid")).unwrap();
        }
    }

    fn tasks(&self) -> BTreeMap<String, Vec<i32>> {
        let pids = |list: &str| {
            let text = self.conf_dir.tasks("p", list);
            text.split(',').filter(|w| !w.is_empty()).map(|w| w.parse().unwrap()).collect()
        };
        LISTS.iter().map(|list| (list.to_string(), pids(list))).collect()
    }

    fn could_have(&mut self, cores: usize) -> bool {
        // Asked of the real thing, and given back at once.
        let granted = self.node.allocate(&request("another", 99, 0, cores), &mut Vec::new());
        granted.is_ok_and(|granted| {
            self.node.give_back(&granted.allocation, &mut Vec::new()).unwrap();
            true
        })
    }
}
