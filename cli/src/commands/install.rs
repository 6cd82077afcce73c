//! `kcm install`: the two programs, and engines that call the hook.

mod default_pool;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail, ensure};
use kcm_core::host::files::{self, Change, Wanted};
use kcm_core::host::trust;
use kcm_shim_config::hook::{self, HookCall};

use super::ConfDirFlag;
use crate::engines::{Engine, run, try_program};
use crate::guards::Known;
use crate::machine::Machine;
use crate::output::diff;
use default_pool::DefaultPool;

/// Installs kcm and kcm-hook, and has container engines call the hook
///
/// Without --runtime it only copies the two programs. Every file is written whole, and all of them or
/// none; a second time changes nothing. A file that was not made by kcm is kept beside itself, as
/// .kcm-backup.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  kcm install --runtime=containerd --restart
  kcm install --runtime=podman --default-pool=infra
  kcm install --runtime=podman --default-pool=auto    # only where it is needed
  kcm install --runtime=crio --root=/host     # from a container, onto its host
  kcm install --runtime=containerd --dry-run")]
pub(crate) struct Install {
    #[command(flatten)]
    place: Place,

    #[command(flatten)]
    conf_dir: ConfDirFlag,

    /// A shared pool for the containers that ask for none: the hook is then called for every container;
    /// auto: infra, but only where the kernel does not keep them off exclusive CPUs by itself
    #[arg(long, value_name = "POOL|auto")]
    default_pool: Option<DefaultPool>,

    /// Namespaces in which a container may still ask for no pool at all ("none"), as globs
    #[arg(long, value_name = "GLOB", value_delimiter = ',', requires = "default_pool")]
    allow_none: Vec<String>,
}

/// Where to install, and what to do besides; for `uninstall`, too.
#[derive(Debug, clap::Args)]
pub(super) struct Place {
    /// Where kcm is
    #[arg(long, value_name = "DIR", default_value = "/opt/bin")]
    install_dir: PathBuf,

    /// Where kcm-hook is: a folder that no pod mounts, since a runtime runs it as root
    #[arg(long, value_name = "DIR", default_value = "/opt/kcm")]
    hook_dir: PathBuf,

    /// An engine to configure; may be given several times
    #[arg(long = "runtime", value_name = "ENGINE")]
    runtimes: Vec<Engine>,

    /// The root of the node's file system, as a container has it mounted
    #[arg(long, value_name = "DIR", default_value = "/")]
    root: PathBuf,

    /// Print what would change, as a diff, and change nothing
    #[arg(long)]
    dry_run: bool,

    /// Restart the engines that have to be
    #[arg(long)]
    restart: bool,
}

impl Install {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        self.place.check()?;
        let partitions = Machine::from_environment().can_have_partitions();
        let partitions = partitions.map_err(|error| format!("{error:#}"));
        // They are in this root, which may not be the node's.
        let programs = self.place.programs()?;
        self.place.enter_root()?;
        let call = self.hook_call(&partitions)?;
        let mut files = programs;
        let mut restarts = Vec::new();
        for engine in self.place.engines() {
            let wiring = engine.install(&call)?;
            files.extend(wiring.files);
            restarts.push((engine, wiring.restart_for));
        }
        self.place.must_be_roots_alone(&files)?;
        if !self.place.make(files, &restarts)? {
            log::info!("Nothing to change.");
        }
        Ok(ExitCode::SUCCESS)
    }

    fn hook_call(&self, partitions: &Known<bool>) -> anyhow::Result<HookCall> {
        let conf_dir = &self.conf_dir.conf_dir;
        ensure!(conf_dir.is_absolute(), "--conf-dir={} is no absolute path", conf_dir.display());
        if !conf_dir.exists() {
            log::warn!(
                "there is no {} yet; until it is made, by kcm init, no container that asks for a \
                 pool starts",
                conf_dir.display()
            );
        }
        let choose = |flag: &DefaultPool| flag.choose(conf_dir, &self.place.engines(), partitions);
        let default_pool = self.default_pool.as_ref().map(choose).transpose()?.flatten();
        Ok(HookCall {
            program: self.place.hook_dir.join("kcm-hook"),
            conf_dir: conf_dir.clone(),
            default_pool: default_pool.map(|pool| hook::DefaultPool {
                pool: pool.to_string(),
                allow_none: self.allow_none.clone(),
            }),
        })
    }
}

impl Place {
    pub(super) fn check(&self) -> anyhow::Result<()> {
        for (flag, path) in [("install-dir", &self.install_dir), ("hook-dir", &self.hook_dir)] {
            ensure!(path.is_absolute(), "--{flag}={} is no absolute path", path.display());
        }
        ensure!(
            self.root.is_absolute() && self.root.is_dir(),
            "--root={} is no absolute path of a folder",
            self.root.display()
        );
        Ok(())
    }

    /// Each engine once, in a fixed order.
    pub(super) fn engines(&self) -> Vec<Engine> {
        let mut engines = self.runtimes.clone();
        engines.sort();
        engines.dedup();
        engines
    }

    pub(super) fn enter_root(&self) -> anyhow::Result<()> {
        if self.root != Path::new("/") {
            let entered = nix::unistd::chroot(&self.root).and_then(|()| nix::unistd::chdir("/"));
            entered
                .with_context(|| format!("cannot change the root to {}", self.root.display()))?;
        }
        Ok(())
    }

