//! A machine made of files, with eight CPUs of which an exclusive pool has 2-3.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use kcm_tests::conf_dir::ConfDir;
use kcm_tests::kcm::{Outcome, kcm, run};
use kcm_tests::node::Node;
use serde_json::Value;

/// Where the state is, which is the node's own.
pub(crate) const STATE: &str = "/var/lib/kcm/shield.json";

pub(crate) struct Machine {
    folder: PathBuf,
    pub(crate) conf: ConfDir,
}

/// What the shield sets of it, with what each file has before and after; the CPUs of 2-3 have
/// governors.
pub(crate) const SET: [(&str, &str, &str); 9] = [
    ("proc/irq/default_smp_affinity", "ff", "f3"),
    ("proc/irq/24/smp_affinity_list", "0-7", "0-1,4-7"),
    ("proc/irq/25/smp_affinity_list", "3", "0-1,4-7"),
    ("proc/sys/kernel/watchdog_cpumask", "0-7", "0-1,4-7"),
    ("proc/sys/vm/stat_interval", "1", "120"),
    ("sys/class/net/eth0/queues/rx-0/rps_cpus", "00000000,0000000c", "f3"),
    ("sys/class/net/eth0/queues/tx-0/xps_cpus", "0f", "3"),
    ("sys/devices/virtual/workqueue/cpumask", "ff", "f3"),
    ("sys/devices/system/cpu/cpu2/power/pm_qos_resume_latency_us", "0", "n/a"),
];

/// What it leaves alone.
const REST: [(&str, &str); 18] = [
    ("sys/devices/system/cpu/cpu3/cpufreq/scaling_available_governors", "performance powersave"),
    // Nobody uses it; one is elsewhere already.
    ("proc/irq/5/smp_affinity_list", "0-7"),
    ("proc/irq/26/smp_affinity_list", "6"),
    // It steers nothing.
    ("sys/class/net/eth0/queues/rx-1/rps_cpus", "00"),
    ("sys/devices/system/cpu/cpu4/power/pm_qos_resume_latency_us", "0"),
    ("sys/devices/system/cpu/cpu3/cpufreq/scaling_governor", "powersave"),
    ("sys/devices/system/cpu/online", "0-7"),
    ("sys/devices/system/cpu/possible", "0-7"),
    ("sys/devices/system/cpu/isolated", ""),
    ("sys/devices/system/cpu/nohz_full", "          (null)"),
    ("proc/cmdline", "quiet"),
    ("proc/1/stat", "1 (init) S"),
    ("proc/sys/kernel/osrelease", "6.1.0"),
    ("proc/sys/kernel/random/boot_id", "00000000-0000-4000-8000-000000000001"),
    ("proc/irq/24/eth0/x", ""),
    ("proc/irq/25/nvme0/x", ""),
    ("proc/irq/26/nvme1/x", ""),
    ("sys/class/net/bonding_masters", ""),
];

impl Machine {
    pub(crate) fn new(node: &Node) -> Self {
        Self::with_pools(node, &[("dp", true, &["2", "3"]), ("infra", false, &["0-1,4-7"])])
    }

    pub(crate) fn with_pools(node: &Node, pools: &[(&str, bool, &[&str])]) -> Self {
        let folder = node.folder().join("machine");
        let _ = fs::remove_dir_all(&folder);
        let machine = Self { folder, conf: ConfDir::new(pools) };
        let set = SET.iter().map(|(path, before, _)| (path, before));
        set.chain(REST.iter().map(|(path, text)| (path, text)))
            .for_each(|(path, text)| machine.write(path, &format!("{text}\n")));
        machine
    }

    pub(crate) fn path(&self, path: &str) -> PathBuf {
        self.folder.join(path)
    }

    pub(crate) fn write(&self, path: &str, text: &str) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    pub(crate) fn read(&self, path: &str) -> String {
        first_line(&self.path(path))
    }

    /// Takes a CPU offline, as sysfs shows it.
    pub(crate) fn unplug(&self, online: &str) {
        self.write("sys/devices/system/cpu/online", online);
    }

    /// What every file has, as values: a mask of one form and of another are the same.
    pub(crate) fn values(&self) -> BTreeMap<PathBuf, String> {
        let mut files = BTreeMap::new();
        collect(&self.folder, &mut files);
        files
    }

    pub(crate) fn command(&self, words: &[&str]) -> Command {
        let mut command = kcm();
        self.prepare(&mut command, words);
        command
    }

    pub(crate) fn prepare(&self, command: &mut Command, words: &[&str]) {
        command.arg("shield").args(words);
        command.env("KCM_CONF_DIR", self.conf.path());
        command.env("KCM_DEV_LSCPU_SYSFS", &self.folder);
        command.env("KCM_PROC_FS", self.path("proc"));
    }

    pub(crate) fn shield(&self, words: &[&str]) -> Outcome {
        run(&mut self.command(words))
    }

    pub(crate) fn json(&self, words: &[&str]) -> Value {
        let out = self.shield(&[words, &["--output=json"]].concat()).succeeded().out;
        serde_json::from_str(&out).unwrap()
    }

    /// Everything that can be is set, and nothing else.
    #[track_caller]
    pub(crate) fn must_be_shielded(&self) {
        for (path, before, after) in SET {
            let is_latency = path.ends_with("_us");
            assert_eq!(self.read(path), if is_latency { before } else { after }, "{path}");
        }
    }
}

fn collect(folder: &Path, files: &mut BTreeMap<PathBuf, String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, files);
            continue;
        }
        let text = first_line(&path);
        // The kernel prints a mask at its full length, whatever is written.
        let name = path.file_name().unwrap().to_str().unwrap();
        let is_mask =
            name.ends_with("_cpus") || ["cpumask", "default_smp_affinity"].contains(&name);
        let text = if is_mask { text.trim_start_matches(['0', ',']) } else { &text };
        files.insert(path, text.to_owned());
    }
}

/// A value of the kernel's is one line; in a plain file the rest of a longer one may follow.
fn first_line(path: &Path) -> String {
    fs::read_to_string(path).unwrap().lines().next().unwrap_or_default().trim().to_owned()
}
