//! `kcm shield`: keeps the node's own work off the CPUs of exclusive pools.

use std::process::ExitCode;

use anyhow::{Context, bail, ensure};
use kcm_core::CpuSet;
use kcm_core::host::shield::{Aim, Done, Host, carry_out};
use kcm_core::host::shield_state::{Refused, State, StateFile};
use kcm_core::plan::shield::{Kept, Kind, Plan};
use kcm_core::state::{ConfDir, LockTimeout};
use nix::unistd::geteuid;

use super::{ConfDirFlag, Format};
use crate::machine::Machine;
use crate::shield::report::{Mode, Report, Standing};
use crate::shield::{Flags, status, wish_of};
use crate::{logging, output};

/// Keeps the node's own work off the CPUs of exclusive pools, at once and until the next boot
///
/// Services and logins, interrupts, kernel threads and unbound kernel work go to the other CPUs.
/// Everything is read back; what cannot be moved is named, with the kernel parameters that would.
/// What was there before is kept in /var/lib/kcm/shield.json, and off restores it.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  kcm shield on --dry-run
  kcm shield on --latency=0 --governor=performance
  kcm shield status --output=json | jq '.left'
  kcm shield off
  systemctl enable --now kcm-shield.service          # at each boot")]
pub(crate) struct Shield {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Puts it on, or plans it anew after another init
    On(On),
    /// Takes it off: everything that nobody has changed since is as it was before
    Off(Off),
    /// Shows what is set, what is not, and what cannot be
    Status(Status),
}

/// The kernel has it in a signed number of 32 bits.
const MOST_LATENCY: i64 = i32::MAX as i64;

#[derive(Debug, clap::Args)]
struct On {
    #[command(flatten)]
    conf_dir: ConfDirFlag,

    /// Microseconds that a CPU of an exclusive pool may take to wake up, by which it sleeps less deep;
    /// 0: it does not sleep
    #[arg(long, value_name = "MICROSECONDS", value_parser = clap::value_parser!(u32).range(..=MOST_LATENCY))]
    latency: Option<u32>,

    /// The frequency governor of the CPUs of exclusive pools
    #[arg(long, value_name = "GOVERNOR")]
    governor: Option<String>,

    #[command(flatten)]
    how: How,
}

#[derive(Debug, clap::Args)]
struct Off {
    #[command(flatten)]
    how: How,
}

#[derive(Debug, clap::Args)]
struct How {
    /// Print what would be set, and set nothing
    #[arg(long)]
    dry_run: bool,

    #[command(flatten)]
    output: Output,
}

#[derive(Debug, clap::Args)]
struct Status {
    #[command(flatten)]
    conf_dir: ConfDirFlag,

    #[command(flatten)]
    output: Output,
}

#[derive(Debug, clap::Args)]
struct Output {
    /// How to print it
    #[arg(long, value_name = "FORMAT", default_value = "table")]
    output: Format,
}

impl Output {
    fn print(&self, report: &Report) -> anyhow::Result<()> {
        match self.output {
            Format::Json => output::json::print(report),
            Format::Table => crate::shield::table::print(report),
        }
    }
}

impl Shield {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        ensure!(
            geteuid().is_root(),
            "kcm shield needs root: it looks at, and sets, the whole node"
        );
        match self.action {
            Action::On(on) => on.run(),
            Action::Off(off) => off.run(),
            Action::Status(status) => status.run(),
        }
    }
}

impl On {
    fn run(self) -> anyhow::Result<ExitCode> {
        let Self { conf_dir, latency, governor, how } = self;
        let machine = Machine::from_environment();
        let mut host = machine.shield_host()?;
        let conf = ConfDir::new(&conf_dir.conf_dir, LockTimeout::from_environment()?);
        let wish = wish_of(&conf, &machine, &host, Flags { latency, governor: governor.clone() })?;
        if let Some(governor) = &governor {
            must_be_governor(&host, &wish.shield, governor)?;
        }
        let file = StateFile::default();
        let _locked = (!how.dry_run).then(|| file.lock()).transpose()?;
        let boot_id = machine.boot_id()?;
        let before = file.read(&boot_id)?.unwrap_or_default();
        let plan = host.plan_on(&before.items, &wish)?;
        let mut report = Report::new(&mut host, &wish)?;
        if how.dry_run {
            report.planned(&host, plan);
            report.finish(&host, &wish)?;
            how.output.print(&report)?;
            return Ok(ExitCode::SUCCESS);
        }
        must_be_writable(&host)?;
        let mut state = State {
            boot_id,
            conf_dir: conf_dir.conf_dir,
            cpus: wish.shield.to_string(),
            governor,
            latency,
            ..State::default()
        };
        let left = plan.left.clone();
        let done =
            carry_out(&mut host, Aim::On, plan.steps, |items| keep(&file, &mut state, items))?;
        state.refused = done.iter().filter_map(refused).collect();
        file.write(&state)?;
        report.done(&host, &done, Standing::Set);
        report.left(&host, left);
        report.finish(&host, &wish)?;
        how.output.print(&report)?;
        log::info!("The shield is on: the node's own work keeps off CPUs {}.", wish.shield);
        Ok(ended(&done))
    }
}

