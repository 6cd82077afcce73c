//! The sockets, NUMA nodes, cores and CPUs of a machine, numbered as `lscpu -p` numbers them.
//!
//! lscpu's numbers (util-linux 2.38, sys-utils/lscpu-topology.c and lscpu.c) are not those of the
//! hardware: CPUs are visited in ascending order, offline ones too where the kernel still describes
//! them; the first CPU of a core, or of a socket, that was not met before gives it the next number
//! from 0. Cores are counted over the whole machine. NUMA nodes keep the kernel's number.
//!
//! One difference is meant: on a machine with several CPU types (ARM big.LITTLE) lscpu 2.38 counts
//! each type from 0, so that two cores get the same number; here the count goes on.

use crate::CpuSet;
use std::collections::{BTreeMap, HashMap};

pub mod kernel_cmdline;

/// The online CPUs of a machine, ascending, and where each one is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Topology {
    /// The online CPUs, in ascending order.
    pub cpus: Vec<Cpu>,
}

/// One online logical CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cpu {
    /// The kernel's CPU number.
    pub id: u32,
    /// lscpu's logical core number, unique on the machine.
    pub core: u32,
    /// lscpu's logical socket number.
    pub socket: u32,
    /// The kernel's NUMA node number; none where the kernel shows no NUMA nodes.
    pub node: Option<u32>,
    /// Whether the CPU is isolated from the scheduler's load balancing.
    pub isolated: bool,
}

/// A physical core: the online CPUs that are threads of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Core {
    /// lscpu's logical core number, unique on the machine.
    pub id: u32,
    /// lscpu's logical socket number.
    pub socket: u32,
    /// The core's online CPUs, at least one.
    pub cpus: CpuSet,
    /// Those of `cpus` that are isolated.
    pub isolated: CpuSet,
}

/// A socket: one processor package and its cores.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Socket {
    /// lscpu's logical socket number.
    pub id: u32,
    /// The socket's cores that have an online CPU, ascending by number.
    pub cores: Vec<Core>,
}

/// What the kernel says of one possible CPU, online or not, before anything is numbered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Siblings {
    /// The kernel's CPU number.
    pub cpu: u32,
    /// The CPUs of the same core (sysfs `thread_siblings`, from Linux 5.3 also `core_cpus`).
    pub core: CpuSet,
    /// The CPUs of the same socket (sysfs `core_siblings`, from Linux 5.3 also `package_cpus`).
    pub socket: CpuSet,
}

impl Core {
    /// Whether all the core's CPUs are isolated.
    pub fn is_isolated(&self) -> bool {
        self.isolated == self.cpus
    }

    /// Whether some of the core's CPUs are isolated, but not all.
    pub fn is_partially_isolated(&self) -> bool {
        !self.isolated.is_empty() && !self.is_isolated()
    }
}

impl Topology {
    /// Numbers the cores and sockets of the CPUs in `siblings` and keeps those that are in
    /// `online`.
    ///
    /// `nodes` holds the CPUs of each NUMA node by the kernel's node number, and is empty where the
    /// kernel shows none; `isolated` may name CPUs that the machine does not have.
    pub fn new(
        mut siblings: Vec<Siblings>,
        online: &CpuSet,
        nodes: &BTreeMap<u32, CpuSet>,
        isolated: &CpuSet,
    ) -> Self {
        siblings.sort_by_key(|s| s.cpu);
        let (mut cores, mut sockets) = (Numbering::default(), Numbering::default());
        let numbered = siblings.iter().map(|s| Cpu {
            id: s.cpu,
            core: cores.number(s.cpu, &s.core),
            socket: sockets.number(s.cpu, &s.socket),
            node: node_of(s.cpu, nodes),
            isolated: isolated.contains(s.cpu),
        });
        Self { cpus: numbered.filter(|cpu| online.contains(cpu.id)).collect() }
    }

    /// The cores that have an online CPU, in socket order, then core order.
    pub fn cores(&self) -> Vec<Core> {
        let mut cores = BTreeMap::new();
        for cpu in &self.cpus {
            let core = cores.entry((cpu.socket, cpu.core)).or_insert_with(|| Core {
                id: cpu.core,
                socket: cpu.socket,
                cpus: CpuSet::new(),
                isolated: CpuSet::new(),
            });
            core.cpus.insert(cpu.id);
            if cpu.isolated {
                core.isolated.insert(cpu.id);
            }
        }
        cores.into_values().collect()
    }

    /// The sockets that have an online CPU, ascending by number.
    pub fn sockets(&self) -> Vec<Socket> {
        let mut sockets: Vec<Socket> = Vec::new();
        for core in self.cores() {
            match sockets.last_mut() {
                Some(socket) if socket.id == core.socket => socket.cores.push(core),
                _ => sockets.push(Socket { id: core.socket, cores: vec![core] }),
            }
        }
        sockets
    }

    /// The online CPUs of each NUMA node that has some, ascending by the kernel's node number.
    ///
    /// A machine without NUMA nodes is one node, 0.
    pub fn nodes(&self) -> Vec<(u32, CpuSet)> {
        let mut nodes: BTreeMap<u32, CpuSet> = BTreeMap::new();
        for cpu in &self.cpus {
            nodes.entry(cpu.node.unwrap_or(0)).or_default().insert(cpu.id);
        }
        nodes.into_iter().collect()
    }
}

fn node_of(cpu: u32, nodes: &BTreeMap<u32, CpuSet>) -> Option<u32> {
    let node = nodes.iter().find(|(_, cpus)| cpus.contains(cpu));
    node.map(|(&number, _)| number)
}

/// Gives groups of CPUs numbers from 0, in the order in which they are met.
#[derive(Default)]
struct Numbering {
    number_of_cpu: HashMap<u32, u32>,
    next: u32,
}

impl Numbering {
    /// The number of the group that `cpu` is in; `group` may lack `cpu` itself while it goes
    /// offline.
    fn number(&mut self, cpu: u32, group: &CpuSet) -> u32 {
        if let Some(&number) = self.number_of_cpu.get(&cpu) {
            return number;
        }
        // One common CPU is enough: a CPU that comes online while sysfs is read makes its siblings'
        // groups differ (util-linux commit ffcd97071).
        let met = group.iter().find_map(|cpu| self.number_of_cpu.get(&cpu));
        let number = met.copied().unwrap_or(self.next);
        self.next = self.next.max(number + 1);
        for member in group.iter().chain([cpu]) {
            self.number_of_cpu.entry(member).or_insert(number);
        }
        number
    }
}

#[cfg(test)]
mod tests;
