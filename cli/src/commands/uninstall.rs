//! `kcm uninstall`: what `kcm install` has done, undone.

use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, bail, ensure};
use kcm_core::allocation::Allocation;
use kcm_core::host::files::{self, Wanted};
use kcm_core::host::partition;
use kcm_core::host::shield_state::StateFile;
use kcm_core::host::workqueues::Workqueues;
use kcm_core::node::Left;
use kcm_core::plan::Slot;
use kcm_core::state::{ConfDir, Contents, LockTimeout, Purged};

use super::ConfDirFlag;
use super::install::Place;
use crate::engines::Engine;
use crate::logging;
use crate::machine::Machine;

/// Takes kcm out of container engines, and removes its programs
///
/// First the engines' configuration, as it was before, then the programs. The configuration directory
/// stays, but with --purge, which is refused while anything alive holds a CPU list.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  kcm uninstall --runtime=containerd --restart
  kcm uninstall --runtime=podman --purge")]
pub(crate) struct Uninstall {
    #[command(flatten)]
    place: Place,

    #[command(flatten)]
    conf_dir: ConfDirFlag,

    /// Remove the configuration directory, too
    #[arg(long)]
    purge: bool,
}

impl Uninstall {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        self.place.check()?;
        self.place.enter_root()?;
        must_be_off()?;
        let mut files = Vec::new();
        let mut restarts = Vec::new();
        for engine in self.place.engines() {
            let wiring = engine.uninstall()?;
            files.extend(wiring.files);
            restarts.push((engine, wiring.restart_for));
        }
        self.nobody_else_may_call_the_hook(&files)?;
        let programs = [self.place.hook(), self.place.kcm()].map(Wanted::none);
        // Before anything is taken away.
        self.place.changes(programs.to_vec())?;
        if self.purge {
            self.may_be_purged()?;
        }
        // First, since an engine whose hook is missing starts no container that asks for it, or, as
        // podman does, starts it unpinned.
        let mut has_changed = self.place.make(files, &restarts)?;
        has_changed |= self.place.make(programs.to_vec(), &[])?;
        self.place.tidy();
        has_changed |= self.leave_partitions();
        has_changed |= self.restore_workqueues();
        if self.purge {
            has_changed |= self.purge()?;
        }
        if !has_changed {
            log::info!("Nothing to change.");
        }
        Ok(ExitCode::SUCCESS)
    }
}

impl Uninstall {
    /// An engine that was not named would go on calling a hook that is not there.
    fn nobody_else_may_call_the_hook(&self, files: &[Wanted]) -> anyhow::Result<()> {
        if !self.place.hook().exists() {
            return Ok(());
        }
        let named = self.place.engines();
        for engine in Engine::ALL.into_iter().filter(|engine| !named.contains(engine)) {
            let left = engine.uninstall()?.files.into_iter();
            let left = files::changes(left.filter(|file| !files.contains(file)).collect())?;
            if let Some(file) = left.first() {
                bail!(
                    "{name} still calls {hook} (by {file}): give --runtime={name}, too",
                    name = engine.name(),
                    hook = self.place.hook().display(),
                    file = file.path().display(),
                );
            }
        }
        Ok(())
    }

    /// Has nobody have CPUs for himself alone any more: what cgroups above a container set aside would
    /// stay so after its end, in everybody's way, since no hook would give it back.
    fn leave_partitions(&self) -> bool {
        let path = &self.conf_dir.conf_dir;
        if !path.join("pools").exists() {
            return false;
        }
        let left = self.partitions_left().unwrap_or_else(|error| {
            log::warn!(
                "CPUs of containers stay set aside in the cgroups above them, until the boot: {error:#}"
            );
            Vec::new()
        });
        let when = if self.place.is_dry_run() { "then" } else { "from now on" };
        for Left { record, result } in &left {
            let (owner, pid, cpus) = (&record.owner, record.process.pid, record.cpus());
            match result {
                Ok(()) => log::warn!(
                    "others may run on CPUs {cpus} of {owner} (process {pid}), too, {when}: without kcm nobody \
                     would give back at its end what is set aside for it; it stays on them; to have them its \
                     alone again, install kcm, and run kcm reconcile --repair"
                ),
                Err(why) => log::warn!(
                    "CPUs {cpus} of {owner} (process {pid}) stay set aside in the cgroups above it, also \
                     after its end, until the boot: {why}"
                ),
            }
        }
        !left.is_empty()
    }

    fn partitions_left(&self) -> anyhow::Result<Vec<Left>> {
        let conf = ConfDir::new(&self.conf_dir.conf_dir, LockTimeout::from_environment()?);
        if !self.place.is_dry_run() {
            return Ok(Machine::from_environment().node(conf)?.leave_partitions()?);
        }
        let (records, notice) = conf.read(Contents::records)?;
        logging::notices(notice);
        let has_one = |record: &Allocation| record.partition.is_some();
        Ok(records
            .readable
            .into_iter()
            .filter(has_one)
            .map(|record| Left { record, result: Ok(()) })
            .collect())
    }

