//! Machines to make up sysfs trees of.

use std::collections::BTreeMap;

use kcm_core::CpuSet;

/// The files of a sysfs tree below /sys/devices/system, by path.
pub(crate) type Files = BTreeMap<String, String>;

/// A machine to make up a sysfs tree of.
#[derive(Default)]
pub(crate) struct Machine {
    pub(crate) name: &'static str,
    /// Sockets, each a list of cores, each a CPU list: `"0,8 1,9; 2,10 3,11"`.
    sockets: String,
    /// NUMA nodes: number and CPU list.
    nodes: Vec<(u32, &'static str)>,
    offline: &'static str,
    /// Possible CPUs that the machine has not got.
    absent: &'static str,
    /// Whether the kernel describes offline CPUs too, each as a core and a socket of its own.
    describes_offline: bool,
}

pub(crate) fn machines() -> Vec<Machine> {
    let large: Vec<String> = (0..512).map(|n| format!("{n},{}", n + 512)).collect();
    vec![
        Machine {
            name: "one socket, 8 cores, 16 CPUs: the operator manual's",
            sockets: "0,8 1,9 2,10 3,11 4,12 5,13 6,14 7,15".into(),
            nodes: vec![(0, "0-15")],
            ..Machine::default()
        },
        Machine {
            name: "two sockets, siblings adjacent",
            sockets: "0-1 2-3 4-5 6-7; 8-9 10-11 12-13 14-15".into(),
            nodes: vec![(0, "0-7"), (1, "8-15")],
            ..Machine::default()
        },
        Machine {
            name: "a kernel without NUMA",
            sockets: "0-1 2-3; 4-5 6-7".into(),
            ..Machine::default()
        },
        Machine {
            name: "two sockets that take turns",
            sockets: "0,8 2,10 4,12 6,14; 1,9 3,11 5,13 7,15".into(),
            nodes: vec![(0, "0,2,4,6,8,10,12,14"), (1, "1,3,5,7,9,11,13,15")],
            ..Machine::default()
        },
        Machine {
            name: "four sockets without SMT, one of them with CPU 0",
            sockets: "1 5 9 13; 0 4 8 12; 3 7 11 15; 2 6 10 14".into(),
            nodes: vec![(0, "0,4,8,12"), (1, "1,5,9,13"), (2, "2,6,10,14"), (3, "3,7,11,15")],
            ..Machine::default()
        },
        Machine {
            name: "offline CPUs, among them a core and a socket; CPUs to be plugged in",
            sockets: "0,8 1,9; 2,10 3,11; 4,12 5,13 6,14 7,15".into(),
            nodes: vec![(0, "0-15")],
            offline: "0-3,6,10-11,14-15",
            absent: "16-23",
            ..Machine::default()
        },
        Machine {
            name: "offline CPUs that the kernel still describes",
            sockets: "0-1 2-3; 4-5 6-7".into(),
            nodes: vec![(0, "0-3"), (1, "4-7")],
            offline: "1-3,6",
            describes_offline: true,
            ..Machine::default()
        },
        Machine {
            name: "sub-NUMA nodes, a node with memory alone, holes in all numbers",
            sockets: "2 4 6 8; 20 22 24 26".into(),
            nodes: vec![(0, "2,4"), (3, "20,22"), (10, "6,8"), (11, ""), (12, "24,26")],
            absent: "0-1,40-47",
            ..Machine::default()
        },
        Machine {
            name: "1,024 CPUs, four sockets, eight nodes",
            sockets: large.chunks(128).map(|s| s.join(" ")).collect::<Vec<_>>().join(";"),
            nodes: vec![
                (0, "0-63,512-575"),
                (1, "64-127,576-639"),
                (2, "128-191,640-703"),
                (3, "192-255,704-767"),
                (4, "256-319,768-831"),
                (5, "320-383,832-895"),
                (6, "384-447,896-959"),
                (7, "448-511,960-1023"),
            ],
            offline: "77,511,1000-1010",
            ..Machine::default()
        },
    ]
}

impl Machine {
    pub(crate) fn files(&self) -> Files {
        let offline = set(self.offline);
        let mut files = Files::new();
        let (mut present, mut core_id) = (CpuSet::new(), 0);
        for (package_id, socket) in self.sockets.split(';').enumerate() {
            let cores: Vec<CpuSet> = socket.split_whitespace().map(set).collect();
            let package = cores.iter().fold(CpuSet::new(), |a, b| a.union(b));
            present = present.union(&package);
            for core in &cores {
                core_id += 3;
                for cpu in core.iter() {
                    let own = CpuSet::from_iter([cpu]);
                    let (threads, siblings) = match offline.contains(cpu) {
                        false => (core.difference(&offline), package.difference(&offline)),
                        true if self.describes_offline => (own.clone(), own),
                        true => continue,
                    };
                    let mut put = |file: &str, text: String| {
                        files.insert(format!("cpu/cpu{cpu}/topology/{file}"), text);
                    };
                    put("core_id", core_id.to_string());
                    put("physical_package_id", package_id.to_string());
                    put("thread_siblings", mask(&threads));
                    put("core_siblings", mask(&siblings));
                }
            }
        }
        for (node, cpus) in &self.nodes {
            let cpus = set(cpus).difference(&offline);
            files.insert(format!("node/node{node}/cpumap"), mask(&cpus));
            files.insert(format!("node/node{node}/cpulist"), cpus.to_string());
        }
        let possible = present.union(&set(self.absent));
        files.insert("cpu/possible".into(), possible.to_string());
        files.insert("cpu/online".into(), present.difference(&offline).to_string());
        files.insert("cpu/present".into(), present.to_string());
        files.insert("cpu/kernel_max".into(), "8191".into());
        files
    }
}

/// The mask as the kernel prints it: words of 32 bits, the highest first.
fn mask(cpus: &CpuSet) -> String {
    let words = (0..32).rev().map(|word| {
        let bits = (0..32).filter(|bit| cpus.contains(word * 32 + bit));
        format!("{:08x}", bits.fold(0u32, |bits, bit| bits | 1 << bit))
    });
    words.collect::<Vec<_>>().join(",")
}

pub(crate) fn set(text: &str) -> CpuSet {
    CpuSet::parse_possibly_empty(text).unwrap()
}
