//! `kcm cluster-init`: prepares nodes from outside.

use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::Args;

use crate::cluster::Cluster;
use crate::cluster::prepare::{Counts, Plan, Selection, prepare, summary};
use crate::engines::Engine;

/// Prepares nodes of a cluster: runs kcm's own commands there, as pods, and waits for them
///
/// Commands that end (init, install, discover) run one after the other in one pod, those that go on
/// (reconcile, nodereport) in a second one, on the CPUs of the pool infra. Nodes are prepared side
/// by side; one that fails does not stop the others. What is there already is left as it is.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  kcm cluster-init --all-hosts --kcm-img=registry.example/kcm:0.1.0 --runtime=containerd
  kcm cluster-init --host-list=worker-1,worker-2 --kcm-cmd-list=init,install,discover
  kcm cluster-init --host-list=worker-1 --num-dp-cores=8 --num-cp-cores=2

The cluster is that of KUBECONFIG or ~/.kube/config. The exit status is 1 if any node failed.")]
pub(crate) struct ClusterInit {
    #[command(flatten)]
    hosts: Hosts,

    /// What to run on each node, in order: init, install, discover, reconcile, nodereport
    #[arg(
        long,
        value_name = "COMMANDS",
        value_delimiter = ',',
        default_value = "init,reconcile,install,discover,nodereport"
    )]
    kcm_cmd_list: Vec<String>,

    /// The image that has kcm
    #[arg(long, value_name = "IMAGE", default_value = concat!("kcm:", env!("CARGO_PKG_VERSION")))]
    kcm_img: String,

    /// When nodes pull it: Never, IfNotPresent or Always
    #[arg(long, value_name = "POLICY", default_value = "IfNotPresent")]
    kcm_img_pol: String,

    /// The configuration directory on the nodes
    #[arg(long, value_name = "DIR", default_value = "/etc/kcm")]
    conf_dir: String,

    /// Where kcm is to be on the nodes
    #[arg(long, value_name = "DIR", default_value = "/opt/bin")]
    install_dir: String,

    /// How many cores dataplane is to have
    #[arg(long, value_name = "N", default_value = "4", allow_negative_numbers = true)]
    num_dp_cores: i64,

    /// How many cores controlplane is to have
    #[arg(long, value_name = "N", default_value = "1", allow_negative_numbers = true)]
    num_cp_cores: i64,

    /// Where the pods, their service account and the reports are
    #[arg(long, value_name = "NAMESPACE", default_value = "default")]
    namespace: String,

    /// An engine that install is to configure and restart; may be given several times
    #[arg(long = "runtime", value_name = "ENGINE")]
    runtimes: Vec<Engine>,

    /// How many seconds a node may take
    #[arg(long, value_name = "SECONDS", default_value = "300")]
    timeout: u64,
}

/// Which nodes.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct Hosts {
    /// The nodes to prepare
    #[arg(long, value_name = "NODES", value_delimiter = ',')]
    host_list: Vec<String>,

    /// Prepare every node that is Linux and ready
    #[arg(long)]
    all_hosts: bool,
}

impl ClusterInit {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        let limit = Duration::from_secs(self.timeout);
        let selection = match self.hosts.all_hosts {
            true => Selection::All,
            false => Selection::Named(self.hosts.host_list),
        };
        let plan = Plan {
            steps: Plan::steps(&self.kcm_cmd_list)?,
            image: self.kcm_img,
            pull_policy: self.kcm_img_pol,
            conf_dir: self.conf_dir,
            install_dir: self.install_dir,
            counts: Counts { dataplane: self.num_dp_cores, controlplane: self.num_cp_cores },
            namespace: self.namespace,
            engines: self.runtimes,
        };
        plan.check_itself()?;
        if limit.is_zero() {
            bail!("--timeout=0: give the seconds that a node may take");
        }
        let outcomes = crate::cluster::run(async {
            let cluster = Cluster::from_environment().await?;
            prepare(&cluster, &plan, &selection, limit).await
        })?;
        let table = summary(&outcomes);
        std::io::stdout().write_all(table.as_bytes()).context("cannot write to standard output")?;
        let failed = outcomes.iter().filter(|outcome| outcome.failure.is_some()).count();
        if failed > 0 {
            bail!("{failed} of {} nodes are not ready", outcomes.len());
        }
        Ok(ExitCode::SUCCESS)
    }
}