    /// Puts CPUs back into the mask of the kernel's workqueues that hooks have taken out of it.
    fn restore_workqueues(&self) -> bool {
        if self.place.is_dry_run() {
            return false;
        }
        let hierarchy = Machine::from_environment().hierarchy().ok();
        let root = Path::new("/");
        let given_back = partition::taken_or_isolated(hierarchy.as_ref(), root)
            .and_then(|partitions| Workqueues::new(root).give_back(&partitions));
        match given_back {
            Ok(cpus) if cpus.is_empty() => false,
            Ok(cpus) => {
                log::info!("The kernel's workqueues may use CPUs {cpus} again.");
                true
            }
            Err(error) => {
                log::warn!("the kernel's workqueues stay off the exclusive pools' CPUs: {error}");
                false
            }
        }
    }

    /// Fails if there is anything that forbids to remove the configuration directory. What the dead
    /// hold is given back first.
    fn may_be_purged(&self) -> anyhow::Result<()> {
        let path = &self.conf_dir.conf_dir;
        let conf = ConfDir::new(path, LockTimeout::from_environment()?);
        // Before the lock, which would be made in somebody else's directory.
        let paths = conf.purgeable().context(NOTHING_CHANGED)?;
        if !paths.contains(&path.join("pools")) {
            return Ok(());
        }
        if self.place.is_dry_run() {
            let (unused, notice) = conf.read(|contents| anyhow::Ok(is_unused(path, contents)))?;
            logging::notices(notice);
            unused.unwrap_or_else(|e| log::warn!("{e:#}; unless that is dead"));
            return Ok(());
        }
        let mut notices = Vec::new();
        let reconciled = Machine::from_environment().node(conf.clone())?.reconcile(&mut notices);
        logging::notices(notices);
        reconciled.with_context(|| format!("cannot tell who uses {}", path.display()))?;
        let (_, notice) = conf.read(|contents| is_unused(path, contents))?;
        logging::notices(notice);
        Ok(())
    }

    /// Whether there was anything to remove.
    fn purge(&self) -> anyhow::Result<bool> {
        let path = &self.conf_dir.conf_dir;
        let conf = ConfDir::new(path, LockTimeout::from_environment()?);
        if self.place.is_dry_run() {
            let lines =
                conf.purgeable()?.into_iter().map(|it| format!("Remove {}\n", it.display()));
            let text: String = lines.collect();
            std::io::stdout()
                .write_all(text.as_bytes())
                .context("cannot write to standard output")?;
            return Ok(true);
        }
        if !path.exists() {
            return Ok(false);
        }
        match conf.purge(|contents| is_unused(path, contents))? {
            Purged::Gone => log::info!("Removed {}.", path.display()),
            Purged::Stays(why) => {
                log::warn!(
                    "Removed all that is kcm's in {}; the folder stays: {why}",
                    path.display()
                );
            }
        }
        Ok(true)
    }
}

/// Fails under a shield, which nobody could take off without kcm.
fn must_be_off() -> anyhow::Result<()> {
    // Where that cannot be told, there was none in this boot, or only root could have one.
    let boot_id = Machine::from_environment().boot_id();
    let state = boot_id.ok().and_then(|boot_id| StateFile::default().read(&boot_id).ok());
    ensure!(
        state.flatten().is_none(),
        "the shield is on, and nobody could take it off without kcm: kcm shield off (or systemctl \
         disable --now kcm-shield) first; nothing was changed"
    );
    Ok(())
}

const NOTHING_CHANGED: &str = "nothing was changed";

/// Fails if any CPU list has a task, or anybody a record: after a reconcile, one that lives, or that
/// cannot be judged.
fn is_unused(path: &Path, contents: &Contents) -> anyhow::Result<()> {
    let path = path.display();
    for name in contents.pool_names()? {
        for list in contents.pool(&name)?.pool.lists {
            let pids = contents.tasks(&Slot::new(&name, &list.name))?.unwrap_or_default();
            let pids: Vec<String> = pids.iter().map(ToString::to_string).collect();
            ensure!(
                pids.is_empty(),
                "{path} stays: CPU list {list} of pool {name} is held by process {}; end that first",
                pids.join(", "),
                list = list.name,
            );
        }
    }
    if let Some(record) = contents.records()?.readable.first() {
        let (owner, pid) = (&record.owner, record.process.pid);
        bail!("{path} stays: CPUs are held by {owner} (process {pid}); end that first");
    }
    Ok(())
}
