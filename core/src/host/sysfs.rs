//! The machine's CPUs as sysfs shows them.
//!
//! ```text
//! <root>/sys/devices/system/
//!   cpu/{online,present,possible,isolated}          CPU lists
//!   cpu/cpuN/topology/{core_cpus,thread_siblings}   masks: the core's CPUs (newer and older name)
//!   cpu/cpuN/topology/{package_cpus,core_siblings}  masks: the socket's CPUs
//!   node/nodeN/cpumap                               mask: the NUMA node's CPUs
//!   node/has_memory                                 list: the NUMA nodes that have memory
//! ```
//!
//! Masks are preferred to the `…list` files beside them: before Linux 5.15 a list is cut at one
//! page (kernel commits bb9ec13d156e and 75bd50fa841d), which a machine with interleaved numbers
//! reaches. core_id and physical_package_id are not read: a core_id is unique in its package (or
//! die) only, and the masks tell all that they could.

use super::{LIMIT, regular};
use crate::CpuSet;
use crate::cpu_set::MAX_CPU;
use crate::topology::{Siblings, Topology};
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Why the topology could not be read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file or folder that every Linux shows is missing or unreadable.
    #[error("cannot read {}: {cause}", path.display())]
    Read {
        /// The file or folder.
        path: PathBuf,
        /// What the kernel said.
        cause: io::Error,
    },
    /// A file that should hold a CPU list or mask, and does not.
    #[error("cannot understand {}: {cause}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// Names the offending part.
        cause: String,
    },
}

/// Reads the online CPUs of the machine whose `sys/` folder is in `sys_root` (`/`, or a tree as
/// `lscpu --sysroot` takes); `isolated` is what the caller knows to be isolated, from the kernel's
/// command line or [`read_isolated`].
pub fn read_topology(sys_root: &Path, isolated: &CpuSet) -> Result<Topology, Error> {
    let online = online(sys_root)?;
    // lscpu numbers what is possible and described, and only then leaves out what is offline.
    let possible = cpus_in(&cpu_folder(sys_root), &["possible"])?;
    let mut siblings = Vec::with_capacity(online.len());
    for cpu in possible.unwrap_or_default().union(&online).iter() {
        let topology = cpu_folder(sys_root).join(format!("cpu{cpu}/topology"));
        let core = cpus_in(&topology, &["core_cpus", "thread_siblings", "thread_siblings_list"])?;
        let socket = cpus_in(&topology, &["package_cpus", "core_siblings", "core_siblings_list"])?;
        match (core, socket) {
            (Some(core), Some(socket)) => siblings.push(Siblings { cpu, core, socket }),
            // The kernel describes no CPU that is offline or absent.
            _ if !online.contains(cpu) => {}
            (None, _) => return Err(missing(&topology.join("thread_siblings"))),
            (_, None) => return Err(missing(&topology.join("core_siblings"))),
        }
    }
    let nodes = numa_nodes(sys_root)?;
    Ok(Topology::new(siblings, &online, &nodes, isolated))
}

/// The CPUs that the kernel keeps out of the scheduler's load balancing; none where the kernel is
/// too old to tell (before Linux 4.2).
pub fn read_isolated(sys_root: &Path) -> Result<CpuSet, Error> {
    Ok(cpus_in(&cpu_folder(sys_root), &["isolated"])?.unwrap_or_default())
}

/// The CPUs that are online.
pub fn online(sys_root: &Path) -> Result<CpuSet, Error> {
    let folder = cpu_folder(sys_root);
    // A kernel without CPU hotplug, and old captured trees, have no `online`.
    let found = cpus_in(&folder, &["online", "present", "possible"])?;
    found.ok_or_else(|| missing(&folder.join("online")))
}

/// The CPUs that the machine could ever have.
pub fn possible(sys_root: &Path) -> Result<CpuSet, Error> {
    let folder = cpu_folder(sys_root);
    let possible = cpus_in(&folder, &["possible"])?.filter(|cpus| !cpus.is_empty());
    possible.ok_or_else(|| missing(&folder.join("possible")))
}

