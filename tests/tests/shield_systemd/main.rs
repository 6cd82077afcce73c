//! `kcm shield` in the guest with systemd: its units, interrupts, threads, all of a real machine, before,
//! under and after it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods, missing_docs)]

mod killed;
mod others;
mod seen;
mod spared;

use std::fs;
use std::path::Path;
use std::process::Command;

use kcm_core::CpuSet;
use kcm_tests::conf_dir::ConfDir;
use kcm_tests::kcm::{Outcome, kcm, run};
use kcm_tests::machine::{Guest, must_be_the_guest, reload_systemd, until};
use seen::Seen;
use serde_json::Value;

/// The exclusive pool's CPUs: half a core of each socket is not, so that most things span it.
const POOL: [&str; 2] = ["3", "9-10"];

const UNITS: [&str; 3] = ["init.scope", "system.slice", "user.slice"];

fn conf() -> ConfDir {
    assert_eq!(must_be_the_guest(), Guest::Systemd);
    ConfDir::new(&[("dp", true, &POOL), ("infra", false, &["0-2,4-8,11-15"])])
}

fn pool() -> CpuSet {
    POOL.join(",").parse().unwrap()
}

fn shield(conf: &ConfDir, words: &[&str]) -> Outcome {
    run(kcm().arg("shield").args(words).env("KCM_CONF_DIR", conf.path()))
}

fn status(conf: &ConfDir) -> Value {
    let out = shield(conf, &["status", "--output=json"]).succeeded().out;
    serde_json::from_str(&out).unwrap()
}

fn start(words: &[&str]) {
    let output = Command::new("systemd-run").arg("--quiet").args(words).output().unwrap();
    assert!(output.status.success(), "{words:?}: {output:?}");
}

fn systemctl(words: &[&str]) {
    let output = Command::new("systemctl").args(words).output().unwrap();
    assert!(output.status.success(), "{words:?}: {output:?}");
}

/// What holds for a unit's processes, whoever says so.
fn effective(unit: &str) -> CpuSet {
    let files = [format!("/sys/fs/cgroup/{unit}"), "/sys/fs/cgroup".to_owned()];
    let texts = files.iter().filter_map(|folder| {
        fs::read_to_string(Path::new(folder).join("cpuset.cpus.effective")).ok()
    });
    texts.map(|text| text.parse().unwrap()).next().unwrap()
}

/// Services that are bound by themselves, to the pool, partly, and not.
fn bound_services() {
    stop_services();
    for (name, cpus) in [("pool", "3"), ("partly", "2 3 4"), ("not", "5")] {
        let affinity = format!("CPUAffinity={cpus}");
        let unit = format!("--unit=kcmtest-{name}");
        start(&["--collect", "-p", &affinity, &unit, "sleep", "1000"]);
        let cpus: CpuSet = cpus.replace(' ', ",").parse().unwrap();
        let is_bound =
            || of_service(&format!("kcmtest-{name}")).filter(|it| *it == cpus.to_string());
        until("a service to be bound", is_bound);
    }
}

fn stop_services() {
    let names = ["kcmtest-pool", "kcmtest-partly", "kcmtest-not"];
    // Not there at first.
    let _ = Command::new("systemctl").arg("stop").args(names).output().unwrap();
}

/// The CPUs of a process that is started now, in a slice.
fn newcomer(slice: &str) -> CpuSet {
    let slice = format!("--slice={slice}");
    let words = ["--quiet", "--wait", "--pipe", "--collect", &slice, "grep", "Cpus_allowed_list"];
    let output = Command::new("systemd-run").args(words).arg("/proc/self/status").output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    text.trim().rsplit('\t').next().unwrap().parse().unwrap()
}

/// The CPUs of a service's process, once it is there.
fn of_service(name: &str) -> Option<String> {
    let pid = Command::new("systemctl").args(["show", "--value", "-p", "MainPID", name]).output();
    let pid = String::from_utf8(pid.unwrap().stdout).unwrap();
    let status = fs::read_to_string(format!("/proc/{}/status", pid.trim())).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:\t"));
    line.map(str::to_owned)
}

