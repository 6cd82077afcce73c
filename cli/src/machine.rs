//! Where the kernel shows this machine, as the environment says.

use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow};
use kcm_core::host::cgroup::Hierarchy;
use kcm_core::host::procfs::Procfs;
use kcm_core::host::{files, partition, shield, sysfs};
use kcm_core::state::ConfDir;
use kcm_core::topology::Topology;
use kcm_core::topology::kernel_cmdline::isolcpus;
use kcm_core::{CpuSet, Node};

/// The folders that this machine is read from.
pub(crate) struct Machine {
    sys_root: PathBuf,
    proc_root: PathBuf,
    cgroup_root: PathBuf,
    /// Whether somebody has said where the cgroup file system is.
    cgroup_is_named: bool,
}

impl Machine {
    /// `KCM_DEV_LSCPU_SYSFS`, `KCM_PROC_FS` and `KCM_CGROUP_FS`, or where they usually are.
    pub(crate) fn from_environment() -> Self {
        let folder = |name, default: &str| std::env::var_os(name).unwrap_or(default.into()).into();
        Self {
            sys_root: folder("KCM_DEV_LSCPU_SYSFS", "/"),
            proc_root: folder("KCM_PROC_FS", "/proc"),
            cgroup_root: folder("KCM_CGROUP_FS", "/sys/fs/cgroup"),
            cgroup_is_named: std::env::var_os("KCM_CGROUP_FS").is_some(),
        }
    }

    /// The sockets, cores and CPUs that are online.
    pub(crate) fn topology(&self, isolated: &CpuSet) -> anyhow::Result<Topology> {
        Ok(sysfs::read_topology(&self.sys_root, isolated)?)
    }

    /// The CPUs of `isolcpus`; where the kernel's command line has none, what sysfs says.
    pub(crate) fn isolated(&self) -> anyhow::Result<CpuSet> {
        let last = sysfs::last_possible_cpu(&self.sys_root)?;
        let cmdline = Procfs::new(&self.proc_root).cmdline();
        let cmdline = cmdline.context("KCM_PROC_FS must be where a procfs is mounted")?;
        let from_cmdline = isolcpus(&cmdline, last).with_context(|| {
            format!(
                "{} does not say which CPUs are isolated",
                self.proc_root.join("cmdline").display()
            )
        })?;
        Ok(match from_cmdline {
            Some(cpus) => cpus,
            None => sysfs::read_isolated(&self.sys_root)?,
        })
    }

    /// The CPUs that are online.
    pub(crate) fn online(&self) -> anyhow::Result<CpuSet> {
        Ok(sysfs::online(&self.sys_root)?)
    }

    /// This node; an error where the host's processes cannot be seen, or where the cgroup file system
    /// is not at the place that is named.
    pub(crate) fn node(&self, conf: ConfDir) -> anyhow::Result<Node> {
        let procfs = self.procfs()?;
        let hierarchy = match self.hierarchy_of(&procfs) {
            Ok(hierarchy) => Some(hierarchy),
            // Whoever names it wants containers judged and repaired: without it that never happens,
            // and all would look in order.
            Err(e) if self.cgroup_is_named => return Err(e),
            Err(e) => {
                log::debug!("{e:#}; containers are not judged dead (KCM_CGROUP_FS)");
                None
            }
        };
        Ok(Node { conf, procfs, hierarchy, sys_root: self.sys_root.clone() })
    }

    /// The host's processes; an error where they cannot be seen.
    pub(crate) fn procfs(&self) -> anyhow::Result<Procfs> {
        let procfs = match std::env::var_os("KCM_PROC_FS") {
            Some(root) => Ok(Procfs::new(root)),
            None => Procfs::of_the_host(),
        };
        let procfs = procfs.and_then(|procfs| procfs.sees_the_host().map(|()| procfs));
        procfs.context("cannot tell who is alive")
    }

    /// The CPUs that the machine could ever have.
    pub(crate) fn possible(&self) -> anyhow::Result<CpuSet> {
        Ok(sysfs::possible(&self.sys_root)?)
    }

    /// This node as a shield sees it. Where no cgroup can be seen, or no process of the host's, it has
    /// the rest.
    pub(crate) fn shield_host(&self) -> anyhow::Result<shield::Host> {
        let procfs = Procfs::new(&self.proc_root);
        let hierarchy = self.hierarchy_of(&procfs).ok();
        Ok(shield::Host::new(&self.sys_root, procfs, hierarchy, self.possible()?)?)
    }

    /// The boot that this is.
    pub(crate) fn boot_id(&self) -> anyhow::Result<String> {
        Ok(Procfs::new(&self.proc_root).boot_id()?)
    }

    /// Whether the kernel can have cpuset partitions below ordinary cgroups: by its release where the root
    /// of the hierarchy, which tells, cannot be seen.
    pub(crate) fn can_have_partitions(&self) -> anyhow::Result<bool> {
        if let Ok(hierarchy) = self.hierarchy()
            && hierarchy.is_whole()
        {
            return Ok(hierarchy.has_partitions());
        }
        let release = self.proc_root.join("sys/kernel/osrelease");
        let text = files::read_text(&release)?;
        let text = text.with_context(|| format!("there is no {}", release.display()))?;
        let own = Procfs::new(&self.proc_root).own_cgroup()?;
        Ok(partition::can_have_them(&text, &own))
    }

    /// Whether this process sees the machine as the host does, as far as anybody has said: a container
    /// is told where the host's procfs is.
    pub(crate) fn is_the_hosts(&self) -> bool {
        self.proc_root == Path::new("/proc")
    }

    /// The cpuset hierarchy.
    pub(crate) fn hierarchy(&self) -> anyhow::Result<Hierarchy> {
        self.hierarchy_of(&Procfs::new(&self.proc_root))
    }

    fn hierarchy_of(&self, procfs: &Procfs) -> anyhow::Result<Hierarchy> {
        let found = Hierarchy::find(&self.cgroup_root, &procfs.own_cgroup()?);
        if !self.cgroup_is_named {
            return Ok(found?);
        }
        // A cgroup v2 file system is found by a file that it has without a cpuset controller, too.
        let found = found.and_then(|found| found.at("/").effective_cpus().map(|_| found));
        found.map_err(|e| {
            anyhow!(
                "KCM_CGROUP_FS: {e}; mount the host's cgroup file system there (on the host it is at \
                 /sys/fs/cgroup), or unset KCM_CGROUP_FS"
            )
        })
    }
}
