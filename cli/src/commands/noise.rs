//! `kcm noise`: who runs on a CPU besides its owner.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use kcm_core::CpuSet;
use kcm_core::host::child::Inherited;
use kcm_core::pool::PoolName;
use kcm_core::state::{ConfDir, LockTimeout};

use super::ConfDirFlag;
use crate::machine::Machine;
use crate::noise::{self, Format, Gauging, Subject, span};

/// Shows who runs on CPUs besides those that hold them, how often and for how long
///
/// It watches what the kernel traces of these CPUs, which costs what runs there next to nothing. With
/// --measure it takes free CPUs of an exclusive pool and shows for how long a program there is kept from
/// running. SIGINT ends it early, with what was seen so far.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  kcm noise --pool=dataplane
  kcm noise --cpus=2-3 --duration=60s --output=svg > noise.svg
  kcm noise --container=4f1c0a --output=json > before.json
  kcm noise --container=4f1c0a --compare=before.json
  kcm noise --pool=dataplane --measure --cores=2")]
pub(crate) struct Noise {
    #[command(flatten)]
    conf_dir: ConfDirFlag,

    #[command(flatten)]
    subject: Which,

    /// For how long, as in 500ms, 10s or 2m
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = span::duration)]
    duration: Duration,

    /// Measure free CPUs instead: take them from the exclusive pool for the time, and read the clock
    #[arg(long, conflicts_with = "container")]
    measure: bool,

    /// How many CPU lists of the pool to measure: all or none
    #[arg(
        long,
        value_name = "N",
        default_value = "1",
        requires = "measure",
        conflicts_with = "cpus"
    )]
    cores: NonZeroUsize,

    /// From where on a gap between two readings is looked up in the trace
    #[arg(
        long,
        value_name = "TIME",
        default_value = "10us",
        requires = "measure",
        value_parser = span::threshold
    )]
    threshold: Duration,

    /// Show it beside an earlier run: a file that --output=json has written
    #[arg(long, value_name = "FILE")]
    compare: Option<PathBuf>,

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
        // Before the lock's time limit changes it.
        let inherited = Inherited::take().context("cannot tell which signals are blocked")?;
        // Not only when all has been looked at.
        let before = self.compare.as_deref().map(noise::compare::read).transpose()?;
        let machine = Machine::from_environment();
        let conf = ConfDir::new(&self.conf_dir.conf_dir, LockTimeout::from_environment()?);
        let node = machine.node(conf)?;
        let subject = self.subject.named();
        let (online, duration) = (machine.online()?, self.duration);
        let report = match self.measure {
            true => {
                let gauging = Gauging { cores: self.cores, threshold: self.threshold };
                noise::measure(&node, &online, &subject, duration, gauging, inherited)?
            }
            false => noise::watch(&node, &online, &subject, duration)?,
        };
        noise::confirm(&report, &machine.online()?)?;
        noise::print(report, before, self.output)?;
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