/// The highest CPU number that the machine could ever have: `N` in the kernel's CPU lists.
pub fn last_possible_cpu(sys_root: &Path) -> Result<u32, Error> {
    let last = possible(sys_root)?.iter().last();
    last.ok_or_else(|| missing(&cpu_folder(sys_root).join("possible")))
}

/// The CPUs of each NUMA node by the kernel's node number, an empty set for a node that has only
/// memory; empty where the kernel shows no nodes.
pub fn numa_nodes(sys_root: &Path) -> Result<BTreeMap<u32, CpuSet>, Error> {
    let folder = sys_root.join("sys/devices/system/node");
    let error = |e| unreadable(&folder, e);
    let entries = match fs::read_dir(&folder) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
        entries => entries.map_err(error)?,
    };
    let mut nodes = BTreeMap::new();
    for entry in entries {
        let name = entry.map_err(error)?.file_name();
        let number = name.to_str().and_then(|name| name.strip_prefix("node"));
        if let Some(Ok(number)) = number.map(str::parse) {
            let cpus = cpus_in(&folder.join(&name), &["cpumap", "cpulist"])?;
            nodes.insert(number, cpus.unwrap_or_default());
        }
    }
    Ok(nodes)
}

/// The NUMA nodes that have memory; none where the kernel does not tell.
pub fn nodes_with_memory(sys_root: &Path) -> Result<Option<CpuSet>, Error> {
    cpus_in(&sys_root.join("sys/devices/system/node"), &["has_memory"])
}

fn cpu_folder(sys_root: &Path) -> PathBuf {
    sys_root.join("sys/devices/system/cpu")
}

fn unreadable(path: &Path, cause: io::Error) -> Error {
    let path = path.to_owned();
    Error::Read { path, cause }
}

fn missing(path: &Path) -> Error {
    unreadable(path, io::Error::from_raw_os_error(libc::ENOENT))
}

/// The CPUs in the first of the files `names` that exists in `folder`.
fn cpus_in(folder: &Path, names: &[&str]) -> Result<Option<CpuSet>, Error> {
    for name in names {
        let path = folder.join(name);
        let text = match regular::read_text(&path, LIMIT) {
            Ok(text) => text,
            Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
            Err(e) => return Err(unreadable(&path, e)),
        };
        let is_mask = folder.ends_with("topology") || *name == "cpumap";
        let cpus = if is_mask && !name.ends_with("_list") {
            parse_mask(&text)
        } else {
            CpuSet::parse_possibly_empty(&text).map_err(|e| e.to_string())
        };
        return cpus.map(Some).map_err(|cause| Error::Malformed { path, cause });
    }
    Ok(None)
}

/// Parses the kernel's mask format: words of 32 bits in hexadecimal, the highest first, with commas
/// (`bitmap_parse` in the kernel's lib/bitmap-str.c). The error names the offending word.
pub(crate) fn parse_mask(text: &str) -> Result<CpuSet, String> {
    let mut cpus = CpuSet::new();
    for (index, word) in text.trim().rsplit(',').enumerate() {
        let is_word = word.len() <= 8 && word.bytes().all(|b| b.is_ascii_hexdigit());
        let bits = u32::from_str_radix(word, 16).ok().filter(|_| is_word);
        let bits = bits.ok_or_else(|| format!("'{word}' is no 32-bit word in hexadecimal"))?;
        for bit in (0..u32::BITS).filter(|bit| bits >> bit & 1 == 1) {
            let first = u32::try_from(index * 32).unwrap_or(u32::MAX);
            match first.saturating_add(bit) {
                cpu if cpu <= MAX_CPU => cpus.insert(cpu),
                _ => return Err(format!("'{word}' goes past CPU {MAX_CPU}")),
            }
        }
    }
    Ok(cpus)
}

#[cfg(test)]
mod tests;
