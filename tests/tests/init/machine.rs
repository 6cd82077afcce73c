//! Made-up machines: a sysfs tree and a kernel command line.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use kcm_core::CpuSet;
use tempfile::TempDir;

use kcm_tests::kcm::{Outcome, kcm, run};

/// The machine of the original's operator manual: one socket, 8 cores, 16 CPUs.
pub(crate) const MANUAL: &str = "0,8 1,9 2,10 3,11 4,12 5,13 6,14 7,15";

/// A made-up machine with room for a configuration directory; removed when dropped.
pub(crate) struct Machine {
    folder: TempDir,
}

impl Machine {
    /// A machine of sockets, each a list of cores, each a CPU list: `"0,8 1,9; 2,10 3,11"`.
    pub(crate) fn new(sockets: &str) -> Self {
        Self::with_offline(sockets, "")
    }

    /// A machine some of whose CPUs are offline: the kernel describes none of those.
    pub(crate) fn with_offline(sockets: &str, offline: &str) -> Self {
        let machine = Self { folder: tempfile::tempdir().unwrap() };
        let offline = set(offline);
        let mut possible = CpuSet::new();
        for socket in sockets.split(';') {
            let cores: Vec<CpuSet> = socket.split_whitespace().map(set).collect();
            let package = cores.iter().fold(CpuSet::new(), |a, b| a.union(b));
            possible = possible.union(&package);
            for threads in cores.iter().map(|core| core.difference(&offline)) {
                for cpu in threads.iter() {
                    let topology = format!("sys/devices/system/cpu/cpu{cpu}/topology");
                    let package = package.difference(&offline);
                    machine.put(&format!("{topology}/thread_siblings_list"), &threads);
                    machine.put(&format!("{topology}/core_siblings_list"), &package);
                }
            }
        }
        machine.put("sys/devices/system/cpu/possible", &possible);
        let online = possible.difference(&offline);
        machine.put("sys/devices/system/cpu/online", &online);
        machine.put("sys/devices/system/cpu/isolated", "");
        machine.with_cmdline("root=/dev/sda1 quiet")
    }

    /// The machine, booted with this command line.
    pub(crate) fn with_cmdline(self, cmdline: &str) -> Self {
        self.put("proc/cmdline", cmdline);
        self
    }

    /// The machine with these CPUs in /sys/devices/system/cpu/isolated.
    pub(crate) fn with_isolated_in_sysfs(self, cpus: &str) -> Self {
        self.put("sys/devices/system/cpu/isolated", cpus);
        self
    }

    fn put(&self, path: &str, text: impl ToString) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, format!("{}\n", text.to_string())).unwrap();
    }

    /// A path on the machine.
    pub(crate) fn path(&self, path: impl AsRef<Path>) -> PathBuf {
        self.folder.path().join(path)
    }

    /// Where `init` makes the configuration directory. Nothing of it is there yet, nor is its parent.
    pub(crate) fn conf_dir(&self) -> PathBuf {
        self.path("etc/kcm")
    }

    /// Makes a command see this machine and its configuration directory.
    pub(crate) fn show_to<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        command
            .env("KCM_DEV_LSCPU_SYSFS", self.folder.path())
            .env("KCM_PROC_FS", self.path("proc"))
            .env("KCM_CONF_DIR", self.conf_dir())
    }

    /// Runs `kcm` with these words.
    pub(crate) fn kcm(&self, words: &[&str]) -> Outcome {
        run(self.show_to(kcm().args(words)))
    }

    /// Runs `kcm init` for this many cores of dataplane and controlplane.
    pub(crate) fn init(&self, dataplane: usize, controlplane: usize) -> Outcome {
        let dataplane = format!("--num-dp-cores={dataplane}");
        let controlplane = format!("--num-cp-cores={controlplane}");
        self.kcm(&["init", &dataplane, &controlplane])
    }
}

fn set(text: &str) -> CpuSet {
    CpuSet::parse_possibly_empty(text).unwrap()
}
