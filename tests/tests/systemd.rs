//! Beside systemd, which owns the cgroups: what it is told it keeps, and what is others' stays so.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods, missing_docs)]

use std::fs;
use std::process::{Child, Command, Output};
use std::sync::{Mutex, MutexGuard};

use kcm_tests::kcm::reconcile;
use kcm_tests::machine::{Guest, cgroup_file, effective_cpus, must_be_the_guest, two_cpus, until};
use kcm_tests::programs::program;
use kcm_tests::runtime::{Runtime, Scene, systemctl, with_every_runtime, with_runtime};

const CGROUPFS: [Runtime; 2] =
    [Runtime { program: "runc", systemd: false }, Runtime { program: "crun", systemd: false }];

/// One test at a time: some have systemd start itself anew. And in the guest alone.
static ALONE: Mutex<()> = Mutex::new(());

fn alone() -> MutexGuard<'static, ()> {
    assert_eq!(must_be_the_guest(), Guest::Systemd);
    ALONE.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// What systemd says of a unit.
fn property(unit: &str, name: &str) -> String {
    let output = Command::new("systemctl").args(["show", "--value", "-p", name, unit]).output();
    String::from_utf8(output.unwrap().stdout).unwrap().trim().to_owned()
}

fn allowed_cpus(pid: i32) -> String {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
    line.unwrap().trim().to_owned()
}

/// A scope that is not a container's: a login session's, or that of a node within this node.
struct OtherScope {
    unit: String,
    cgroup: String,
    process: Child,
}

impl OtherScope {
    /// A scope of this name with a process in a cgroup below it.
    fn new(name: &str) -> Self {
        let unit = format!("{name}.scope");
        let script = "cgroup=/sys/fs/cgroup$(cut -d: -f3 /proc/self/cgroup); mkdir $cgroup/leaf; \
                      echo $$ >$cgroup/leaf/cgroup.procs; exec sleep 1000";
        let process = Command::new("systemd-run")
            .args(["--scope", "--quiet", "--property=Delegate=yes", "--unit", &unit])
            .args(["sh", "-c", script])
            .spawn()
            .unwrap();
        let cgroup = until("the scope's process to be in place", || {
            let cgroup = property(&unit, "ControlGroup");
            let procs = cgroup_file(&format!("{cgroup}/leaf"), "cgroup.procs");
            let there =
                !cgroup.is_empty() && fs::read_to_string(procs).is_ok_and(|p| !p.is_empty());
            there.then_some(cgroup)
        });
        Self { unit, cgroup, process }
    }

    /// Fails the test if its CPUs are not as systemd made it.
    fn must_be_untouched(&mut self) {
        assert_eq!(property(&self.unit, "AllowedCPUs"), "");
        let cpus = fs::read_to_string(cgroup_file(&self.cgroup, "cpuset.cpus"));
        assert_eq!(cpus.unwrap_or_default().trim(), "");
        assert!(self.process.try_wait().unwrap().is_none(), "its process has ended");
    }
}

impl Drop for OtherScope {
    fn drop(&mut self) {
        let _ = Command::new("systemctl").args(["stop", &self.unit]).status();
        let _ = self.process.wait();
    }
}

#[test]
fn the_cpus_stay_whatever_makes_systemd_write_cgroups_anew() {
    let _alone = alone();
    let [_, cpu] = two_cpus();
    with_every_runtime(&[("dataplane", true, &[&cpu])], |scene| {
        let container = scene.container("a").pool("dataplane").run();
        let scope = scene.scope("a");
        let must_be_pinned = |after: &str| {
            assert_eq!(effective_cpus(&container.cgroup).to_string(), cpu, "after {after}");
            assert_eq!(allowed_cpus(container.pid()), cpu, "after {after}");
            assert_eq!(property(&scope, "AllowedCPUs"), cpu, "after {after}");
        };
        must_be_pinned("its start");
        systemctl(&["daemon-reload"]);
        must_be_pinned("daemon-reload");
        systemctl(&["set-property", "--runtime", &scope, "CPUWeight=200"]);
        must_be_pinned("set-property");
        container.update(&["--cpu-share", "700"]);
        must_be_pinned("update --cpu-share");
        systemctl(&["daemon-reexec"]);
        must_be_pinned("daemon-reexec");
        systemctl(&["daemon-reload"]);
        must_be_pinned("daemon-reexec and daemon-reload");

        container.delete();
        assert_eq!(scene.conf.tasks("dataplane", &cpu), "");
        until("systemd to drop the scope", || {
            (property(&scope, "LoadState") == "not-found").then_some(())
        });
    });
}

