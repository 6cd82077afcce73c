//! What a node has, and what is wrong with it: `kcm node-report`.

use std::collections::BTreeMap;

use kcm_core::topology::Topology as Machine;
use schemars::JsonSchema;
use serde::Serialize;

use super::description::Description;

/// A node's pools, CPUs and troubles.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct NodeReport {
    /// What was looked at.
    pub(crate) checks: Checks,
    /// The configuration directory; none where it cannot be read.
    pub(crate) description: Option<Description>,
    /// The machine.
    pub(crate) topology: Topology,
}

/// The checks, by name.
#[derive(Clone, Debug, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Checks {
    /// Of the configuration directory.
    pub(crate) config_directory: Check,
}

/// A check.
#[derive(Clone, Debug, JsonSchema, PartialEq, Serialize)]
pub(crate) struct Check {
    /// What is wrong.
    pub(crate) errors: Vec<String>,
    /// Whether nothing is.
    pub(crate) ok: bool,
}

/// The CPUs that are online, numbered as lscpu does.
#[derive(Clone, Debug, JsonSchema, PartialEq, Serialize)]
pub(crate) struct Topology {
    /// The sockets, by number.
    #[schemars(with = "BTreeMap<String, Socket>")]
    pub(crate) sockets: BTreeMap<u32, Socket>,
}

/// A socket.
#[derive(Clone, Debug, JsonSchema, PartialEq, Serialize)]
pub(crate) struct Socket {
    /// Its physical cores.
    pub(crate) cores: Vec<Core>,
    /// Its number.
    pub(crate) id: u32,
}

/// A physical core.
#[derive(Clone, Debug, JsonSchema, PartialEq, Serialize)]
pub(crate) struct Core {
    /// Its CPUs.
    pub(crate) cpus: Vec<Cpu>,
    /// Its number.
    pub(crate) id: u32,
}

/// A CPU.
#[derive(Clone, Debug, JsonSchema, PartialEq, Serialize)]
pub(crate) struct Cpu {
    /// Its number.
    pub(crate) id: u32,
    /// Whether the kernel keeps others off it (isolcpus).
    pub(crate) isolated: bool,
}

impl From<Machine> for Topology {
    fn from(machine: Machine) -> Self {
        let sockets = machine.sockets().into_iter().map(|socket| {
            let cores = socket.cores.into_iter().map(|core| {
                let cpus = core.cpus.iter();
                let cpus = cpus.map(|id| Cpu { id, isolated: core.isolated.contains(id) });
                Core { cpus: cpus.collect(), id: core.id }
            });
            (socket.id, Socket { cores: cores.collect(), id: socket.id })
        });
        Self { sockets: sockets.collect() }
    }
}
