//! podman on a node, with a storage of its own.

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::json;

use crate::bundle::make_rootfs;
use crate::kcm::{Outcome, bare, run};
use crate::machine::{Guest, cgroup_folders, guest, hide_hybrid_hierarchy, remove_cgroup, until};
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
        run(self.command().args(words))
    }

    fn command(&self) -> Command {
        let mut command = Command::new("podman");
        bare(&mut command);
        let folder = self.node.folder();
        for (flag, name) in [("--root", "storage"), ("--runroot", "run"), ("--tmpdir", "tmp")] {
            command.arg(flag).arg(folder.join(name));
        }
        let manager = if self.parent.ends_with(".slice") { "systemd" } else { "cgroupfs" };
        command.args(["--storage-driver", "vfs", "--events-backend", "file"]);
        command.args(["--cgroup-manager", manager, "--runtime", self.runtime]);
        command
    }

    /// Begins to start a container that stays.
    pub fn begin(&self, name: &str, annotations: &[&str]) -> Child {
        let words = self.run_flags(&["run", "--detach"], name, annotations);
        let mut command = self.command();
        command.args(words).args(["sh", "-c", STAY]).stdin(Stdio::null());
        command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
    }

    /// A pod without containers yet; its network is the machine's, since it has no infra container.
    pub fn make_pod(&self, name: &str) {
        let parent = ["--cgroup-parent", &self.parent];
        self.podman(&[&["pod", "create", "--infra=false", "--name", name], &parent[..]].concat())
            .succeeded();
    }

    /// Begins to run a container in a pod.
    pub fn start_in_pod(&self, pod: &str, name: &str, annotations: &[&str]) -> Outcome {
        let mut flags = self.run_flags(&["run", "--detach", "--pod", pod], name, annotations);
        // What it may not say of its own.
        let parent = flags.iter().position(|word| word == "--cgroup-parent").unwrap();
        flags.drain(parent..parent + 2);
        let words = flags.iter().map(String::as_str).chain(["sh", "-c", STAY]);
        self.podman(&words.collect::<Vec<_>>())
    }

    /// Plays a pod `p` with these annotations, and a container of each name.
    pub fn play(&self, annotations: &[(&str, &str)], containers: &[&str]) -> Outcome {
        let image = "localhost/kcm-test:1";
        let rootfs = self.node.folder().join("rootfs");
        let tar = self.node.folder().join("rootfs.tar");
        let packed =
            Command::new("tar").arg("-C").arg(&rootfs).arg("-cf").arg(&tar).arg(".").status();
        assert!(packed.unwrap().success());
        self.podman(&["import", tar.to_str().unwrap(), image]).succeeded();
        // A played pod's containers take their limits from here.
        let limits = "[containers]\ndefault_ulimits = [\"nofile=1024:1024\", \"nproc=1000:1000\"]\n\
                      seccomp_profile = \"unconfined\"\nlog_driver = \"k8s-file\"\n";
        self.node.write("/etc/containers/containers.conf.d/90-kcm-test.conf", limits);
        let annotations: serde_json::Map<_, _> =
            annotations.iter().map(|(key, value)| ((*key).to_owned(), json!(value))).collect();
        let command = json!(["/bin/sh", "-c", format!("PATH=/bin; {STAY}")]);
        let container = |name: &&str| json!({"name": name, "image": image, "imagePullPolicy": "Never", "command": command});
        let pod = json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": "p", "annotations": annotations},
            "spec": {
                "restartPolicy": "Never",
                "containers": containers.iter().map(container).collect::<Vec<_>>(),
            },
        });
        // JSON is YAML.
        let file = self.node.folder().join("pod.yaml");
        fs::write(&file, pod.to_string()).unwrap();
        self.podman(&["kube", "play", "--network", "none", file.to_str().unwrap()])
    }

    /// Removes what was played.
    pub fn play_down(&self) {
        let inspect = ["pod", "inspect", "--format", "{{.ID}}", "p"];
        let id = self.podman(&inspect).succeeded().out.trim().to_owned();
        self.podman(&["pod", "rm", "--force", "--time=0", "p"]).succeeded();
        // podman leaves the pod's folder in hierarchies without a controller. Its own, in which that
        // is, goes unless others are in there.
        until("the pod's cgroups to go", || {
            let gone = |folder: &PathBuf| {
                let _ = [&id, "conmon"].map(|name| fs::remove_dir(folder.join(name)));
                let is_others = |name: &str| name != "conmon" && folder.join(name).is_dir();
                let names = fs::read_dir(folder).into_iter().flatten().flatten();
                let mut names = names.map(|entry| entry.file_name().into_string().unwrap());
                fs::remove_dir(folder).is_ok() || names.any(|name| is_others(&name))
            };
            cgroup_folders("libpod_parent").iter().all(gone).then_some(())
        });
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

    /// Starts a container with a label that stays.
    pub fn start_labelled(&self, name: &str, label: &str) {
        let flags = self.run_flags(&["run", "--detach", "--label", label], name, &[]);
        let words = flags.iter().map(String::as_str).chain(["sh", "-c", STAY]);
        self.podman(&words.collect::<Vec<_>>()).succeeded();
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
        self.podman(&["pod", "rm", "--all", "--force", "--time=0"]);
        if self.parent.ends_with(".slice") {
            let _ = Command::new("systemctl").args(["stop", &self.parent]).status();
        } else {
            remove_cgroup(&self.parent);
        }
    }
}
