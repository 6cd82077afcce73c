//! podman, after `kcm install --runtime=podman`: containers on CPUs of their own, which come back
//! whatever becomes of the containers.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods, missing_docs)]

use std::fs;
use std::process::Command;

use kcm_tests::bundle::make_rootfs;
use kcm_tests::kcm::{Outcome, bare, run};
use kcm_tests::machine::{Guest, guest, hide_hybrid_hierarchy, remove_cgroup, two_cpus, until};
use kcm_tests::node::{Node, on_a_node};

/// What podman cannot do on a machine where it may not raise limits.
const LIMITS: [&str; 4] = ["--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1000:1000"];

/// Says which CPUs it may use, and stays.
const STAY: &str = "grep Cpus_allowed_list: /proc/self/status; exec sleep 1000";

/// podman with a storage of its own, on a node.
struct Podman<'n> {
    node: &'n Node,
    runtime: &'static str,
    parent: String,
}

impl<'n> Podman<'n> {
    /// A node with two pools of a CPU each: `exclusive`, and `infra`, which is shared.
    fn with_each_runtime(play: impl Fn(&Podman<'_>) + Sync) {
        for runtime in ["runc", "crun"] {
            on_a_node(|node| {
                if runtime == "crun" {
                    hide_hybrid_hierarchy();
                }
                let podman = Podman::new(node, runtime);
                let [first, second] = two_cpus();
                node.make_pools(&[("exclusive", true, &first), ("infra", false, &second)]);
                play(&podman);
            });
        }
    }

    fn new(node: &'n Node, runtime: &'static str) -> Self {
        static COUNT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let number = COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        make_rootfs(&node.folder().join("rootfs"));
        let busybox = node.folder().join("rootfs/bin/busybox");
        fs::hard_link(busybox, node.folder().join("rootfs/bin/grep")).unwrap();
        let name = format!("kcmtestpodman{}x{number}", std::process::id());
        let is_systemd = guest() == Some(Guest::Systemd);
        let parent = if is_systemd { format!("{name}.slice") } else { format!("/{name}") };
        Self { node, runtime, parent }
    }

    /// podman with these words, to its end.
    fn podman(&self, words: &[&str]) -> Outcome {
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
    fn start(&self, name: &str, annotations: &[&str]) {
        self.start_with(name, annotations, &["sh", "-c", STAY]).succeeded();
    }

    fn start_with(&self, name: &str, annotations: &[&str], command: &[&str]) -> Outcome {
        let flags = self.run_flags(&["run", "--detach"], name, annotations);
        let words: Vec<&str> =
            flags.iter().map(String::as_str).chain(command.iter().copied()).collect();
        self.podman(&words)
    }

    /// The CPUs that a container has last said it may use.
    fn cpus(&self, name: &str, nth: usize) -> String {
        until("a container to say its CPUs", || {
            let said = self.podman(&["logs", name]).succeeded().out;
            let line = said.lines().nth(nth)?.strip_prefix("Cpus_allowed_list:")?.trim().to_owned();
            Some(line)
        })
    }

    fn pid(&self, name: &str) -> i32 {
        let inspect = ["inspect", "--format", "{{.State.Pid}}", name];
        self.podman(&inspect).succeeded().out.trim().parse().unwrap()
    }

    fn install(&self, flags: &[&str]) {
        self.node.kcm(&[&["install", "--runtime=podman"], flags].concat()).succeeded();
    }

    /// The only list's `tasks`.
    fn holder(&self) -> String {
        self.node.read(&format!("/etc/kcm/pools/exclusive/{}/tasks", two_cpus()[0]))
    }

    fn is_released(&self) {
        until("the list to be given back", || {
            let records = fs::read_dir("/etc/kcm/allocations").unwrap().count();
            (self.holder().is_empty() && records == 0).then_some(())
        });
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

const EXCLUSIVE: &[&str] = &["kcm.intel.com/pool=exclusive"];

#[test]
fn a_container_runs_on_its_cpus_is_listed_and_gives_them_back_however_it_ends() {
    let [cpu, _] = two_cpus();
    Podman::with_each_runtime(|podman| {
        podman.install(&[]);
        podman.start("a", EXCLUSIVE);
        assert_eq!(podman.cpus("a", 0), cpu);
        assert_eq!(podman.holder(), podman.pid("a").to_string());
        let described = podman.node.kcm(&["describe"]).succeeded().out;
        assert!(described.contains(&podman.pid("a").to_string()), "{described}");

        let refused = podman.start_with("late", EXCLUSIVE, &["sh", "-c", "echo RAN"]);
        assert_eq!((refused.code, refused.out.as_str()), (Some(126), ""), "{refused:?}");
        let says_why = refused.err.contains("No free cpu lists in pool exclusive: 1 of 1 are held");
        // crun shows nobody what a hook says: that is in the log.
        assert!(says_why || podman.runtime == "crun", "{refused:?}");
        podman.node.log.has("No free cpu lists in pool exclusive: 1 of 1 are held");
        podman.podman(&["rm", "late"]);

        podman.podman(&["kill", "a"]).succeeded();
        podman.is_released();
        podman.podman(&["start", "a"]).succeeded();
        assert_eq!(
            (podman.cpus("a", 1), podman.holder()),
            (cpu.clone(), podman.pid("a").to_string())
        );
        podman.podman(&["restart", "--time=0", "a"]).succeeded();
        assert_eq!(
            (podman.cpus("a", 2), podman.holder()),
            (cpu.clone(), podman.pid("a").to_string())
        );
        podman.podman(&["rm", "--force", "--time=0", "a"]).succeeded();
        podman.is_released();

        podman.start_with("brief", EXCLUSIVE, &["sh", "-c", "exit 0"]).succeeded();
        podman.is_released();
    });
}

#[test]
fn what_a_failed_create_took_the_next_container_gets() {
    let [cpu, _] = two_cpus();
    Podman::with_each_runtime(|podman| {
        podman.install(&[]);
        // The hook has run when it turns out that there is no such program.
        let failed = podman.start_with("failed", EXCLUSIVE, &["/no/such/program"]);
        assert_eq!(failed.code, Some(127), "{failed:?}");
        podman.start("next", EXCLUSIVE);
        assert_eq!(
            (podman.cpus("next", 0), podman.holder()),
            (cpu.clone(), podman.pid("next").to_string())
        );
        let records = fs::read_dir("/etc/kcm/allocations").unwrap();
        assert_eq!(records.count(), 1);
    });
}

#[test]
fn with_a_default_pool_a_container_that_asks_for_none_runs_on_its_cpus_and_is_never_refused() {
    let [exclusive, infra] = two_cpus();
    Podman::with_each_runtime(|podman| {
        podman.install(&["--default-pool=infra"]);
        podman.start("plain", &[]);
        assert_eq!(podman.cpus("plain", 0), infra);
        podman.start("asks", EXCLUSIVE);
        assert_eq!(podman.cpus("asks", 0), exclusive);

        fs::rename("/etc/kcm/pools", "/etc/kcm/elsewhere").unwrap();
        podman.start("unpinned", &[]);
        assert_ne!(podman.cpus("unpinned", 0), infra);
        podman.node.log.has("/etc/kcm");
        fs::rename("/etc/kcm/elsewhere", "/etc/kcm/pools").unwrap();
    });
}

#[test]
fn without_kcm_containers_start_as_before() {
    Podman::with_each_runtime(|podman| {
        podman.start("before", EXCLUSIVE);
        let all = podman.cpus("before", 0);
        podman.install(&[]);
        podman.start("pinned", EXCLUSIVE);
        assert_ne!(podman.cpus("pinned", 0), all);
        podman.podman(&["rm", "--force", "--time=0", "pinned"]).succeeded();
        // podman skips a hook whose program is missing.
        fs::rename("/opt/kcm/kcm-hook", "/opt/kcm/aside").unwrap();
        podman.start("missing", EXCLUSIVE);
        assert_eq!(podman.cpus("missing", 0), all);
        fs::rename("/opt/kcm/aside", "/opt/kcm/kcm-hook").unwrap();
        podman.node.kcm(&["uninstall", "--runtime=podman"]).succeeded();
        podman.start("after", EXCLUSIVE);
        assert_eq!(podman.cpus("after", 0), all);
    });
}
