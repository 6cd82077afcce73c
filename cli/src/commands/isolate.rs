//! `kcm isolate`: holds CPUs of a pool for the life of a command.

mod supervise;
mod words;

use std::ffi::OsString;
use std::num::NonZeroUsize;
use std::process::{Child, ExitCode};

use anyhow::{Context, ensure};
use kcm_core::allocation::{Allocation, Details, Owner};
use kcm_core::host::child::Inherited;
use kcm_core::host::{affinity, alarm, child};
use kcm_core::node::{self, Granted};
use kcm_core::pool::PoolName;
use kcm_core::request::Request;
use kcm_core::state::{ConfDir, LockTimeout};
use kcm_core::task::Process;
use kcm_core::{CpuSet, Node};
use nix::errno::Errno;

use super::ConfDirFlag;
use crate::logging;
use crate::machine::Machine;
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
        let allocation = self.allocate(&node, &machine.online()?, &words)?;
        let ended = self.hold(&allocation, &words, inherited);
        // Also where the command never ran.
        give_back(&node, &allocation);
        ended.map(ExitCode::from)
    }

    fn allocate(&self, node: &Node, online: &CpuSet, words: &Words) -> anyhow::Result<Allocation> {
        let pid = node.procfs.own_pid().context("cannot tell this process's host PID")?;
        let process = node.procfs.process(pid)?.context("cannot read this process's own state")?;
        let usable = affinity::reachable(online).context("cannot tell which CPUs may be used")?;
        let mut request = Request {
            owner: owner(&process, false)?,
            process,
            pool: self.pool.clone(),
            cores: self.cores,
            usable,
            cgroup: None,
            affinity: !self.no_affinity,
            details: Details { command: Some(words.for_the_record()), ..Details::default() },
        };
        let mut notices = Vec::new();
        let mut granted = node.allocate(&request, &mut notices);
        if let Err(node::Error::OwnerTaken { .. }) = granted {
            // Left by an earlier process with our PID, which was killed.
            request.owner = owner(&request.process, true)?;
            granted = node.allocate(&request, &mut notices);
        }
        logging::notices(notices);
        let Granted { allocation, hold, .. } = granted?;
        if let Some(hold) = hold {
            hold.pass_on().context("cannot pass the lock of the record on to the command")?;
        }
        log::debug!("holding CPUs {} of pool {}", allocation.cpus(), allocation.pool);
        Ok(allocation)
    }

    /// Runs the command to its end, and to that of all that it started. The status to pass on.
    fn hold(
        &self,
        allocation: &Allocation,
        words: &Words,
        inherited: Inherited,
    ) -> anyhow::Result<u8> {
        let cpus = allocation.cpus();
        if allocation.affinity {
            bind(&cpus)?;
        }
        let mut command = words.command();
        command.env("KCM_CPUS_ASSIGNED", cpus.to_string());
        command.env("KCM_CPUS_ASSIGNED_MASK", cpus.to_hex());
        let supervisor = Supervisor::new().context("cannot set up the passing on of signals")?;
        match child::spawn(command, inherited) {
            Ok(child) => self.supervise(supervisor, &child, words, &cpus),
            Err(e) if matches!(Errno::from_raw(os_error(&e)), Errno::EAGAIN | Errno::ENOMEM) => {
                Err(e).context("cannot start a process")
            }
            Err(e) => {
                let program = words.program().to_string_lossy();
                logging::failure(&anyhow::anyhow!("cannot execute {program:?}: {e}"));
                let is_missing = e.kind() == std::io::ErrorKind::NotFound;
                Ok(if is_missing { NOT_FOUND } else { CANNOT_EXECUTE })
            }
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

/// `isolate-<host pid>`; where that is taken, with the start time, too, which no two processes of
/// one PID share.
fn owner(process: &Process, is_taken: bool) -> anyhow::Result<Owner> {
    let Process { pid, start_time, .. } = process;
    Ok(match is_taken {
        false => format!("isolate-{pid}").parse()?,
        true => format!("isolate-{pid}-{}", start_time.unwrap_or_default()).parse()?,
    })
}

/// Binds this process, and so all that it starts. The kernel silently leaves out what the cpuset
/// does not have.
fn bind(cpus: &CpuSet) -> anyhow::Result<()> {
    let failed = || format!("cannot bind this process to CPUs {cpus}");
    affinity::bind_self(cpus).with_context(failed)?;
    let actual = affinity::own().with_context(failed)?;
    ensure!(
        actual == *cpus,
        "this process may run on CPUs {actual} after it was bound to {cpus}; see who else sets \
         cpusets here, or give --no-affinity"
    );
    Ok(())
}

/// What cannot be given back now is taken back by the next allocation: this process is dead then.
fn give_back(node: &Node, allocation: &Allocation) {
    let mut notices = Vec::new();
    let result = node.give_back(allocation, &mut notices);
    logging::notices(notices);
    if let Err(error) = result {
        let error = anyhow::Error::from(error);
        log::warn!("cannot give back the CPUs now: {error:#}; the next allocation will take them");
    }
}

fn os_error(error: &std::io::Error) -> i32 {
    error.raw_os_error().unwrap_or_default()
}