    /// This program, and the hook that came with it.
    fn programs(&self) -> anyhow::Result<Vec<Wanted>> {
        let kcm = std::env::current_exe().context("cannot tell which program this is")?;
        let hook = hook_of(&kcm)?;
        let read = |path: &Path| {
            let program = files::read(path)?;
            program.with_context(|| format!("{} is gone", path.display()))
        };
        Ok(vec![
            Wanted::file(self.kcm(), read(&kcm)?, Some(0o755)),
            Wanted::file(self.hook(), read(&hook)?, Some(0o755)),
        ])
    }

    pub(super) fn kcm(&self) -> PathBuf {
        self.install_dir.join("kcm")
    }

    pub(super) fn hook(&self) -> PathBuf {
        self.hook_dir.join("kcm-hook")
    }

    /// Fails if anybody but root may change one of these files, or put another in its place: each is
    /// run by root, or names what root runs. One of kcm's own that belongs to somebody else is
    /// replaced. A program must be where programs can be run.
    fn must_be_roots_alone(&self, wanted: &[Wanted]) -> anyhow::Result<()> {
        for file in wanted.iter().filter(|file| file.content.is_some()) {
            let place = trust::Place::find(&file.path)?;
            let unfit = match file.mode {
                Some(_) => place.replaceable(),
                None => place.writable(),
            };
            self.must_fit(&file.path, unfit)?;
            if file.mode.is_some_and(|mode| mode & 0o111 != 0) {
                self.must_fit(&file.path, place.not_executable()?)?;
            }
        }
        Ok(())
    }

    fn must_fit(&self, path: &Path, unfit: Option<trust::Unfit>) -> anyhow::Result<()> {
        let Some(unfit) = unfit else { return Ok(()) };
        let elsewhere = match () {
            () if *path == self.hook() => ", or give another folder with --hook-dir",
            () if *path == self.kcm() => ", or give another folder with --install-dir",
            () => "",
        };
        bail!("nothing was changed: {}: {unfit}; {}{elsewhere}", path.display(), unfit.remedy())
    }

    /// What can be told only when everything is there, and nothing in its place yet.
    fn try_staged(&self, changes: &[Change]) -> anyhow::Result<()> {
        for change in changes.iter().filter(|change| change.after().is_some()) {
            // Since it was looked at, a folder has been made, perhaps by somebody else.
            let place = trust::Place::find(change.asked())?;
            self.must_fit(change.asked(), place.replaceable())?;
            if change.is_program() {
                try_program(&change.staged())
                    .with_context(|| format!("{} would not run there", change.asked().display()))?;
            }
        }
        Ok(())
    }

    pub(super) fn is_dry_run(&self) -> bool {
        self.dry_run
    }

    /// Removes the hook's folder if that is left empty.
    pub(super) fn tidy(&self) {
        if !self.dry_run {
            files::remove_if_empty(&self.hook_dir);
        }
    }

    /// What is not as it is wanted; fails where that cannot be changed, since nothing can be written.
    pub(super) fn changes(&self, wanted: Vec<Wanted>) -> anyhow::Result<Vec<Change>> {
        let changes = files::changes(wanted)?;
        for change in &changes {
            self.must_fit(change.asked(), trust::Place::find(change.path())?.read_only()?)?;
        }
        Ok(changes)
    }

    /// Makes the files as they are wanted, or says how they would change; then restarts the engines
    /// whose files were changed, if that is asked for. Whether anything was to be changed.
    pub(super) fn make(
        &self,
        wanted: Vec<Wanted>,
        restarts: &[(Engine, Vec<PathBuf>)],
    ) -> anyhow::Result<bool> {
        let changes = self.changes(wanted)?;
        if self.dry_run {
            diff::print(&changes)?;
            return Ok(true);
        }
        files::apply_unless(&changes, || self.try_staged(&changes))
            .context("nothing was changed")?;
        for change in &changes {
            let verb = match (change.before(), change.after()) {
                (None, _) => "Made",
                (_, Some(_)) => "Changed",
                (_, None) => "Removed",
            };
            log::info!("{verb} {}.", change.path().display());
        }
        let has_changed = |path: &PathBuf| changes.iter().any(|change| change.asked() == path);
        let due = restarts.iter().filter(|(_, files)| files.iter().any(has_changed));
        due.map(|(engine, _)| engine.name()).try_for_each(|name| self.restart(name))?;
        Ok(!changes.is_empty())
    }

    fn restart(&self, name: &str) -> anyhow::Result<()> {
        if !self.restart {
            log::warn!(
                "{name} knows nothing of it until it is restarted: systemctl restart {name}"
            );
            return Ok(());
        }
        run("systemctl", &["try-restart", &format!("{name}.service")])
            .with_context(|| format!("all files are in place, but {name} was not restarted"))?;
        log::info!("Restarted {name}.");
        Ok(())
    }
}

/// The hook beside this program, or where the Debian package has it.
fn hook_of(kcm: &Path) -> anyhow::Result<PathBuf> {
    let folder = kcm.parent().unwrap_or(Path::new("/"));
    let places = [folder.join("kcm-hook"), folder.join("../lib/kcm/kcm-hook")];
    let found = places.iter().find(|path| path.is_file()).cloned();
    let fallback = || Some(PathBuf::from("/opt/kcm/kcm-hook")).filter(|path| path.is_file());
    found.or_else(fallback).with_context(|| {
        format!("there is no kcm-hook beside {}: unpack both programs together", kcm.display())
    })
}
