//! Container engines: what each has to be told so that it calls the hook.

mod containerd;
mod crio;
mod podman;
mod programs;

use std::path::{Path, PathBuf};

use anyhow::Context;
use kcm_core::host::files::{self, Wanted};
use kcm_shim_config::hook::HookCall;
use kcm_shim_config::hooks_d;

pub(crate) use programs::{find, run};

/// A container engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub(crate) enum Engine {
    /// containerd, by its runtime handler `kcm`
    Containerd,
    /// CRI-O, by a hooks.d file
    Crio,
    /// podman, by a hooks.d file
    Podman,
}

/// What is to become of an engine's files.
pub(crate) struct Wiring {
    /// In the order in which they are to be made.
    pub(crate) files: Vec<Wanted>,
    /// Those that the engine reads when it starts alone.
    pub(crate) restart_for: Vec<PathBuf>,
}

/// The hooks.d file's name: engines read a folder's files by name, and a later folder's file
/// replaces an earlier one's of the same name.
pub(crate) const HOOKS_D_FILE: &str = "50-kcm.json";

impl Engine {
    /// Its name, as in `systemctl restart`.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Containerd => "containerd",
            Self::Crio => "crio",
            Self::Podman => "podman",
        }
    }

    /// The program without which it is not installed.
    pub(crate) fn program(self) -> &'static str {
        self.name()
    }

    /// What has it call the hook.
    pub(crate) fn install(self, call: &HookCall) -> anyhow::Result<Wiring> {
        let name = self.name();
        find(self.program()).with_context(|| format!("{name} is not installed"))?;
        let wiring = match self {
            Self::Containerd => containerd::install(call),
            Self::Crio => crio::install(call),
            Self::Podman => podman::install(call),
        };
        wiring.with_context(|| format!("cannot have {name} call the hook"))
    }

    /// What has it not call the hook any more, also where it is no longer installed.
    pub(crate) fn uninstall(self) -> anyhow::Result<Wiring> {
        let wiring = match self {
            Self::Containerd => containerd::uninstall(),
            Self::Crio => crio::uninstall(),
            Self::Podman => podman::uninstall(),
        };
        wiring.with_context(|| format!("cannot have {} not call the hook any more", self.name()))
    }
}

/// The hooks.d file in a folder.
fn hooks_d_file(folder: &str, call: &HookCall) -> anyhow::Result<Vec<Wanted>> {
    let path = Path::new(folder).join(HOOKS_D_FILE);
    ours_at(&path, hooks_d::render(call)?, is_our_hook)
}

/// No hooks.d file of ours in these folders.
fn no_hooks_d_file(folders: &[String]) -> anyhow::Result<Vec<Wanted>> {
    let paths = folders.iter().map(|folder| Path::new(folder).join(HOOKS_D_FILE));
    let files = paths.map(|path| not_ours_at(&path, is_our_hook));
    Ok(files.collect::<anyhow::Result<Vec<_>>>()?.concat())
}

fn is_our_hook(text: &str) -> bool {
    text.contains("/kcm-hook\"")
}

/// A file of ours, and, where somebody else's is there, that one beside it.
fn ours_at(path: &Path, text: String, is_ours: fn(&str) -> bool) -> anyhow::Result<Vec<Wanted>> {
    let theirs = files::read_text(path)?.filter(|text| !is_ours(text));
    let backup = theirs.map(|text| Wanted::file(backup_of(path), text, Some(0o600)));
    Ok(backup.into_iter().chain([Wanted::file(path, text, Some(0o644))]).collect())
}

/// That file as it was before: none, or somebody else's.
fn not_ours_at(path: &Path, is_ours: fn(&str) -> bool) -> anyhow::Result<Vec<Wanted>> {
    let backup = backup_of(path);
    Ok(match (files::read_text(path)?.filter(|text| is_ours(text)), files::read(&backup)?) {
        (None, _) => Vec::new(),
        (Some(_), None) => vec![Wanted::none(path)],
        (Some(_), Some(theirs)) => vec![Wanted::file(path, theirs, None), Wanted::none(backup)],
    })
}

fn backup_of(path: &Path) -> PathBuf {
    path.with_added_extension("kcm-backup")
}

/// Where an engine's own configuration has it look for hooks; none where that says nothing.
fn configured_hooks_dirs(
    reader: kcm_shim_config::hooks_dirs::Reader,
    configs: &[PathBuf],
) -> anyhow::Result<Option<Vec<String>>> {
    let mut dirs = None;
    for path in configs {
        let Some(text) = files::read_text(path)? else { continue };
        let named = kcm_shim_config::hooks_dirs::named(reader, &text);
        let named = named.with_context(|| path.display().to_string())?;
        dirs = named.or(dirs);
    }
    Ok(dirs)
}
