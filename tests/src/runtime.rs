//! Real runtimes, and scenes: one test run with one of them.

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use tempfile::TempDir;

use crate::bundle::make_rootfs;
use crate::conf_dir::ConfDir;
use crate::container::Builder;
use crate::kcm::bare;
use crate::log::Log;
use crate::machine::{self, Guest};

/// A runtime with the way in which it makes cgroups.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Runtime {
    /// `runc` or `crun`.
    pub program: &'static str,
    /// Whether systemd makes the cgroups (`--systemd-cgroup`).
    pub systemd: bool,
}

impl fmt::Display for Runtime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.program, if self.systemd { " --systemd-cgroup" } else { "" })
    }
}

impl Runtime {
    /// Every runtime of this machine, with systemd's cgroups where systemd is PID 1.
    pub fn all() -> Vec<Self> {
        let systemd = machine::guest() == Some(Guest::Systemd);
        let all = ["runc", "crun"].map(|program| Self { program, systemd });
        all.into_iter().filter(|runtime| runtime.is_there()).collect()
    }

    fn is_there(&self) -> bool {
        let version = Command::new(self.program).arg("--version").stdout(Stdio::null()).status();
        if version.is_err() {
            machine::skip(&format!("there is no {} on this machine", self.program));
        }
        version.is_ok()
    }

    /// The runtime with its global options.
    pub fn command(&self, root: &Path) -> Command {
        let mut command = Command::new(self.program);
        // A hook that is given no environment has the runtime's.
        bare(&mut command);
        command.arg("--root").arg(root);
        if self.systemd {
            command.arg("--systemd-cgroup");
        }
        command.stdin(Stdio::null());
        command
    }
}

/// Pools as (name, exclusive, CPU lists).
pub type Pools<'a> = [(&'a str, bool, &'a [&'a str])];

/// Plays a scene with every runtime of this machine.
pub fn with_every_runtime(pools: &Pools, play: impl Fn(&Scene) + Sync) {
    for runtime in Runtime::all() {
        with_runtime(runtime, pools, &play);
    }
}

/// Plays a scene with one runtime: in a thread of its own, since it gets a view of its own of the
/// machine's mounts.
pub fn with_runtime(runtime: Runtime, pools: &Pools, play: impl Fn(&Scene) + Sync) {
    let played =
        std::thread::scope(|threads| threads.spawn(|| play(&Scene::new(runtime, pools))).join());
    if let Err(panic) = played {
        eprintln!("with {runtime}: failed");
        std::panic::resume_unwind(panic);
    }
}

/// One runtime, a configuration directory, and a folder of cgroups. Removed when dropped, with all
/// containers.
#[derive(Debug)]
pub struct Scene {
    /// The runtime.
    pub runtime: Runtime,
    /// The configuration directory.
    pub conf: ConfDir,
    /// Temporary files.
    pub folder: PathBuf,
    name: String,
    log: Log,
    _folder: TempDir,
}

impl Scene {
    fn new(runtime: Runtime, pools: &Pools) -> Self {
        static SCENES: AtomicU32 = AtomicU32::new(0);
        let number = SCENES.fetch_add(1, Ordering::Relaxed);
        let temporary = tempfile::tempdir().unwrap();
        let folder = temporary.path().to_owned();
        make_rootfs(&folder.join("rootfs"));
        let log = Log::listen(&folder.join("log"));
        machine::private_view(&folder, &folder.join("log"));
        if runtime.program == "crun" {
            machine::hide_hybrid_hierarchy();
        }
        // In the name of a slice, a dash would stand for a slice above it.
        let name = format!("kcmtest{}x{number}", std::process::id());
        Self { runtime, conf: ConfDir::new(pools), folder, name, log, _folder: temporary }
    }

    /// A container that is to be.
    pub fn container(&self, id: &str) -> Builder<'_> {
        Builder::new(self, id)
    }

    /// The cgroup above the containers.
    pub fn parent_cgroup(&self) -> String {
        format!("/{}", if self.runtime.systemd { self.slice() } else { self.name.clone() })
    }

    /// What a bundle names as its cgroup.
    pub fn cgroups_path(&self, id: &str) -> String {
        if self.runtime.systemd {
            format!("{}:{}:{id}", self.slice(), self.name)
        } else {
            format!("/{}/{id}", self.name)
        }
    }

    /// Where a container's init then is.
    pub fn cgroup(&self, id: &str) -> String {
        match (self.runtime.systemd, self.runtime.program) {
            (false, _) => self.cgroups_path(id),
            (true, "crun") => format!("/{}/{}/container", self.slice(), self.scope(id)),
            (true, _) => format!("/{}/{}", self.slice(), self.scope(id)),
        }
    }

    /// The slice that systemd makes for this scene.
    pub fn slice(&self) -> String {
        format!("{}.slice", self.name)
    }

    /// The scope that systemd makes for a container.
    pub fn scope(&self, id: &str) -> String {
        format!("{}-{id}.scope", self.name)
    }

    /// Limits all containers to these CPUs, before the first one is made.
    pub fn limit_to(&self, cpus: &str) {
        if self.runtime.systemd {
            systemctl(&["start", &self.slice()]);
            systemctl(&[
                "set-property",
                "--runtime",
                &self.slice(),
                &format!("AllowedCPUs={cpus}"),
            ]);
        } else {
            machine::make_cgroup(&self.parent_cgroup(), cpus);
        }
    }

    /// What was logged so far.
    pub fn log(&self) -> String {
        self.log.text()
    }

    /// Waits until this was logged.
    pub fn logged(&self, text: &str) {
        self.log.has(text);
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        if self.runtime.systemd {
            let _ = Command::new("systemctl").args(["stop", &self.slice()]).status();
        }
        machine::remove_cgroup(&format!("/{}", self.name));
    }
}

/// Runs systemctl, in the guest.
#[track_caller]
pub fn systemctl(args: &[&str]) {
    machine::must_be_the_guest();
    let output = Command::new("systemctl").args(args).output().unwrap();
    assert!(output.status.success(), "systemctl {args:?}: {output:?}");
}