impl Off {
    fn run(self) -> anyhow::Result<ExitCode> {
        let machine = Machine::from_environment();
        let mut host = machine.shield_host()?;
        let file = StateFile::default();
        let _locked = (!self.how.dry_run).then(|| file.lock()).transpose()?;
        let Some(mut state) = file.read(&machine.boot_id()?)? else {
            log::info!("The shield is off: there is nothing to undo.");
            self.how.output.print(&Report::off(&mut host))?;
            return Ok(ExitCode::SUCCESS);
        };
        let Plan { steps, left } = host.plan_off(&state.items)?;
        let mut report = Report::off(&mut host);
        if self.how.dry_run {
            report.planned(&host, Plan { steps, left });
            self.how.output.print(&report)?;
            return Ok(ExitCode::SUCCESS);
        }
        must_be_writable(&host)?;
        let done = carry_out(&mut host, Aim::Off, steps, |items| keep(&file, &mut state, items))?;
        (state.cpus, state.refused) = (String::new(), Vec::new());
        file.write(&state)?;
        let mut report = Report::off(&mut host);
        report.done(&host, &done, Standing::GivenBack);
        for it in &left {
            let (kind, name, now) = (it.item.kind.word(), &it.item.name, &it.now);
            log::warn!("{kind} {name} keeps {now}: {}", it.why);
        }
        report.left(&host, left);
        if !state.items.is_empty() {
            report.shield = Mode::Partly;
        }
        self.how.output.print(&report)?;
        if state.items.is_empty() {
            log::info!("The shield is off.");
        }
        Ok(ended(&done))
    }
}

impl Status {
    fn run(self) -> anyhow::Result<ExitCode> {
        let machine = Machine::from_environment();
        let conf = ConfDir::new(&self.conf_dir.conf_dir, LockTimeout::from_environment()?);
        let report = status(&conf, &machine, &StateFile::default())?;
        self.output.print(&report)?;
        Ok(ExitCode::SUCCESS)
    }
}

fn must_be_governor(host: &Host, cpus: &CpuSet, governor: &str) -> anyhow::Result<()> {
    let Some(all) = host.governors(cpus) else {
        bail!("CPUs {cpus} have no frequency governor on this machine: leave --governor out");
    };
    ensure!(
        all.iter().any(|name| name == governor),
        "--governor={governor} is none that CPUs {cpus} can have: give one of {}",
        all.join(", ")
    );
    Ok(())
}

/// Writes down what is remembered of items.
fn keep(file: &StateFile, state: &mut State, items: Vec<Kept>) -> anyhow::Result<()> {
    state.items = items;
    file.write(state).with_context(|| "nothing more is changed than is written down")
}

fn must_be_writable(host: &Host) -> anyhow::Result<()> {
    if let Some(path) = host.read_only() {
        bail!(
            "{} is read-only here, and nothing was changed: run kcm shield on the node itself, or in a \
             container that has it writable (privileged)",
            path.display()
        );
    }
    Ok(())
}

fn refused(done: &Done) -> Option<Refused> {
    let why = done.failure.clone()?;
    Some(Refused { item: done.step.item.clone(), why })
}

/// That the kernel keeps an interrupt or a thread where it is, is how it is; anything else that could
/// not be set is an error.
fn ended(done: &[Done]) -> ExitCode {
    let mut code = ExitCode::SUCCESS;
    for Done { step, failure, .. } in done {
        let is_usual =
            matches!(step.item.kind, Kind::Interrupt | Kind::KernelThread | Kind::Thread);
        if let Some(why) = failure.as_ref().filter(|_| !is_usual) {
            let (kind, name) = (step.item.kind.word(), &step.item.name);
            logging::failure(&anyhow::anyhow!("{kind} {name} is not as it should be: {why}"));
            code = ExitCode::FAILURE;
        }
    }
    code
}
