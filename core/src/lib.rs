//! CPU pools on a node: what both `kcm-hook` and `kcm` need.
//!
//! Data flows one way: read the world ([`host`], [`state`]) → [`plan`] (pure) → apply → verify.
//! [`Node`] is that way, told once for each thing that can be asked of a node.

pub mod allocation;
pub mod cpu_set;
pub mod host;
pub mod log_level;
pub mod node;
pub mod notice;
pub mod partition;
pub mod plan;
pub mod pool;
pub mod request;
pub mod state;
pub mod task;
pub mod text;
pub mod topology;
pub mod usage;

pub use cpu_set::CpuSet;
pub use node::Node;
