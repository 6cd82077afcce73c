//! Container engines: what each has to be told so that it calls the hook.

mod containerd;
mod hooks_d;
mod programs;

use std::path::{Path, PathBuf};

use anyhow::Context;
use kcm_core::host::files::Wanted;
use kcm_shim_config::hook::{HookCall, called_with};
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

/// How an engine's files have it call the hook.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Called {
    /// The pool of containers that ask for none, where the hook is called for these, too.
    pub(crate) default_pool: Option<String>,
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

    /// How its files, and nothing but these, have it call the hook with this configuration directory; none
    /// where they do not.
    pub(crate) fn called(self, conf_dir: &Path) -> anyhow::Result<Option<Called>> {
        match self {
            Self::Containerd => containerd::called(conf_dir),
            Self::Crio => hooks_d::called(Reader::Crio, conf_dir),
            Self::Podman => hooks_d::called(Reader::Podman, conf_dir),
        }
    }

    /// Whether it runs containers of pods alone: as far as it calls the hook, containerd does so for its
    /// CRI plugin only.
    pub(crate) fn is_of_pods(self) -> bool {
        matches!(self, Self::Containerd | Self::Crio)
    }

    /// The engines that are here: those whose program is; where no program is, as in a pod, those of whose
    /// configuration there is a folder.
    pub(crate) fn here() -> Vec<Self> {
        let all = Self::ALL.into_iter();
        let installed: Vec<Self> = all.filter(|engine| find(engine.program()).is_ok()).collect();
        if !installed.is_empty() {
            return installed;
        }
        let folders = [(Self::Containerd, "/etc/containerd"), (Self::Crio, "/etc/crio")];
        let seen = folders.into_iter().filter(|(_, folder)| Path::new(folder).is_dir());
        seen.map(|(engine, _)| engine).collect()
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
    (!is_for(entry, conf_dir))
        .then(|| format!("it calls the hook without --conf-dir={}", conf_dir.display()))
}

/// Whether a hook in an engine's files is called with this configuration directory.
fn is_for(entry: &serde_json::Value, conf_dir: &Path) -> bool {
    called_with(entry)[0].is_some_and(|named| Path::new(named) == conf_dir)
}
