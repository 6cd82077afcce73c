//! Bundles of busybox containers with the hook in them.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};

use oci_spec::runtime::{
    Capability, Hook, HookBuilder, HooksBuilder, Linux, LinuxBuilder, LinuxCapabilities,
    LinuxCapabilitiesBuilder, LinuxCpuBuilder, LinuxNamespace, LinuxNamespaceBuilder,
    LinuxNamespaceType, LinuxResourcesBuilder, Mount, MountBuilder, ProcessBuilder, RootBuilder,
    Spec, SpecBuilder, UserBuilder,
};

use crate::programs::program;

/// Prints which CPUs its own process may use, with the shell's own commands only, and stays.
pub const REPORT_AND_STAY: &str = "\
while read -r line; do case $line in Cpus_allowed_list:*) echo \"$line\";; esac; done \
</proc/self/status; exec sleep 1000";

/// What is particular about a container; the rest of its bundle is the same for all.
#[derive(Clone, Debug, Default)]
pub struct Bundle {
    /// The container's command.
    pub args: Vec<String>,
    /// Further variables in its environment.
    pub env: Vec<String>,
    /// Further mounts.
    pub mounts: Vec<Mount>,
    /// Its capabilities; none: those of the specification's own example.
    pub capabilities: Option<HashSet<Capability>>,
    /// The container's annotations.
    pub annotations: HashMap<String, String>,
    /// The hook's flags.
    pub hook_flags: Vec<String>,
    /// The hook's environment; none: the runtime's.
    pub hook_env: Option<Vec<String>>,
    /// What starts the hook: a program and its first arguments; empty: the runtime itself.
    pub hook_starter: Vec<String>,
    /// Whether it shares the host's PID namespace.
    pub host_pids: bool,
    /// `linux.resources.cpu.cpus`.
    pub cpus: Option<String>,
    /// `linux.resources.cpu.quota`, in microseconds of the kernel's own period.
    pub quota: Option<i64>,
    /// `linux.cgroupsPath`; none: left out.
    pub cgroups_path: Option<PathBuf>,
}

impl Bundle {
    /// Writes `config.json` into a folder.
    pub fn write(&self, folder: &Path, rootfs: &Path) {
        let json = serde_json::to_string_pretty(&self.spec(rootfs)).unwrap();
        fs::write(folder.join("config.json"), json).unwrap();
    }

    fn spec(&self, rootfs: &Path) -> Spec {
        let path = ["PATH=/bin".to_owned()].into_iter();
        let mut process = ProcessBuilder::default()
            .terminal(false)
            .user(UserBuilder::default().uid(0u32).gid(0u32).build().unwrap())
            .args(self.args.clone())
            .env(path.chain(self.env.iter().cloned()).collect::<Vec<_>>())
            .cwd("/")
            .no_new_privileges(true);
        if let Some(all) = &self.capabilities {
            process = process.capabilities(capabilities(all));
        }
        let hooks = HooksBuilder::default()
            .create_runtime([self.hook("createRuntime")])
            .poststop([self.hook("poststop")])
            .build()
            .unwrap();
        let mounts = [mount("/proc", "proc"), mount("/dev", "tmpfs")];
        SpecBuilder::default()
            .version("1.0.2")
            .root(RootBuilder::default().path(rootfs).readonly(true).build().unwrap())
            .mounts(mounts.into_iter().chain(self.mounts.clone()).collect::<Vec<_>>())
            .process(process.build().unwrap())
            .hooks(hooks)
            .annotations(self.annotations.clone())
            .linux(self.linux())
            .build()
            .unwrap()
    }

    fn hook(&self, stage: &str) -> Hook {
        let mut args = self.hook_starter.clone();
        args.push(program("kcm-hook").to_str().unwrap().to_owned());
        args.extend(self.hook_flags.clone());
        args.push(stage.to_owned());
        let mut hook = HookBuilder::default().path(&args[0]).args(args.clone());
        if let Some(env) = &self.hook_env {
            hook = hook.env(env.clone());
        }
        hook.build().unwrap()
    }

    fn linux(&self) -> Linux {
        use LinuxNamespaceType::{Ipc, Mount, Pid, Uts};
        let namespaces = [Mount, Ipc, Uts, Pid].into_iter();
        let namespaces = namespaces.filter(|&kind| !(self.host_pids && kind == Pid));
        let mut linux =
            LinuxBuilder::default().namespaces(namespaces.map(namespace).collect::<Vec<_>>());
        if self.cpus.is_some() || self.quota.is_some() {
            let mut cpu = LinuxCpuBuilder::default();
            if let Some(cpus) = &self.cpus {
                cpu = cpu.cpus(cpus);
            }
            if let Some(quota) = self.quota {
                cpu = cpu.quota(quota).period(100_000u64);
            }
            let cpu = cpu.build().unwrap();
            linux = linux.resources(LinuxResourcesBuilder::default().cpu(cpu).build().unwrap());
        }
        if let Some(path) = &self.cgroups_path {
            linux = linux.cgroups_path(path);
        }
        let mut linux = linux.build().unwrap();
        // The builder fills these in with what this machine may not have.
        linux.set_masked_paths(None).set_readonly_paths(None);
        linux
    }
}

fn mount(destination: &str, kind: &str) -> Mount {
    MountBuilder::default().destination(destination).typ(kind).source(kind).build().unwrap()
}

/// A folder or file of the machine, with what is mounted below it, at a place in the container.
pub fn bind(source: &Path, destination: &str, mode: &str) -> Mount {
    let options = ["rbind".to_owned(), mode.to_owned()];
    let mount = MountBuilder::default().destination(destination).typ("bind").source(source);
    mount.options(options).build().unwrap()
}

fn capabilities(all: &HashSet<Capability>) -> LinuxCapabilities {
    let sets = LinuxCapabilitiesBuilder::default().bounding(all.clone()).effective(all.clone());
    let sets = sets.permitted(all.clone()).inheritable([]).ambient([]);
    sets.build().unwrap()
}

fn namespace(kind: LinuxNamespaceType) -> LinuxNamespace {
    LinuxNamespaceBuilder::default().typ(kind).build().unwrap()
}

/// Makes a root file system of busybox's commands.
pub fn make_rootfs(rootfs: &Path) {
    for folder in ["bin", "proc", "dev"] {
        fs::create_dir_all(rootfs.join(folder)).unwrap();
    }
    let busybox = rootfs.join("bin/busybox");
    fs::copy("/bin/busybox", &busybox).expect("the tests need busybox-static");
    for command in ["sh", "sleep"] {
        fs::hard_link(&busybox, rootfs.join("bin").join(command)).unwrap();
    }
}
