//! The subcommands, one a file.

mod cluster_init;
mod completions;
mod crds;
mod describe;
mod discover;
mod doctor;
mod init;
mod install;
pub(crate) mod isolate;
mod man_pages;
mod node_name;
pub(crate) mod node_report;
mod noise;
mod publish;
mod reconcile;
mod rounds;
mod shield;
mod uninstall;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

/// Gives latency-critical containers CPU cores of their own: pools of CPUs on this node.
#[derive(Debug, Parser)]
#[command(name = "kcm", version, after_help = EXAMPLES)]
pub(crate) struct Cli {
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "\
Examples:
  kcm init --num-dp-cores=4 --num-cp-cores=1
  kcm describe
  kcm isolate --pool=dataplane testpmd -- -l 2,10
  kcm reconcile --repair
  kcm noise --pool=dataplane
  kcm cluster-init --all-hosts --kcm-img=registry.example/kcm:0.1.0

Environment:
  KCM_CONF_DIR      default of --conf-dir
  KCM_LOCK_TIMEOUT  seconds to wait for, and to hold, the directory's lock [default: 30]
  KCM_LOG_LEVEL     CRITICAL, ERROR, WARNING, INFO or DEBUG [default: INFO]
  KCM_PROC_FS       where the host's procfs is mounted [default: /proc]
  NODE_NAME         default of --node-name
  KUBECONFIG        the cluster, outside of a pod [default: ~/.kube/config]

Exit status: 0 done; 1 failed, with an ERROR line on standard error; 2 wrong usage. Those of isolate
are in its own help.";

#[derive(Debug, Subcommand)]
enum Command {
    Init(init::Init),
    Describe(describe::Describe),
    Discover(discover::Discover),
    Isolate(isolate::Isolate),
    Reconcile(reconcile::Reconcile),
    NodeReport(node_report::NodeReport),
    Noise(noise::Noise),
    ClusterInit(cluster_init::ClusterInit),
    Install(install::Install),
    Uninstall(uninstall::Uninstall),
    Doctor(doctor::Doctor),
    Shield(shield::Shield),
    Crds(crds::Crds),
    Completions(completions::Completions),
    ManPages(man_pages::ManPages),
}

impl Cli {
    /// The exit status where kcm itself fails.
    pub(crate) fn status_of_failure(&self) -> ExitCode {
        match self.command {
            Command::Isolate(_) => ExitCode::from(isolate::KCM_FAILED),
            _ => ExitCode::FAILURE,
        }
    }

    /// Does what the command line says.
    pub(crate) fn run(self) -> anyhow::Result<ExitCode> {
        match self.command {
            Command::Init(init) => init.run(),
            Command::Describe(describe) => describe.run(),
            Command::Discover(discover) => discover.run(),
            Command::Isolate(isolate) => isolate.run(),
            Command::Reconcile(reconcile) => reconcile.run(),
            Command::NodeReport(report) => report.run(),
            Command::Noise(noise) => noise.run(),
            Command::ClusterInit(init) => init.run(),
            Command::Install(install) => install.run(),
            Command::Uninstall(uninstall) => uninstall.run(),
            Command::Doctor(doctor) => doctor.run(),
            Command::Shield(shield) => shield.run(),
            Command::Crds(crds) => crds.run(),
            Command::Completions(completions) => completions.run(),
            Command::ManPages(man_pages) => man_pages.run(),
        }
    }
}

/// For people or for programs.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Format {
    Table,
    Json,
}

/// Which configuration directory a subcommand is about.
#[derive(Debug, Args)]
struct ConfDirFlag {
    /// The configuration directory
    #[arg(
        long,
        value_name = "DIR",
        env = "KCM_CONF_DIR",
        hide_env_values = true,
        default_value = "/etc/kcm"
    )]
    conf_dir: PathBuf,
}
