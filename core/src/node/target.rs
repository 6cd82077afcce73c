//! The right process and the right cgroup: found and checked before anything is touched.

use super::Node;
use crate::CpuSet;
use crate::allocation::CgroupId;
use crate::host;
use crate::host::cgroup::{self, Cgroup};
use crate::host::criu;
use crate::host::procfs::Blind;
use crate::host::scope::{self, Scope};
use crate::task::{Pid, Process};

/// A container's init and where it is.
#[derive(Debug)]
pub struct Target {
    /// Its init.
    pub process: Process,
    /// Holds init and nothing else, but for the CRIU that restores it.
    pub cgroup: Cgroup,
    /// Which one that is.
    pub cgroup_id: CgroupId,
    /// The container's scope, where systemd has one for it.
    pub scope: Option<Scope>,
    /// What the container may use at all: its parent's effective cpuset.
    pub usable: CpuSet,
    /// The CPUs that it had when its checkpoint was made; none for a new container.
    pub had: Option<CpuSet>,
}

/// Who called, for what.
#[derive(Clone, Copy, Debug)]
pub struct Call {
    /// The runtime's process, or whatever it had us started by.
    pub runtime: u32,
    /// The host PID in the container's state.
    pub pid: Option<i64>,
    /// Whether the state is that of a container that is being restored.
    pub is_restored: bool,
}

/// Why a process is not one to be pinned.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The state names no process of the host.
    #[error(
        "the container state has {0} where a container's host PID is needed; configure the hook for \
         createRuntime, on the host"
    )]
    NoHostPid(String),
    /// It has ended.
    #[error("the container's process {0} has ended already")]
    Ended(Pid),
    /// It is in no cgroup.
    #[error("process {0} is in no cgroup of the cpuset controller")]
    NoCgroup(Pid),
    /// Others are in its cgroup.
    #[error(
        "the container has no cgroup of its own (its process is in {0}, with others or with its \
         runtime); start it with cgroups enabled"
    )]
    NotItsOwn(String),
    /// Others are in the cgroup of a container that is being restored.
    #[error(
        "the container cannot be restored into {cgroup}: process {stranger} is in it, which is \
         neither its init nor CRIU at work for the runtime that called this hook; restore it into a \
         cgroup of its own (linux.cgroupsPath in the bundle), or end that process"
    )]
    Strangers {
        /// The cgroup.
        cgroup: String,
        /// Who is in it.
        stranger: Pid,
    },
    /// The host's processes cannot be seen.
    #[error(transparent)]
    Blind(#[from] Blind),
    /// The kernel's files.
    #[error(transparent)]
    Host(#[from] host::Error),
    /// systemd.
    #[error(transparent)]
    Scope(#[from] scope::Error),
}

impl Target {
    /// Finds the container's process by the PID in its state, and makes sure that it is alone in a
    /// cgroup of its own.
    pub fn find(node: &Node, call: Call) -> Result<Self, Error> {
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
        let scope = Scope::of(&cgroup, node.conf.deadline(), holds_only_init)?;
        let its = scope.as_ref().map_or(&cgroup, Scope::cgroup);
        let usable = its.parent().unwrap_or_else(|| hierarchy.at("/")).effective_cpus()?;
        let cgroup_id = CgroupId { path: cgroup.path().to_owned(), inode: cgroup.inode()? };
        Ok(Self { process, cgroup, cgroup_id, scope, usable, had })
    }
}