#[test]
fn nothing_of_the_nodes_own_is_on_the_pools_cpus_under_the_shield_and_all_is_as_before_after_it() {
    let conf = conf();
    bound_services();
    let before = Seen::now();
    shield(&conf, &["on", "--dry-run"]).succeeded();
    Seen::now().must_equal(&before, "after a dry run");
    shield(&conf, &["on", "--latency=0"]).succeeded();

    let off_the_pool = |cpus: &CpuSet| cpus.intersection(&pool()).is_empty();
    let must_be_off = |when: &str| {
        for unit in UNITS {
            assert!(off_the_pool(&effective(unit)), "{unit}, {when}");
        }
        for slice in ["system.slice", "user-0.slice"] {
            assert!(off_the_pool(&newcomer(slice)), "a new process of {slice}, {when}");
        }
    };
    must_be_off("at once");
    reload_systemd();
    must_be_off("after a daemon-reload");
    // The bound ones have what is left to them.
    assert_eq!(of_service("kcmtest-partly").unwrap(), "2,4");
    assert_eq!(of_service("kcmtest-not").unwrap(), "5");
    let of_pool: CpuSet = of_service("kcmtest-pool").unwrap().parse().unwrap();
    assert!(off_the_pool(&of_pool), "{of_pool}");
    let under = Seen::now();
    // What has stayed is what is said to.
    let status = status(&conf);
    assert_eq!(status["shield"], "on", "{status:#}");
    let left = status["left"].as_array().unwrap();
    let left = |kind: &str, name: &str| {
        left.iter().any(|it| {
            it["kind"] == kind && it["name"].as_str().unwrap().split(' ').next() == Some(name)
        })
    };
    for (path, value) in &under.files {
        if let Some(number) = path.strip_prefix("/proc/irq/").and_then(|rest| rest.split_once('/'))
        {
            let handlers = fs::read_dir(format!("/proc/irq/{}", number.0)).unwrap();
            let is_used = handlers.flatten().any(|entry| entry.path().is_dir());
            let is_off = off_the_pool(&value.parse().unwrap());
            assert!(is_off || !is_used || left("interrupt", number.0), "{path}: {value}");
        }
    }
    for ((tid, _), (name, allowed)) in &under.threads {
        let is_new = !before.threads.keys().any(|(it, _)| it == tid);
        let is_off = off_the_pool(&allowed.parse().unwrap());
        assert!(is_off || is_new || left("kernel-thread", name), "{name} ({tid}): {allowed}");
    }
    let report = run(kcm().arg("node-report").env("KCM_CONF_DIR", conf.path())).succeeded().out;
    let report: Value = serde_json::from_str(&report).unwrap();
    let guard = &report["checks"]["isolation"]["pools"]["dp"]["shield"];
    assert_eq!(*guard, serde_json::json!({"message": "shielded", "state": "holds"}));
    let parameters = status["parameters"].as_str().unwrap();
    assert!(parameters.contains("isolcpus=managed_irq,3,9-10"), "{parameters}");

    shield(&conf, &["on", "--latency=0"]).succeeded();
    Seen::now().must_equal(&under, "after a second on");
    let off = shield(&conf, &["off"]).succeeded();
    assert_eq!(off.lines("WARNING"), [""; 0]);
    Seen::now().must_equal(&before, "after off");
    reload_systemd();
    Seen::now().must_equal(&before, "after off and a daemon-reload");
    assert_eq!(newcomer("system.slice"), effective(""));
    stop_services();
}

#[test]
fn where_the_kernel_takes_no_empty_list_the_file_has_every_cpu_and_status_says_so() {
    let conf = conf();
    // Something else needs the controller, so that systemd does not take it away.
    let words =
        ["--collect", "--slice=machine.slice", "-p", "AllowedCPUs=0-15", "--unit=kcmtest-cpuset"];
    start(&[&words[..], &["sleep", "1000"]].concat());
    systemctl(&["set-property", "--runtime", "machine.slice", "AllowedCPUs=0-14"]);
    let own = |unit: &str| {
        let text = fs::read_to_string(format!("/sys/fs/cgroup/{unit}/cpuset.cpus")).unwrap();
        text.trim().to_owned()
    };
    until("the controller to be there", || (own("machine.slice") == "0-14").then_some(()));
    let before = Seen::now();
    // The latter of an earlier round.
    assert!(["", "0-15"].contains(&own("system.slice").as_str()));
    shield(&conf, &["on"]).succeeded();
    let off = shield(&conf, &["off", "--output=json"]).succeeded();
    Seen::now().must_equal(&before, "after off");
    let off: Value = serde_json::from_str(&off.out).unwrap();
    for report in [off, status(&conf)] {
        let whole = report["whole"].as_array().unwrap();
        for unit in ["init.scope", "system.slice"] {
            assert_eq!(whole.iter().any(|it| it == unit), own(unit) == "0-15", "{unit}: {whole:?}");
            assert!(["", "0-15"].contains(&own(unit).as_str()));
        }
    }
    // The next one begins with it.
    shield(&conf, &["on"]).succeeded();
    shield(&conf, &["off"]).succeeded();
    Seen::now().must_equal(&before, "after another round");
    systemctl(&["stop", "kcmtest-cpuset"]);
    systemctl(&["set-property", "--runtime", "machine.slice", "AllowedCPUs="]);
}
