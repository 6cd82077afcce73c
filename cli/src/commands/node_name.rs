//! Which node of the cluster this is.

use anyhow::Context;
use clap::Args;

/// The name of this node.
#[derive(Debug, Args)]
pub(super) struct NodeNameFlag {
    /// The name of this node in the cluster
    #[arg(long, value_name = "NODE", env = "NODE_NAME", hide_env_values = true)]
    node_name: Option<String>,
}

impl NodeNameFlag {
    /// The name; an error where none is given.
    pub(super) fn required(self) -> anyhow::Result<String> {
        let name = self.node_name.filter(|name| !name.is_empty());
        name.context(
            "which node is this? Give --node-name, or set NODE_NAME (in a pod by the downward API: \
             fieldRef spec.nodeName)",
        )
    }
}
