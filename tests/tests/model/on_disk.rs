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

use crate::{Harm, LISTS, Subject, boot_id, request};

pub(crate) struct OnDisk {
    conf_dir: ConfDir,
    root: TempDir,
    node: Node,
    boot: usize,
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
        let mut subject = Self { conf_dir, root, node, boot: 0 };
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
        fs::write(proc.join("sys/kernel/random/boot_id"), boot_id(self.boot)).unwrap();
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

    fn harm(&mut self, list: &str, harm: Harm) {
        let path = self.conf_dir.tasks_path("p", list);
        match harm {
            Harm::Emptied => fs::write(path, "").unwrap(),
            Harm::Removed => drop(fs::remove_file(path)),
            Harm::Blanked => fs::write(path, [0; 9]).unwrap(),
            Harm::Garbled => fs::write(path, "x").unwrap(),
        }
    }

    fn lose_record(&mut self, owner: &str) {
        let _ = fs::remove_file(self.conf_dir.record_path(owner));
    }

    fn reconcile(&mut self) {
        self.node.reconcile(&mut Vec::new()).unwrap();
    }

    fn power_cut(&mut self, blank_tasks: bool, blank_records: bool, boot: usize) {
        self.boot = boot;
        let blank = |path: &std::path::Path| {
            let length = fs::metadata(path).map_or(0, |found| found.len());
            if length > 0 {
                fs::write(path, vec![0; length as usize]).unwrap();
            }
        };
        if blank_tasks {
            LISTS.iter().for_each(|list| blank(&self.conf_dir.tasks_path("p", list)));
        }
        if blank_records {
            let records = self.conf_dir.allocations();
            let records = records.iter().filter(|name| name.ends_with(".json"));
            let folder = self.conf_dir.path().join("allocations");
            records.for_each(|name| blank(&folder.join(name)));
        }
    }

    fn look(&self) -> String {
        let read = |list: &&str| format!("{list}: {:?}", self.conf_dir.tasks("p", list));
        let tasks: Vec<String> = LISTS.iter().map(read).collect();
        format!("{} {:?}", tasks.join(" "), self.conf_dir.allocations())
    }

    fn could_have(&mut self, cores: usize) -> bool {
        // Asked of the real thing, and given back at once.
        let granted =
            self.node.allocate(&request("another", 99, 0, cores, self.boot), &mut Vec::new());
        granted.is_ok_and(|granted| {
            self.node.give_back(&granted.allocation, &mut Vec::new()).unwrap();
            true
        })
    }
}
