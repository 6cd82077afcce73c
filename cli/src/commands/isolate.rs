//! `kcm isolate`: holds CPUs of a pool for the life of a command.

pub(crate) mod aside;
pub(crate) mod hold;
mod supervise;
mod words;

use std::ffi::OsString;
use std::num::NonZeroUsize;
use std::process::{Child, ExitCode};

use anyhow::Context;
use kcm_core::CpuSet;
use kcm_core::host::child::{self, Inherited, NotStarted, Place};
use kcm_core::host::{alarm, environ};
use kcm_core::pool::PoolName;
use kcm_core::state::{ConfDir, LockTimeout};

use super::ConfDirFlag;
use crate::logging;
use crate::machine::Machine;
use hold::{Held, Wish};
use supervise::Supervisor;
use words::Words;

/// kcm failed before the command was started.
pub(crate) const KCM_FAILED: u8 = 125;
const CANNOT_EXECUTE: u8 = 126;
const NOT_FOUND: u8 = 127;

/// Runs a command on CPUs of a pool, and holds them as long as anything lives that it started
///
/// The command's words after -- reach it as they are. COMMAND alone, with blanks or other characters
/// that a shell would look at, is run by /bin/sh. KCM_CPUS_ASSIGNED (as in 2-3,10) and
/// KCM_CPUS_ASSIGNED_MASK (in hexadecimal, as in 40C) tell the command its CPUs.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  kcm isolate --pool=dataplane testpmd -- -l 2,10 --no-pci
  kcm isolate --pool=dataplane --cores=2 /bin/bash -- -c 'foo && bar || baz'
  kcm isolate --pool=controlplane 'env | grep KCM_'

In a container, mount the host's /proc and set KCM_PROC_FS to where it is.

Exit status: that of COMMAND, 128+N if signal N ended it; 125 if kcm failed before it was started; 126
if it cannot be executed, 127 if it is not found; 2 wrong usage.")]
pub(crate) struct Isolate {
    #[command(flatten)]
    conf_dir: ConfDirFlag,

    /// The pool to take CPUs of
    #[arg(long)]
    pool: PoolName,

    /// How many CPU lists of an exclusive pool to take: all or none
    #[arg(long, value_name = "N", default_value = "1", allow_negative_numbers = true)]
    cores: NonZeroUsize,

    /// Only hold the CPUs: the command binds its threads itself
    #[arg(long)]
    no_affinity: bool,

    /// The command, or a line of shell
    #[arg(required_unless_present = "args")]
    command: Option<OsString>,

    /// The command's arguments
    #[arg(last = true, value_name = "ARG")]
    args: Vec<OsString>,
}

impl Isolate {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        // Before the lock's time limit changes it.
        let inherited = Inherited::take().context("cannot tell which signals are blocked")?;
        alarm::end_with(KCM_FAILED);
        let words = Words::new(self.command.clone(), self.args.clone());
        let machine = Machine::from_environment();
        let conf = ConfDir::new(&self.conf_dir.conf_dir, LockTimeout::from_environment()?);
        let node = machine.node(conf)?;
        let online = machine.online()?;
        let mut held = Held::take(&self.wish(&words), &node, &online)?;
        let ended = self.run_on(&mut held, &words, inherited);
        // Also where the command never ran.
        held.give_back();
        ended.map(ExitCode::from)
    }

    fn wish(&self, words: &Words) -> Wish {
        Wish {
            pool: self.pool.clone(),
            cores: self.cores,
            within: None,
            affinity: !self.no_affinity,
            command: words.for_the_record(),
        }
    }

    /// Runs the command to its end, and to that of all that it started. The status to pass on.
    fn run_on(
        &self,
        held: &mut Held<'_>,
        words: &Words,
        inherited: Inherited,
    ) -> anyhow::Result<u8> {
        let cpus = held.cpus().clone();
        let place = Place { cgroup: held.entrance()?, cpus: Some(held.commands_cpus()) };
        let mut command = words.command();
        command.env("KCM_CPUS_ASSIGNED", cpus.to_string());
        command.env("KCM_CPUS_ASSIGNED_MASK", cpus.to_hex());
        match held.mark() {
            Some(mark) => command.env(environ::VARIABLE, mark),
            // Another's, around this one.
            None => command.env_remove(environ::VARIABLE),
        };
        let supervisor = Supervisor::new().context("cannot set up the passing on of signals")?;
        let started = child::spawn(command, inherited, place);
        held.is_entered();
        match started {
            Ok(child) => self.supervise(supervisor, &child, words, &cpus),
            Err(NotStarted::Exec(e)) => {
                let program = words.program().to_string_lossy();
                logging::failure(&anyhow::anyhow!("cannot execute {program:?}: {e}"));
                let is_missing = e.kind() == std::io::ErrorKind::NotFound;
                Ok(if is_missing { NOT_FOUND } else { CANNOT_EXECUTE })
            }
            Err(error) => Err(error.into()),
        }
    }

    fn supervise(
        &self,
        supervisor: Supervisor,
        child: &Child,
        words: &Words,
        cpus: &CpuSet,
    ) -> anyhow::Result<u8> {
        let program = words.program().to_string_lossy();
        let tell = |left: &[String]| {
            log::info!(
                "{program:?} has ended; CPUs {cpus} of pool {} stay held until what it started has \
                 ended, too: {}",
                self.pool,
                left.join(", ")
            );
        };
        supervisor.wait(child, tell).context("cannot wait for the command")
    }
}
