//! What is in the configuration directory: `kcm describe`.

use std::collections::BTreeMap;

use kcm_core::task::Pid;
use schemars::JsonSchema;
use serde::Serialize;

/// The configuration directory.
#[derive(Clone, Debug, JsonSchema, PartialEq, Serialize)]
pub(crate) struct Description {
    /// Where it is.
    pub(crate) path: String,
    /// Its pools, by name.
    pub(crate) pools: BTreeMap<String, Pool>,
}

/// A pool.
#[derive(Clone, Debug, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Pool {
    /// Its CPU lists, by name.
    pub(crate) cpu_lists: BTreeMap<String, CpuList>,
    /// Whether a CPU list goes to one container at a time.
    pub(crate) exclusive: bool,
    /// Its name.
    pub(crate) name: String,
}

/// A CPU list.
#[derive(Clone, Debug, JsonSchema, PartialEq, Serialize)]
pub(crate) struct CpuList {
    /// Its CPUs, as its folder is named: 1,9.
    pub(crate) cpus: String,
    /// The host's process ids of those that hold it.
    #[schemars(with = "Vec<i32>")]
    pub(crate) tasks: Vec<Pid>,
}
