//! `kcm doctor`, the built program: each check, and what makes it fail.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods, missing_docs)]

use std::fs::{self, File, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use findings::{Finding, Findings, command, doctor};
use kcm_core::CpuSet;
use kcm_tests::hook::HookCall;
use kcm_tests::kcm::{bare, kcm, run};
use kcm_tests::machine::{sysfs_cpus, two_cpus};
use kcm_tests::node::{Node, on_a_node};
use kcm_tests::programs::program;
use kcm_tests::stand_in::{Quota, StandIn, new_id};
use nix::fcntl::{Flock, FlockArg};
use serde_json::Value;

#[path = "doctor/findings.rs"]
mod findings;
#[path = "doctor/guards.rs"]
mod guards;

/// A node with a pool of a CPU each, and kcm installed for what is there.
fn on_an_installed_node(play: impl Fn(&Node) + Sync) {
    let [first, second] = two_cpus();
    on_a_node(|node| {
        node.make_pools(&[("exclusive", true, &first), ("infra", false, &second)]);
        node.kcm(&["install", "--runtime=containerd", "--runtime=podman"]).succeeded();
        play(node);
    });
}

#[test]
fn on_a_node_that_is_in_order_nothing_fails_and_the_table_says_so_line_by_line() {
    on_an_installed_node(|node| {
        let findings = doctor(&["--runtime=containerd", "--runtime=podman"]);
        for check in ["cgroups", "procfs", "lock", "directory", "kcm", "kcm-hook", "kubelet"] {
            findings.is(check, "ok", "");
        }
        findings.is("containerd", "ok", "runtime handler kcm");
        findings.is("podman", "ok", "/opt/kcm/kcm-hook");
        findings.is("quotas", "ok", "");
        let table = node.kcm(&["doctor"]).succeeded().out;
        let lines: Vec<&str> = table.lines().collect();
        assert!(lines.contains(&"ok    directory   /etc/kcm is in order"), "{table}");
        let (checks, remedies): (Vec<&str>, Vec<&str>) =
            lines.iter().partition(|line| !line.starts_with(' '));
        assert_eq!(checks.len(), findings.0.len(), "{table}");
        assert!(remedies.iter().all(|line| line.trim_start().starts_with("→ ")), "{table}");
        let warnings = checks.iter().filter(|line| line.starts_with("warn  ")).count();
        assert_eq!(warnings, remedies.len(), "{table}");
    });
}

#[test]
fn where_the_kernel_cannot_be_seen_that_fails() {
    on_an_installed_node(|node| {
        let nothing = node.folder().join("nothing");
        fs::create_dir(&nothing).unwrap();
        for place in [nothing.to_str().unwrap(), "/nonexistent", "/proc/cmdline", "/proc"] {
            let blind = run(command(&[]).env("KCM_CGROUP_FS", place));
            Findings::of(&blind).is("cgroups", "fail", "KCM_CGROUP_FS");
            Findings::of(&blind).is("cgroups", "fail", place);
        }
        let mut inner = Command::new("unshare");
        bare(&mut inner);
        inner.args(["--pid", "--fork", "--mount-proc"]).arg(program("kcm"));
        let findings = Findings::of(&run(inner.args(["doctor", "--output=json"])));
        findings.is("procfs", "fail", "KCM_PROC_FS");
    });
}

#[test]
fn the_directory_and_its_lock_are_tried() {
    on_an_installed_node(|node| {
        let lock = File::options().write(true).open("/etc/kcm/lock").unwrap();
        let lock = Flock::lock(lock, FlockArg::LockExclusive).unwrap();
        doctor(&[]).is("lock", "fail", &format!("process {} holds it", std::process::id()));
        drop(lock);
        let [first, _] = two_cpus();
        let tasks = format!("/etc/kcm/pools/exclusive/{first}/tasks");
        node.write(&tasks, "nobody");
        doctor(&[]).is("directory", "fail", &tasks);
        node.write(&tasks, "");
        node.write("/etc/kcm/pools/infra/4000/tasks", "");
        doctor(&[]).is("directory", "fail", "4000");
        fs::remove_dir_all("/etc/kcm").unwrap();
        doctor(&[]).is("directory", "fail", "kcm init");
        doctor(&["--conf-dir=/srv/none"]).is("directory", "fail", "--conf-dir=/srv/none");
    });
}

#[test]
fn cpus_of_exclusive_pools_are_to_be_isolated_and_those_of_shared_ones_are_not() {
    on_an_installed_node(|node| {
        let [first, second] = two_cpus();
        let sys = node.folder().join("sys/devices/system/cpu");
        fs::create_dir_all(&sys).unwrap();
        let with = |isolated: &str| {
            for (name, text) in [("possible", "0-7"), ("online", "0-7"), ("isolated", isolated)] {
                fs::write(sys.join(name), text).unwrap();
            }
            // A command line without isolcpus: sysfs decides.
            Findings::of(&run(command(&[]).env("KCM_DEV_LSCPU_SYSFS", node.folder())))
        };
        if fs::read_to_string("/proc/cmdline").unwrap().contains("isolcpus") {
            doctor(&[]).is("isolation", "ok", "isolated");
            return;
        }
        with("").is("isolation", "warn", &format!("isolcpus={first}"));
        with(&first).is("isolation", "ok", "isolated");
        let both = format!("{first},{second}");
        with(&both).is("isolation", "ok", "isolated");
        node.write("/etc/kcm/pools/infra/6-7/tasks", "");
        let stuck = with(&format!("{both},6-7"));
        let found = stuck.0.iter().filter(|(check, _)| check == "isolation");
        let found: Vec<&Finding> = found.map(|(_, finding)| finding).collect();
        assert!(found[1].message.contains("infra"), "{found:?}");
        let last = format!("boot with isolcpus={first}, or Linux 6.8 or newer with cgroup v2");
        let remedy = with("").get("isolation").remedy.clone().unwrap();
        assert!(remedy.ends_with(&last), "{remedy}");
    });
}

#[test]
fn programs_are_there_and_nobody_else_can_change_them() {
    on_an_installed_node(|_| {
        for (check, path) in [("kcm", "/opt/bin/kcm"), ("kcm-hook", "/opt/kcm/kcm-hook")] {
            let mode = |mode| fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
            mode(0o644);
            doctor(&[]).is(check, "fail", "cannot be executed");
            mode(0o777);
            doctor(&[]).is(check, "fail", "chmod go-w");
            mode(0o755);
            doctor(&[]).is(check, "ok", path);
            fs::remove_file(path).unwrap();
            doctor(&[]).is(check, "fail", "kcm install");
        }
        doctor(&["--hook-dir=/srv"]).is("kcm-hook", "fail", "/srv/kcm-hook");
    });
}

#[test]
fn an_engine_that_is_to_call_the_hook_does() {
    on_an_installed_node(|node| {
        let asked = ["--runtime=containerd", "--runtime=podman", "--runtime=crio"];
        doctor(&asked).is("crio", "fail", "there is no program crio");
        let other = ["--hook-dir=/srv", "--runtime=containerd", "--runtime=podman"];
        let findings = doctor(&other);
        findings.is("podman", "fail", "not /srv/kcm-hook");
        findings.is("containerd", "fail", "not /srv/kcm-hook");
        let findings = doctor(&["--conf-dir=/srv/kcm"]);
        findings.is("podman", "fail", "without --conf-dir=/srv/kcm");
        findings.is("containerd", "fail", "without --conf-dir=/srv/kcm");
        // podman skips a hook whose program is missing, and runs the container unpinned.
        fs::rename("/opt/kcm/kcm-hook", "/opt/kcm/aside").unwrap();
        let findings = doctor(&[]);
        findings.is("podman", "fail", "is not there");
        findings.is("containerd", "fail", "is not there");
        fs::rename("/opt/kcm/aside", "/opt/kcm/kcm-hook").unwrap();

        // Releases before had the hook called for a pool's keys alone.
        let file = "/usr/share/containers/oci/hooks.d/50-kcm.json";
        let ours = node.read(file);
        let old = ours.replace(r#""^kcm\\.intel\\.com/""#, r#""^kcm\\.intel\\.com/pool(\\..+)?$""#);
        assert_ne!(old, ours);
        node.write(file, &old);
        let findings = doctor(&[]);
        findings.is("podman", "warn", r"^kcm\\.intel\\.com/pool(\\..+)?$");
        findings.is("podman", "warn", "would run unpinned");
        findings.is("podman", "warn", "kcm install --runtime=podman");
        node.kcm(&["install", "--runtime=podman"]).succeeded();
        assert_eq!(node.read(file), ours);

        // A folder that the engine looks into no more.
        node.write("/etc/containers/containers.conf", "[engine]\nhooks_dir = [\"/opt/x\"]\n");
        doctor(&asked).is("podman", "fail", "/opt/x");
        fs::remove_file("/etc/containers/containers.conf").unwrap();

        node.kcm(&["uninstall", "--runtime=containerd", "--runtime=podman"]).succeeded();
        node.kcm(&["install"]).succeeded();
        let findings = doctor(&asked);
        findings.is("podman", "fail", "kcm install --runtime=podman");
        findings.is("containerd", "fail", "kcm install --runtime=containerd");
        // Nobody has asked for it.
        let findings = doctor(&[]);
        findings.is("podman", "warn", "kcm install --runtime=podman");
        findings.is("containerd", "warn", "kcm install --runtime=containerd");
    });
}

#[test]
fn containerds_configuration_and_base_spec_are_those_of_today() {
    const BASE_SPEC: &str = "/etc/containerd/kcm-base-spec.json";
    const CONFIG: &str = "/etc/containerd/config.toml";
    on_an_installed_node(|node| {
        let (spec, config) = (node.read(BASE_SPEC), node.read(CONFIG));
        let mut edited: Value = serde_json::from_str(&spec).unwrap();
        edited["mounts"].as_array_mut().unwrap().pop();
        node.write(BASE_SPEC, &edited.to_string());
        doctor(&[]).is("containerd", "warn", "another version");
        edited["hooks"] = Value::Null;
        node.write(BASE_SPEC, &edited.to_string());
        doctor(&[]).is("containerd", "fail", "createRuntime: it has no hook");
        node.write(BASE_SPEC, "{");
        doctor(&[]).is("containerd", "fail", BASE_SPEC);
        fs::remove_file(BASE_SPEC).unwrap();
        doctor(&[]).is("containerd", "fail", "containerd will not start");
        node.write(BASE_SPEC, &spec);
        node.write(CONFIG, "version = ");
        doctor(&[]).is("containerd", "fail", "config.toml: it does not parse: line 1");
        node.write(CONFIG, &config);
        doctor(&[]).is("containerd", "ok", "");
    });
}

#[test]
fn a_kubelet_that_sets_cpusets_itself_is_a_failure() {
    on_an_installed_node(|node| {
        let state = "/var/lib/kubelet/cpu_manager_state";
        node.write(state, r#"{"policyName": "none", "defaultCpuSet": "", "checksum": 1}"#);
        doctor(&[]).is("kubelet", "ok", "none");
        node.write(state, r#"{"policyName": "static", "defaultCpuSet": "0-1", "checksum": 1}"#);
        doctor(&[]).is("kubelet", "fail", "cpuManagerPolicy: none");
        fs::remove_file(state).unwrap();
        node.write("/var/lib/kubelet/config.yaml", "kind: X\ncpuManagerPolicy: \"static\"\n");
        doctor(&[]).is("kubelet", "fail", "cpuManagerPolicy: none");
    });
}

#[test]
fn what_the_scheduler_may_give_to_others_does_not_count_exclusive_cpus() {
    on_an_installed_node(|node| {
        let config = "/var/lib/kubelet/config.yaml";
        let [first, second] = two_cpus();
        for (text, status) in [
            ("kind: KubeletConfiguration\n", "warn"),
            ("systemReserved:\n  memory: 1Gi\n  cpu: \"1\"\n", "ok"),
            ("systemReserved:\n  cpu: 500m\n", "warn"),
            (
                "systemReserved:\n  cpu: 500m\nkubeReserved:\n  cpu: 0.5\nevictionHard:\n  cpu: 9\n",
                "ok",
            ),
            ("evictionHard:\n  cpu: 9\n", "warn"),
            (&format!("reservedSystemCPUs: \"{first}\"\n"), "ok"),
            (&format!("reservedSystemCPUs: {second}\nsystemReserved:\n  cpu: 4\n"), "warn"),
        ] {
            node.write(config, text);
            doctor(&[]).is("reserved", status, "");
        }
    });
}

#[test]
fn whoever_else_may_run_on_exclusive_cpus_is_named() {
    on_an_installed_node(|_| {
        let [first, _] = two_cpus();
        let conf_dir = "/etc/kcm".as_ref();
        let holder = StandIn::new(&new_id("holder"));
        HookCall::create(conf_dir, &holder, "exclusive").run().must_succeed();
        let findings = doctor(&[]);
        let found = findings.get("processes");
        assert!(!found.message.contains(&format!("({})", holder.pid())), "{found:?}");
        // This test may run there, unless the CPU is isolated.
        let isolated = sysfs_cpus("cpu/isolated").contains(first.parse().unwrap());
        findings.is("processes", if isolated { "ok" } else { "warn" }, "exclusive pools");

        let stranger = Command::new("taskset").args(["-c", &first, "sleep", "600"]).spawn();
        let mut stranger = stranger.unwrap();
        kcm_tests::machine::until("a stranger to run there", || {
            let status = fs::read_to_string(format!("/proc/{}/status", stranger.id())).unwrap();
            status.contains("Name:\tsleep\n").then_some(())
        });
        // On CPUs that are held, it cannot be told from the holder's own.
        drop(holder);
        HookCall::poststop(conf_dir, "holder-0").run();
        node_reconcile();
        let findings = doctor(&[]);
        findings.is("processes", "warn", "processes may run on CPUs");
        stranger.kill().unwrap();
        stranger.wait().unwrap();
    });
}

fn node_reconcile() {
    run(kcm().arg("reconcile")).succeeded();
}

#[test]
fn interrupts_on_exclusive_cpus_are_counted() {
    on_an_installed_node(|_| {
        let [first, _] = two_cpus();
        let first: u32 = first.parse().unwrap();
        let mut expected = 0;
        for irq in fs::read_dir("/proc/irq").unwrap().flatten() {
            let is_used = fs::read_dir(irq.path())
                .is_ok_and(|entries| entries.flatten().any(|entry| entry.path().is_dir()));
            let cpus = fs::read_to_string(irq.path().join("effective_affinity_list"));
            let cpus: Option<CpuSet> = cpus.ok().and_then(|cpus| cpus.trim().parse().ok());
            expected += usize::from(is_used && cpus.is_some_and(|cpus| cpus.contains(first)));
        }
        let findings = doctor(&[]);
        match expected {
            0 => findings.is("interrupts", "ok", "none"),
            _ => findings.is("interrupts", "warn", &format!("{expected} interrupts are served")),
        }
    });
}

#[test]
fn a_holder_that_is_throttled_is_named() {
    on_an_installed_node(|_| {
        let holder = StandIn::new(&new_id("throttled"));
        HookCall::create("/etc/kcm".as_ref(), &holder, "exclusive").run().must_succeed();
        doctor(&[]).is("quotas", "ok", "no holder");
        let _quota = Quota::on(holder.cgroup());
        let path = holder.cgroup().path();
        let said = format!("{} ({path} has a CFS quota (50000 100000))", holder.id());
        doctor(&[]).is("quotas", "warn", &said);
        let quota = &guards::guards_seen(&[])["quota"];
        let said = format!("may be throttled: {said}");
        assert!(quota["message"].as_str().unwrap().starts_with(&said), "{quota}");
    });
}
