//! Kubernetes: what this node tells the cluster, and how nodes are prepared from outside. Only
//! these modules, and the commands that use them, know of the API server.

pub(crate) mod advertise;
mod call;
mod connect;
pub(crate) mod crds;
pub(crate) mod error;
mod limits;
mod object;
pub(crate) mod prepare;
pub(crate) mod publish;

pub(crate) use call::{call, once};
pub(crate) use connect::{Cluster, run};
pub(crate) use error::CallError;
pub(crate) use object::{Object, Verb};

/// The API group of kcm's own kinds, and the domain of its names.
pub(crate) const GROUP: &str = "kcm.intel.com";

/// The version of kcm's own kinds.
pub(crate) const VERSION: &str = "v1";

/// Who kcm is to the API server, in `managedFields`.
pub(crate) const FIELD_MANAGER: &str = "kcm";

/// The label of a node that has pools.
pub(crate) const NODE_LABEL: &str = "kcm.intel.com/kcm-node";

/// The key of the taint that keeps other pods off such a node; its value is `true`.
pub(crate) const TAINT: &str = "kcm";
