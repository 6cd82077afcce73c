//! The right process and the right cgroup: found and checked before anything is touched.

use std::path::{Path, PathBuf};
use std::time::Duration;

use kcm_core::host;
use kcm_core::host::cgroup::{self, Cgroup, Hierarchy, Version};
use kcm_core::host::procfs::{Blind, Procfs};
use kcm_core::host::systemd::{self, PRIVATE_SOCKET, Systemd};
use kcm_core::state::{ConfDir, LockTimeout};
use kcm_core::task::{Pid, Process};
use kcm_core::{CpuSet, Node};

/// For all that is asked of systemd for one container.
const SYSTEMD_LIMIT: Duration = Duration::from_secs(5);

/// A container's init and where it is.
pub(crate) struct Target {
    pub(crate) process: Process,
    /// Holds init and nothing else.
    pub(crate) cgroup: Cgroup,
    /// The container's scope, where systemd has one for it.
    pub(crate) scope: Option<Scope>,
    /// What the container may use at all: its parent's effective cpuset.
    pub(crate) usable: CpuSet,
}

/// A unit of systemd's that holds this container and nothing else.
pub(crate) struct Scope {
    pub(crate) unit: String,
    pub(crate) systemd: Systemd,
}

/// Why a process is not one to be pinned.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error(
        "the container state has {0} where a container's host PID is needed; configure the hook for \
         createRuntime, on the host"
    )]
    NoHostPid(String),
    #[error("the container's process {0} has ended already")]
    Ended(Pid),
    #[error("process {0} is in no cgroup of the cpuset controller")]
    NoCgroup(Pid),
    #[error(
        "the container has no cgroup of its own (its process is in {0}, with others or with its \
         runtime); start it with cgroups enabled"
    )]
    NotItsOwn(String),
    #[error(transparent)]
    Blind(#[from] Blind),
    #[error(transparent)]
    Host(#[from] host::Error),
    #[error(transparent)]
    Systemd(#[from] systemd::Error),
}

/// This node, as a hook on the host sees it.
pub(crate) fn node(conf_dir: PathBuf, limit: LockTimeout) -> Result<Node, host::Error> {
    let procfs = Procfs::new("/proc");
    let hierarchy = Hierarchy::find(Path::new("/sys/fs/cgroup"), &procfs.own_cgroup()?)?;
    Ok(Node { conf: ConfDir::new(conf_dir, limit), procfs, hierarchy, sys_root: "/".into() })
}

impl Target {
    /// Finds the container's process by the PID in its state, and makes sure that it is alone in a
    /// cgroup of its own.
    pub(crate) fn find(node: &Node, pid: Option<i64>) -> Result<Self, Error> {
        let not_host = || Error::NoHostPid(pid.map_or("no pid".into(), |pid| format!("pid {pid}")));
        let pid = pid.and_then(|pid| i32::try_from(pid).ok());
        let pid = pid.and_then(|pid| Pid::try_from(pid).ok()).filter(|&pid| pid != Pid::INIT);
        let pid = pid.ok_or_else(not_host)?;
        node.procfs.sees_the_host()?;
        let process = node.procfs.process(pid)?.ok_or(Error::Ended(pid))?;
        let cgroup = cgroup::of_process(&node.hierarchy, &node.procfs, pid)?;
        let cgroup = cgroup.ok_or(Error::NoCgroup(pid))?;
        let own = node.hierarchy.own();
        let holds_only_init = |cgroup: &Cgroup| -> Result<bool, host::Error> {
            let ours = cgroup.is_root() || cgroup.contains(&own);
            Ok(!ours && cgroup.processes()? == [pid])
        };
        if !holds_only_init(&cgroup)? {
            return Err(Error::NotItsOwn(cgroup.path().to_owned()));
        }
        let (scope, parent) = match scope_cgroup(&cgroup) {
            Some(at) if node.hierarchy.version() == Version::V2 && holds_only_init(&at)? => {
                match Scope::known_to_systemd(&at)? {
                    Some(scope) => (Some(scope), at.parent()),
                    None => (None, cgroup.parent()),
                }
            }
            _ => (None, cgroup.parent()),
        };
        let usable = parent.unwrap_or_else(|| node.hierarchy.at("/")).effective_cpus()?;
        Ok(Self { process, cgroup, scope, usable })
    }
}

/// The cgroup that may be the container's scope: its own, or the one right above where the runtime
/// made a subgroup in it (crun's `container`). Any other scope is a login session's or a nested
/// node's.
fn scope_cgroup(cgroup: &Cgroup) -> Option<Cgroup> {
    let is_scope = |cgroup: &Cgroup| cgroup.name().ends_with(".scope");
    if is_scope(cgroup) { Some(cgroup.clone()) } else { cgroup.parent().filter(is_scope) }
}

impl Scope {
    /// The unit of this cgroup, if systemd runs and has one of that name at that very place: a
    /// cgroup can have any name, also that of a scope elsewhere.
    fn known_to_systemd(at: &Cgroup) -> Result<Option<Self>, systemd::Error> {
        let unit = at.name().to_owned();
        let Some(mut systemd) = Systemd::connect(Path::new(PRIVATE_SOCKET), SYSTEMD_LIMIT)? else {
            return Ok(None);
        };
        let place = systemd.control_group(&unit)?;
        Ok((place.as_deref() == Some(at.path())).then_some(Self { unit, systemd }))
    }
}
