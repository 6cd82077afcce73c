//! The right process and the right cgroup: found and checked before anything is touched.

use std::path::{Path, PathBuf};

use kcm_core::allocation::CgroupId;
use kcm_core::host;
use kcm_core::host::cgroup::{self, Cgroup, Hierarchy};
use kcm_core::host::criu;
use kcm_core::host::procfs::{Blind, Procfs};
use kcm_core::host::scope::{self, Scope};
use kcm_core::state::{ConfDir, LockTimeout};
use kcm_core::task::{Pid, Process};
use kcm_core::{CpuSet, Node};

/// A container's init and where it is.
pub(crate) struct Target {
    pub(crate) process: Process,
    /// Holds init and nothing else, but for the CRIU that restores it.
    pub(crate) cgroup: Cgroup,
    /// Which one that is.
    pub(crate) cgroup_id: CgroupId,
    /// The container's scope, where systemd has one for it.
    pub(crate) scope: Option<Scope>,
    /// What the container may use at all: its parent's effective cpuset.
    pub(crate) usable: CpuSet,
    /// The CPUs that it had when its checkpoint was made; none for a new container.
    pub(crate) had: Option<CpuSet>,
}

/// Who called, for what.
#[derive(Clone, Copy)]
pub(crate) struct Call {
    /// The runtime's process, or whatever it had us started by.
    pub(crate) runtime: u32,
    /// The host PID in the container's state.
    pub(crate) pid: Option<i64>,
    /// Whether the state is that of a container that is being restored.
    pub(crate) is_restored: bool,
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
    #[error(
        "the container cannot be restored into {cgroup}: process {stranger} is in it, which is \
         neither its init nor CRIU at work for the runtime that called this hook; restore it into a \
         cgroup of its own (linux.cgroupsPath in the bundle), or end that process"
    )]
    Strangers { cgroup: String, stranger: Pid },
    #[error(transparent)]
    Blind(#[from] Blind),
    #[error(transparent)]
    Host(#[from] host::Error),
    #[error(transparent)]
    Scope(#[from] scope::Error),
}

/// This node, as a hook on the host sees it.
pub(crate) fn node(conf_dir: PathBuf, limit: LockTimeout) -> Result<Node, host::Error> {
    let procfs = Procfs::new("/proc");
    let hierarchy = Hierarchy::find(Path::new("/sys/fs/cgroup"), &procfs.own_cgroup()?)?;
    let (conf, hierarchy) = (ConfDir::new(conf_dir, limit), Some(hierarchy));
    Ok(Node { conf, procfs, hierarchy, sys_root: "/".into() })
}

impl Target {
    /// Finds the container's process by the PID in its state, and makes sure that it is alone in a
    /// cgroup of its own.
    pub(crate) fn find(node: &Node, call: Call) -> Result<Self, Error> {
        let Call { pid, .. } = call;
        let not_host = || Error::NoHostPid(pid.map_or("no pid".into(), |pid| format!("pid {pid}")));
        let pid = pid.and_then(|pid| i32::try_from(pid).ok());
        let pid = pid.and_then(|pid| Pid::try_from(pid).ok()).filter(|&pid| pid != Pid::INIT);
        let pid = pid.ok_or_else(not_host)?;
        node.procfs.sees_the_host()?;
        let process = node.procfs.process(pid)?.ok_or(Error::Ended(pid))?;
        let hierarchy = node.hierarchy.as_ref().ok_or(Error::NoCgroup(pid))?;
        let cgroup = cgroup::of_process(hierarchy, &node.procfs, pid)?;
        let cgroup = cgroup.ok_or(Error::NoCgroup(pid))?;
        let own = hierarchy.own();
        let runtime = i32::try_from(call.runtime).ok().and_then(|pid| Pid::try_from(pid).ok());
        let runtime = runtime.filter(|_| call.is_restored);
        // None but init, or, while it is being restored, none but init and CRIU.
        let stranger_in = |cgroup: &Cgroup| -> Result<Option<Pid>, host::Error> {
            let processes = cgroup.processes()?;
            if cgroup.is_root() || cgroup.contains(&own) || !processes.contains(&pid) {
                return Ok(processes.first().copied().or(Some(pid)));
            }
            let strangers = match runtime {
                Some(runtime) => criu::strangers(&node.procfs, runtime, pid, &processes)?,
                None => processes.into_iter().filter(|&other| other != pid).collect(),
            };
            Ok(strangers.first().copied())
        };
        if let Some(stranger) = stranger_in(&cgroup)? {
            let path = cgroup.path().to_owned();
            return Err(match runtime {
                Some(_) if stranger != pid => Error::Strangers { cgroup: path, stranger },
                _ => Error::NotItsOwn(path),
            });
        }
        let had = match runtime {
            Some(_) => criu::cpus_of_checkpoint(&node.procfs, &cgroup.processes()?),
            None => None,
        };
        let holds_only_init = |cgroup: &Cgroup| Ok(stranger_in(cgroup)?.is_none());
        let scope = Scope::of(&cgroup, holds_only_init)?;
        let its = scope.as_ref().map_or(&cgroup, Scope::cgroup);
        let usable = its.parent().unwrap_or_else(|| hierarchy.at("/")).effective_cpus()?;
        let cgroup_id = CgroupId { path: cgroup.path().to_owned(), inode: cgroup.inode()? };
        Ok(Self { process, cgroup, cgroup_id, scope, usable, had })
    }
}
