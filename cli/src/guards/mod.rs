//! What keeps others off the CPUs of exclusive pools. `kcm doctor`, `kcm node-report`, the metrics and
//! `kcm install --default-pool=auto` all have it from here, so that no two of them disagree.
//!
//! ```text
//! look     what there is: pools and holders, the kernel, the shield, the engines' own files
//! judge    what that means for each exclusive pool, and what would help; pure
//! ```

pub(crate) mod judge;
pub(crate) mod look;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

use kcm_core::CpuSet;
use kcm_core::host::quota::Throttle;
use kcm_core::partition::Policy;
use kcm_core::pool::PoolName;
use schemars::JsonSchema;
use serde::Serialize;

use crate::engines::Called;

/// What to do for those whom a CFS quota throttles on CPUs of their own.
pub(crate) const UNTHROTTLE: &str = "restart these containers, which lifts their own quotas and their pods' \
     (podman update, docker update and a resize in place by the kubelet write them anew); give them no CPU \
     limit; take CPUQuota= from slices above them";

/// What was found out; else why it was not.
pub(crate) type Known<T> = Result<T, String>;

/// What there is on a node.
#[derive(Clone, Debug)]
pub(crate) struct Facts {
    /// The configuration directory.
    pub(crate) conf_dir: PathBuf,
    /// Every pool that can be read.
    pub(crate) pools: Vec<Pool>,
    /// Pools that cannot.
    pub(crate) unreadable: Vec<PoolName>,
    /// Those that hold CPU lists.
    pub(crate) holders: Known<Vec<Holder>>,
    /// Whether the kernel can have cpuset partitions.
    pub(crate) partitions: Known<bool>,
    /// The CPUs of `isolcpus`.
    pub(crate) isolated: Known<CpuSet>,
    /// The CPUs that are shielded; none while the shield is off.
    pub(crate) shielded: Known<CpuSet>,
    /// The engines that are here.
    pub(crate) engines: Vec<Engine>,
}

/// A pool.
#[derive(Clone, Debug)]
pub(crate) struct Pool {
    pub(crate) name: PoolName,
    pub(crate) exclusive: bool,
    pub(crate) cpus: CpuSet,
    /// What it says of partitions; none where that is damaged.
    pub(crate) says: Option<Policy>,
}

/// Somebody alive who holds CPU lists.
#[derive(Clone, Debug)]
pub(crate) struct Holder {
    pub(crate) owner: String,
    pub(crate) pool: PoolName,
    /// Whether its cgroup is a cpuset partition that holds.
    pub(crate) is_partition: bool,
    /// The CFS quota that may keep it from running, its own or one above.
    pub(crate) throttle: Option<Throttle>,
}

/// A container engine.
#[derive(Clone, Debug)]
pub(crate) struct Engine {
    pub(crate) name: &'static str,
    /// Whether it runs containers of pods alone, which nobody stands beside.
    pub(crate) is_of_pods: bool,
    /// How its files have it call the hook; none where they do not.
    pub(crate) called: Known<Option<Called>>,
}

/// What keeps others off an exclusive pool's CPUs.
#[derive(Clone, Debug, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Guards {
    /// A shared pool for the containers that ask for none.
    pub(crate) default_pool: Guard,
    /// The kernel's command line.
    pub(crate) isolcpus: Guard,
    /// A cpuset partition for each container of the pool.
    pub(crate) partition: Guard,
    /// No CFS quota that stops whoever holds its CPUs.
    pub(crate) quota: Guard,
    /// The node's own work goes elsewhere.
    pub(crate) shield: Guard,
}

/// One of them.
#[derive(Clone, Debug, JsonSchema, PartialEq, Serialize)]
pub(crate) struct Guard {
    /// How it is.
    pub(crate) message: String,
    /// What would make it hold; absent where it does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) remedy: Option<String>,
    /// Whether it holds, for the whole pool.
    pub(crate) state: State,
}

/// Whether a guard holds.
#[derive(Clone, Copy, Debug, JsonSchema, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum State {
    Holds,
    Partly,
    Missing,
    Unknown,
}

/// An exclusive pool, and what guards it.
#[derive(Clone, Debug)]
pub(crate) struct Guarded {
    pub(crate) pool: PoolName,
    pub(crate) cpus: CpuSet,
    pub(crate) guards: Guards,
    /// What to do, where others may run on its CPUs.
    pub(crate) open: Option<String>,
}

impl Guards {
    /// Each with its name, as a metric's label has it.
    pub(crate) fn all(&self) -> [(&'static str, &Guard); 5] {
        [
            ("partition", &self.partition),
            ("default_pool", &self.default_pool),
            ("isolcpus", &self.isolcpus),
            ("shield", &self.shield),
            ("quota", &self.quota),
        ]
    }
}

impl Guarded {
    /// All of it on one line.
    pub(crate) fn line(&self) -> String {
        let Self { pool, cpus, guards, open } = self;
        let open = open.as_ref().map_or("", |_| "nothing keeps others off: ");
        let all = guards.all().map(|(_, guard)| guard.message.as_str());
        format!("pool {pool}, CPUs {cpus}: {open}{}", all.join("; "))
    }

    /// What is to be done, where something is wrong.
    pub(crate) fn remedy(&self) -> Option<String> {
        let quota = &self.guards.quota;
        let quota = quota.remedy.clone().filter(|_| quota.state == State::Missing);
        let all: Vec<String> = self.open.clone().into_iter().chain(quota).collect();
        (!all.is_empty()).then(|| all.join("; "))
    }
}

/// Where a command looks that is not told where.
const USUAL: &str = "/etc/kcm";

/// A command of kcm's for a configuration directory, to be typed as it is.
pub(crate) fn command(conf_dir: &Path, words: &str) -> String {
    match conf_dir == Path::new(USUAL) {
        true => format!("kcm {words}"),
        false => format!("kcm {words} --conf-dir={}", conf_dir.display()),
    }
}