#[test]
fn what_somebody_has_set_on_a_scope_is_reported_and_put_back_for_good() {
    let _alone = alone();
    let [first, second] = two_cpus();
    with_every_runtime(&[("dataplane", true, &[&second])], |scene| {
        // Of a partition it takes nothing.
        fs::write(scene.conf.path().join("pools/dataplane/partition"), "none").unwrap();
        let container = scene.container("a").pool("dataplane").run();
        let scope = scene.scope("a");
        let must_be_pinned = |after: &str| {
            assert_eq!(effective_cpus(&container.cgroup).to_string(), second, "after {after}");
            assert_eq!(allowed_cpus(container.pid()), second, "after {after}");
        };
        let repair = || reconcile(&scene.conf, &["--repair"]).succeeded().out;

        systemctl(&["set-property", "--runtime", &scope, &format!("AllowedCPUs={first}")]);
        assert_eq!(effective_cpus(&container.cgroup).to_string(), first);
        let report = repair();
        assert!(report.contains("\"repaired\": true"), "{report}");
        assert_eq!(property(&scope, "AllowedCPUs"), second);
        for again in ["daemon-reload", "daemon-reexec"] {
            must_be_pinned("repair");
            systemctl(&[again]);
            must_be_pinned(again);
        }

        // That leaves the cgroup as it is, until systemd writes it anew for some reason.
        systemctl(&["set-property", "--runtime", &scope, "AllowedCPUs="]);
        for again in ["daemon-reload", "daemon-reexec"] {
            repair();
            must_be_pinned("a property that was taken away");
            systemctl(&[again]);
        }
        repair();
        must_be_pinned("all that");
    });
}

#[test]
fn a_session_or_a_nested_node_around_the_container_is_not_touched() {
    let _alone = alone();
    let [_, cpu] = two_cpus();
    for runtime in CGROUPFS {
        with_runtime(runtime, &[("dataplane", true, &[&cpu])], |scene| {
            let mut session = OtherScope::new(&format!("session-{}", runtime.program));
            let inner = format!("{}/inner", session.cgroup);
            let container = scene.container("a").pool("dataplane").in_cgroup(&inner).run();
            assert_eq!(container.cpus(), cpu);
            assert_eq!(container.cgroup, scene.conf.record("a").unwrap()["cgroup"]);
            session.must_be_untouched();
            systemctl(&["daemon-reload"]);
            assert_eq!(effective_cpus(&inner).to_string(), cpu);
            session.must_be_untouched();
            container.delete();
        });
    }
}

#[test]
fn a_cgroup_that_only_has_the_name_of_somebody_elses_scope_is_pinned_and_the_scope_is_not() {
    let _alone = alone();
    let [_, cpu] = two_cpus();
    for runtime in CGROUPFS {
        with_runtime(runtime, &[("dataplane", true, &[&cpu])], |scene| {
            let mut twin = OtherScope::new(&format!("twin-{}", runtime.program));
            for name in [&twin.unit, "session-1.scope"] {
                let cgroup = format!("{}/{name}", scene.parent_cgroup());
                let container = scene.container("a").pool("dataplane").in_cgroup(&cgroup).run();
                assert_eq!(container.cpus(), cpu, "{name}");
                assert_eq!(effective_cpus(&cgroup).to_string(), cpu, "{name}");
                container.delete();
            }
            twin.must_be_untouched();
        });
    }
}

/// podman with a container from the scene's root file system; gives what it printed.
fn podman(scene: &Scene, flags: &[&str]) -> Output {
    let hooks = scene.folder.join("hooks.d");
    fs::create_dir_all(&hooks).unwrap();
    for stage in ["createRuntime", "poststop"] {
        let conf_dir = format!("--conf-dir={}", scene.conf.path().display());
        let hook = serde_json::json!({
            "version": "1.0.0",
            "hook": {
                "path": program("kcm-hook"),
                "args": ["kcm-hook", conf_dir, stage],
            },
            "when": {"annotations": {"^kcm\\.intel\\.com/": ".*"}},
            "stages": [stage],
        });
        fs::write(hooks.join(format!("{stage}.json")), hook.to_string()).unwrap();
    }
    Command::new("timeout")
        .args(["120", "podman", "--runtime", scene.runtime.program, "--hooks-dir"])
        .arg(&hooks)
        .args(["run", "--rm", "--network=none", "--annotation=kcm.intel.com/pool=dataplane"])
        .arg(format!("--annotation=run.oci.hooks.stderr={}/said", scene.folder.display()))
        .args(flags)
        .arg("--rootfs")
        .arg(scene.folder.join("rootfs"))
        .args(["/bin/busybox", "grep", "Cpus_allowed_list", "/proc/self/status"])
        .output()
        .unwrap()
}

#[test]
fn podmans_containers_are_pinned_and_one_without_a_cgroup_is_refused() {
    let _alone = alone();
    let [_, cpu] = two_cpus();
    with_every_runtime(&[("dataplane", true, &[&cpu])], |scene| {
        let output = podman(scene, &[]);
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert_eq!(said.trim(), format!("Cpus_allowed_list:\t{cpu}"), "{output:?}");
        until("the poststop hook", || scene.conf.allocations().is_empty().then_some(()));
        assert_eq!(scene.conf.tasks("dataplane", &cpu), "");

        // podman 4.3.1 does not take this with runc.
        if scene.runtime.program == "crun" {
            let before = scene.conf.snapshot();
            let output = podman(scene, &["--cgroups=disabled"]);
            assert!(!output.status.success() && output.stdout.is_empty(), "{output:?}");
            let said = fs::read_to_string(scene.folder.join("said")).unwrap();
            assert!(said.contains("the container has no cgroup of its own"), "{said}");
            assert_eq!(scene.conf.snapshot(), before);
        }
    });
}

