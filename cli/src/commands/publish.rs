//! `--publish`: the report as a custom resource, too.

use clap::Args;

use super::node_name::NodeNameFlag;
use crate::cluster::publish::Publisher;

/// Whether, where and as what to publish a report.
#[derive(Debug, Args)]
pub(super) struct PublishFlags {
    /// Also write the report to the cluster, as a custom resource named after the node
    #[arg(long)]
    publish: bool,

    /// The namespace of that resource
    #[arg(long, value_name = "NAMESPACE", default_value = "default", requires = "publish")]
    namespace: String,

    #[command(flatten)]
    node_name: NodeNameFlag,
}

impl PublishFlags {
    /// Who publishes, if that was asked for.
    pub(super) fn publisher(self) -> anyhow::Result<Option<Publisher>> {
        if !self.publish {
            return Ok(None);
        }
        Ok(Some(Publisher::new(self.node_name.required()?, self.namespace)))
    }
}
