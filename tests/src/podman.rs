//! podman on a node, with a storage of its own.

use std::fs;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::bundle::make_rootfs;
use crate::kcm::{Outcome, bare, run};
use crate::machine::{Guest, guest, hide_hybrid_hierarchy, remove_cgroup, until};
use crate::node::Node;

/// What podman cannot do on a machine where it may not raise limits.
const LIMITS: [&str; 4] = ["--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1000:1000"];

/// Says which CPUs it may use, and stays.
const STAY: &str = "grep Cpus_allowed_list: /proc/self/status; exec sleep 1000";

/// podman; its containers are removed when it is dropped.
#[derive(Debug)]
pub struct Podman<'n> {
    /// The node.
    pub node: &'n Node,
    /// The runtime.
    pub runtime: &'static str,
    parent: String,
}

impl<'n> Podman<'n> {
    /// podman, with containers of this runtime.
    pub fn new(node: &'n Node, runtime: &'static str) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        if runtime == "crun" {
            hide_hybrid_hierarchy();
        }
        make_rootfs(&node.folder().join("rootfs"));
        let busybox = node.folder().join("rootfs/bin/busybox");
        fs::hard_link(busybox, node.folder().join("rootfs/bin/grep")).unwrap();
        let name = format!("kcmtestpodman{}x{number}", std::process::id());
        let is_systemd = guest() == Some(Guest::Systemd);
        let parent = if is_systemd { format!("{name}.slice") } else { format!("/{name}") };
        Self { node, runtime, parent }
    }

    /// podman with these words, to its end.
    pub fn podman(&self, words: &[&str]) -> Outcome {
        let mut command = Command::new("podman");
        bare(&mut command);
        let folder = self.node.folder();
        for (flag, name) in [("--root", "storage"), ("--runroot", "run"), ("--tmpdir", "tmp")] {
            command.arg(flag).arg(folder.join(name));
        }
        let manager = if self.parent.ends_with(".slice") { "systemd" } else { "cgroupfs" };
        command.args(["--storage-driver", "vfs", "--events-backend", "file"]);
        command.args(["--cgroup-manager", manager, "--runtime", self.runtime]);
        run(command.args(words))
    }

    fn run_flags(&self, verb: &[&str], name: &str, annotations: &[&str]) -> Vec<String> {
        let rootfs = self.node.folder().join("rootfs");
        let mut words: Vec<String> = verb.iter().map(|word| (*word).to_owned()).collect();
        let fixed = ["--network=none", "--log-driver=k8s-file", "--cgroup-parent", &self.parent];
        words.extend(fixed.iter().chain(&LIMITS).map(|word| (*word).to_owned()));
        // What the machine may not have.
        for option in ["seccomp", "apparmor"] {
            words.extend(["--security-opt".to_owned(), format!("{option}=unconfined")]);
        }
        for annotation in annotations {
            words.extend(["--annotation".to_owned(), (*annotation).to_owned()]);
        }
        words.extend(["--name".to_owned(), name.to_owned(), "--rootfs".to_owned()]);
        words.push(rootfs.to_str().unwrap().to_owned());
        words
    }

    /// Starts a container that stays.
    pub fn start(&self, name: &str, annotations: &[&str]) {
        self.start_with(name, annotations, &["sh", "-c", STAY]).succeeded();
    }

    /// Begins to run a container in the background.
    pub fn start_with(&self, name: &str, annotations: &[&str], command: &[&str]) -> Outcome {
        self.start_flagged(name, annotations, &[], command)
    }

    /// The same, with more of podman's flags.
    pub fn start_flagged(
        &self,
        name: &str,
        annotations: &[&str],
        more: &[&str],
        command: &[&str],
    ) -> Outcome {
        let flags = self.run_flags(&[&["run", "--detach"], more].concat(), name, annotations);
        let words: Vec<&str> =
            flags.iter().map(String::as_str).chain(command.iter().copied()).collect();
        self.podman(&words)
    }

    /// The CPUs that a container has last said it may use.
    pub fn cpus(&self, name: &str, nth: usize) -> String {
        until("a container to say its CPUs", || {
            let said = self.podman(&["logs", name]).succeeded().out;
            let line = said.lines().nth(nth)?.strip_prefix("Cpus_allowed_list:")?.trim().to_owned();
            Some(line)
        })
    }

    /// The process of a container.
    pub fn pid(&self, name: &str) -> i32 {
        let inspect = ["inspect", "--format", "{{.State.Pid}}", name];
        self.podman(&inspect).succeeded().out.trim().parse().unwrap()
    }
}

impl Drop for Podman<'_> {
    fn drop(&mut self) {
        self.podman(&["rm", "--all", "--force", "--time=0"]);
        if self.parent.ends_with(".slice") {
            let _ = Command::new("systemctl").args(["stop", &self.parent]).status();
        } else {
            remove_cgroup(&self.parent);
        }
    }
}
