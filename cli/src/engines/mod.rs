//! Container engines: what each has to be told so that it calls the hook.

mod containerd;
mod hooks_d;
mod programs;

use std::path::{Path, PathBuf};

use anyhow::Context;
use kcm_core::host::files::Wanted;
use kcm_shim_config::hook::HookCall;
use kcm_shim_config::hooks_dirs::Reader;

pub(crate) use programs::{find, run, try_program};

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

/// Whether an engine calls the hook, as far as its files say.
pub(crate) enum Wired {
    /// It does; how.
    Yes(String),
    /// It does, and something about it is no longer up to date.
    Stale(String),
    /// It was never told to.
    No(String),
    /// It was told something else.
    Wrong(String),
}

impl Engine {
    /// Every engine.
    pub(crate) const ALL: [Self; 3] = [Self::Containerd, Self::Crio, Self::Podman];

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
            Self::Crio => hooks_d::install(Reader::Crio, call),
            Self::Podman => hooks_d::install(Reader::Podman, call),
        };
        wiring.with_context(|| format!("cannot have {name} call the hook"))
    }

    /// Whether it calls this hook with this configuration directory.
    pub(crate) fn wired(self, hook: &Path, conf_dir: &Path) -> anyhow::Result<Wired> {
        match self {
            Self::Containerd => containerd::wired(hook, conf_dir),
            Self::Crio => hooks_d::wired(Reader::Crio, hook, conf_dir),
            Self::Podman => hooks_d::wired(Reader::Podman, hook, conf_dir),
        }
    }

    /// The files by which it calls the hook, as far as they are there.
    pub(crate) fn files(self) -> anyhow::Result<Vec<PathBuf>> {
        match self {
            Self::Containerd => Ok(containerd::files()),
            Self::Crio => hooks_d::files(Reader::Crio),
            Self::Podman => hooks_d::files(Reader::Podman),
        }
    }

    /// What has it not call the hook any more, also where it is no longer installed.
    pub(crate) fn uninstall(self) -> anyhow::Result<Wiring> {
        let wiring = match self {
            Self::Containerd => containerd::uninstall(),
            Self::Crio => hooks_d::uninstall(Reader::Crio),
            Self::Podman => hooks_d::uninstall(Reader::Podman),
        };
        wiring.with_context(|| format!("cannot have {} not call the hook any more", self.name()))
    }
}

/// What a hook in an engine's files does otherwise than it is meant; none where all is well.
fn what_is_wrong(entry: &serde_json::Value, hook: &Path, conf_dir: &Path) -> Option<String> {
    let program = entry["path"].as_str().unwrap_or_default();
    if Path::new(program) != hook {
        return Some(format!("it names {program:?}, and not {}", hook.display()));
    }
    if !hook.is_file() {
        return Some(format!("it names {program}, which is not there"));
    }
    let flag = format!("--conf-dir={}", conf_dir.display());
    let has_flag =
        entry["args"].as_array().is_some_and(|args| args.iter().any(|arg| *arg == *flag));
    (!has_flag).then(|| format!("it calls the hook without {flag}"))
}
