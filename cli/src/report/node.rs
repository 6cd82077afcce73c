//! What a node has, and what is wrong with it: `kcm node-report`.

use std::collections::BTreeMap;

use kcm_core::topology::Topology as Machine;
use schemars::JsonSchema;
use serde::Serialize;

use super::description::Description;
use crate::guards::judge::judge;
use crate::guards::{Facts, Guards};

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
    /// Of what keeps others off the CPUs of exclusive pools.
    pub(crate) isolation: Isolation,
}

/// A check.
#[derive(Clone, Debug, JsonSchema, PartialEq, Serialize)]
pub(crate) struct Check {
    /// What is wrong.
    pub(crate) errors: Vec<String>,
    /// Whether nothing is.
    pub(crate) ok: bool,
}

/// A check of what keeps others off the CPUs of exclusive pools.
#[derive(Clone, Debug, JsonSchema, PartialEq, Serialize)]
pub(crate) struct Isolation {
    /// What is wrong.
    pub(crate) errors: Vec<String>,
    /// Whether nothing is.
    pub(crate) ok: bool,
    /// The exclusive pools that have CPUs, by name.
    pub(crate) pools: BTreeMap<String, Guards>,
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

impl Checks {
    /// Whether all are.
    pub(crate) fn are_ok(&self) -> bool {
        self.config_directory.ok && self.isolation.ok
    }
}

impl Isolation {
    /// Of a node's facts; none where no pool can be read.
    pub(crate) fn of(facts: Option<&Facts>) -> Self {
        let judged = facts.map(judge).unwrap_or_default();
        let wrong = judged.iter().filter_map(|pool| Some((pool.line(), pool.remedy()?)));
        let mut errors: Vec<String> =
            wrong.map(|(line, remedy)| format!("{line}; {remedy}")).collect();
        let unread = |what| format!("{what} cannot be read: see configDirectory");
        match facts {
            None => errors.push(unread("the pools".to_owned())),
            Some(facts) => {
                errors.extend(facts.unreadable.iter().map(|pool| unread(format!("pool {pool}"))));
            }
        }
        let pools = judged.into_iter().map(|it| (it.pool.to_string(), it.guards));
        Self { ok: errors.is_empty(), errors, pools: pools.collect() }
    }
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