/// The packaged service, of this test's own name, program and interval.
const SERVICE: &str = include_str!("../../packaging/systemd/kcm-reconcile.service");

#[test]
fn the_packaged_service_gives_back_and_repairs_with_the_rights_that_it_leaves_itself() {
    let _alone = alone();
    let [first, second] = two_cpus();
    let runc = Runtime { program: "runc", systemd: true };
    with_runtime(runc, &[("dataplane", true, &[&first, &second])], |scene| {
        let unit = "kcmtest-reconcile.service";
        let conf_dir = scene.conf.path().to_str().unwrap();
        // Not in /tmp, of which it has its own.
        let real = format!("/srv/{}", std::process::id());
        fs::create_dir_all(&real).unwrap();
        let words = format!(
            "{} reconcile --repair --interval=0.1 --conf-dir={real}/kcm",
            program("kcm").display()
        );
        let service = SERVICE.replace("/usr/bin/kcm reconcile --repair --interval=60", &words);
        let service = service.replace("/etc/kcm", &format!("{real}/kcm"));
        assert!(
            service.contains(&words) && service.contains(&format!("ReadWritePaths={real}/kcm"))
        );
        let container = scene.container("a").pool("dataplane").run();
        container.update(&["--cpuset-cpus", &second]);
        fs::write(scene.conf.tasks_path("dataplane", &second), "4194999").unwrap();
        // The directory that the scene has, where the service sees it.
        let copied = Command::new("cp").args(["-a", conf_dir, &format!("{real}/kcm")]).status();
        assert!(copied.unwrap().success());
        fs::write(format!("/run/systemd/system/{unit}"), service).unwrap();
        systemctl(&["daemon-reload"]);
        systemctl(&["start", unit]);
        let tasks = |list: &str| {
            fs::read_to_string(format!("{real}/kcm/pools/dataplane/{list}/tasks")).unwrap()
        };
        let begun = std::time::Instant::now();
        let is_done = || {
            let is_repaired = effective_cpus(&container.cgroup).to_string() == first;
            tasks(&second).is_empty() && is_repaired
        };
        while !is_done() {
            let status = || Command::new("systemctl").args(["status", "--full", unit]).output();
            assert!(begun.elapsed().as_secs() < 60, "{:?}", status());
            std::thread::sleep(std::time::Duration::from_millis(100));
        }
        assert_eq!(property(unit, "ActiveState"), "active");
        systemctl(&["stop", unit]);
        assert_eq!(property(unit, "Result"), "success");
        fs::remove_file(format!("/run/systemd/system/{unit}")).unwrap();
        fs::remove_dir_all(&real).unwrap();
    });
}

/// Runs kcm where PID 1 is: with the guest's own `/etc`, which lasts as long as this boot.
fn kcm_on_the_guest(words: &[&str]) -> kcm_tests::kcm::Outcome {
    kcm_tests::kcm::run(kcm_tests::kcm::kcm().args(words)).succeeded()
}

#[test]
fn an_engine_that_has_to_be_is_restarted_also_from_a_container_on_the_hosts_root() {
    let _alone = alone();
    systemctl(&["unmask", "containerd.service"]);
    systemctl(&["start", "containerd.service"]);
    let main_pid = || property("containerd.service", "MainPID");
    let config = || fs::read_to_string("/etc/containerd/config.toml").unwrap();
    let (first, before) = (main_pid(), config());
    // The node's root, as a container has it mounted.
    let host = tempfile::tempdir().unwrap();
    let host = host.path().to_str().unwrap();
    for words in [["--rbind", "/", host].as_slice(), &["--make-rslave", host]] {
        assert!(Command::new("mount").args(words).status().unwrap().success(), "{words:?}");
    }
    let root = format!("--root={host}");
    let flags = ["--runtime=containerd", "--restart"];
    // With the rights that the DaemonSet's container has.
    let rights = ["--bounding-set=-all,+chown,+sys_chroot", "--inh-caps=-all", "--no-new-privs"];
    let mut install = Command::new("setpriv");
    install.args(rights).arg(program("kcm")).args(["install", &root]).args(flags);
    kcm_tests::kcm::run(&mut install).succeeded();
    let second = main_pid();
    assert_ne!(second, first, "containerd was not restarted");
    assert!(config().contains("runtimes.kcm]"));
    assert_eq!(property("containerd.service", "ActiveState"), "active");
    // Nothing has changed, and nobody is disturbed.
    kcm_on_the_guest(&[&["install"], &flags[..]].concat());
    assert_eq!(main_pid(), second);
    kcm_on_the_guest(&[&["uninstall"], &flags[..]].concat());
    assert_ne!(main_pid(), second);
    assert_eq!(config(), before);
    let unmounted = Command::new("umount").args(["--lazy", "--recursive", host]).status();
    assert!(unmounted.unwrap().success());
    systemctl(&["stop", "containerd.service"]);
}
