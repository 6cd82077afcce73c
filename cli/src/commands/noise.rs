//! `kcm noise`: who runs on a CPU besides its owner.

use std::process::ExitCode;
use std::time::Duration;

use kcm_core::CpuSet;
use kcm_core::pool::PoolName;
use kcm_core::state::{ConfDir, LockTimeout};

use super::ConfDirFlag;
use crate::machine::Machine;
use crate::noise::{self, Format, Subject, span};

/// Shows who runs on CPUs besides those that hold them, how often and for how long
///
/// It watches what the kernel traces of these CPUs, which costs what runs there next to nothing. SIGINT
/// ends it early, with what was seen so far.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  kcm noise --pool=dataplane
  kcm noise --cpus=2-3 --duration=60s
  kcm noise --container=4f1c0a --output=json")]
pub(crate) struct Noise {
    #[command(flatten)]
    conf_dir: ConfDirFlag,

    #[command(flatten)]
    subject: Which,

    /// For how long, as in 500ms, 10s or 2m
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = span::duration)]
    duration: Duration,

    /// How to print it
    #[arg(long, value_name = "FORMAT", default_value = "table")]
    output: Format,
}

/// Which CPUs.
#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
struct Which {
    /// All CPUs of this pool
    #[arg(long)]
    pool: Option<PoolName>,

    /// These CPUs, as in 2-3,10
    #[arg(long, value_name = "LIST")]
    cpus: Option<CpuSet>,

    /// The CPUs that this container holds, by its id, how that begins, or isolate-PID
    #[arg(long, value_name = "ID")]
    container: Option<String>,
}

impl Noise {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        let machine = Machine::from_environment();
        let conf = ConfDir::new(&self.conf_dir.conf_dir, LockTimeout::from_environment()?);
        let node = machine.node(conf)?;
        let subject = self.subject.named();
        let report = noise::watch(&node, &machine.online()?, &subject, self.duration)?;
        noise::confirm(&report, &machine.online()?)?;
        noise::print(&report, self.output)?;
        Ok(ExitCode::SUCCESS)
    }
}

impl Which {
    /// Exactly one is given.
    fn named(self) -> Subject {
        match (self.pool, self.cpus) {
            (Some(pool), _) => Subject::Pool(pool),
            (_, Some(cpus)) => Subject::Cpus(cpus),
            _ => Subject::Container(self.container.unwrap_or_default()),
        }
    }
}
