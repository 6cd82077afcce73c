//! Watching CPUs that are in use.

use std::process::{Command, Stdio};
use std::time::Duration;

use kcm_tests::conf_dir::ConfDir;
use kcm_tests::kcm::{kcm, run};
use kcm_tests::machine::{kill_and_wait, two_cpus, until, with_own_mounts};
use kcm_tests::oracle::{Had, Oracle, assert_between, instances_of};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use super::load::{Load, mount_tracefs};

/// A CPU and `kcm noise` for it as JSON.
pub(crate) fn noise(args: &[&str]) -> Value {
    let outcome = run(kcm().arg("noise").arg("--output=json").args(args)).succeeded();
    serde_json::from_str(&outcome.out).unwrap_or_else(|e| panic!("{e}: {outcome:?}"))
}

/// What is said of a thread.
fn source(report: &Value, thread: i32) -> Value {
    let sources = report["eachCpu"][0]["sources"].as_array().unwrap();
    let mut found = sources.iter().filter(|source| source["pid"] == thread);
    found.next().unwrap_or_else(|| panic!("{thread} is not in {report:#}")).clone()
}

fn window(report: &Value) -> (u64, u64) {
    let at = |name: &str| report["window"][name].as_u64().unwrap();
    (at("beginNs"), at("endNs"))
}

#[test]
fn a_spinner_and_a_ticker_are_named_with_what_they_had_by_two_other_accounts() {
    with_own_mounts(|| {
        if !mount_tracefs() {
            return;
        }
        let cpu: u32 = two_cpus()[0].parse().unwrap();
        let ms = Duration::from_millis;
        let spinner = Load::start("kcm-spinner", cpu, ms(1), Duration::ZERO);
        let ticker = Load::start("kcm-ticker", cpu, Duration::from_micros(300), ms(5));
        let oracle = Oracle::start(cpu);
        let report = noise(&[&format!("--cpus={cpu}"), "--duration=2s"]);
        let (begin, end) = window(&report);
        let had = oracle.stop(begin, end);
        assert_eq!(report["source"], "tracefs");
        // Later than asked where the machine is busy, never earlier.
        assert!((2_000_000_000..20_000_000_000).contains(&(end - begin)), "{report:#}");
        for (load, name) in [(spinner, "kcm-spinner"), (ticker, "kcm-ticker")] {
            let Had { least, most, .. } = had.get(&load.thread).cloned().unwrap_or_default();
            let thread = load.thread;
            let (spun, ran) = load.ran_between(begin, end);
            // On a busy machine nobody else may have let the spinner run at all.
            if most == 0 && ran == 0 && name == "kcm-spinner" {
                continue;
            }
            let found = source(&report, thread);
            let of = |key: &str| found[key].as_u64().unwrap();
            assert_eq!((&found["name"], &found["kind"]), (&name.into(), &"thread".into()));
            assert_eq!(found["process"], std::process::id());
            let on_cpu = of("onCpuNs");
            assert_between(&format!("{name} by sched_switch"), on_cpu, least, most);
            // That clock stops while the hypervisor runs others, which is counted in ticks of 10 ms.
            let steal = report["eachCpu"][0]["stealNs"].as_u64().unwrap();
            let steal = if steal > 0 { steal + 10_000_000 } else { 0 };
            // What is not told for sure may be another's.
            let untold = most - least;
            let (least, most) = (spun.saturating_sub(untold), ran + steal + untold);
            assert_between(&format!("{name} by its own clock"), on_cpu, least, most);
            let longest = of("longestNs");
            let is_ordered = longest <= of("totalNs") && of("totalNs") <= of("onCpuNs");
            assert!(is_ordered && longest > 0 && of("count") > 0, "{found}");
            let parts = found["timeline"].as_object().unwrap().values();
            let parts: u64 = parts.map(|ns| ns.as_u64().unwrap()).sum();
            assert_eq!(parts, of("totalNs"));
        }
        // Nothing is lost between them, and nothing is counted twice.
        let cpu = &report["eachCpu"][0];
        let sum =
            ["foreignNs", "idleNs", "interruptsNs", "ownersNs", "softirqsNs", "unaccountedNs"];
        let sum: u64 = sum.iter().map(|key| cpu[*key].as_u64().unwrap()).sum();
        assert_eq!(sum, end - begin, "{cpu:#}");
        assert_eq!(cpu["lostEvents"], 0);
        let kinds: Vec<&str> = cpu["sources"]
            .as_array()
            .unwrap()
            .iter()
            .map(|s| s["kind"].as_str().unwrap())
            .collect();
        assert!(kinds.contains(&"interrupt") && kinds.contains(&"softirq"), "{kinds:?}");
    });
}

#[test]
fn a_holders_threads_are_its_own_and_nobody_elses() {
    with_own_mounts(|| {
        if !mount_tracefs() {
            return;
        }
        let [first, _] = two_cpus();
        let conf = ConfDir::new(&[("p", true, &[&first])]);
        let flag = format!("--conf-dir={}", conf.path().display());
        let mut isolate = kcm();
        // Names that nobody else has on this machine.
        let programs = tempfile::tempdir().unwrap();
        let copy = |program: &str, name: &str| {
            let path = programs.path().join(name);
            assert!(
                Command::new("cp").args(["-L", program]).arg(&path).status().unwrap().success()
            );
            path.to_str().unwrap().to_owned()
        };
        let (sh, sleep) = (copy("/bin/sh", "kcm-own-sh"), copy("/bin/sleep", "kcm-own-sleep"));
        // Most of what it starts has ended before anybody could look at it.
        let script = format!("while :; do {sleep} 0.005; done");
        isolate.args(["isolate", &flag, "--pool=p", "chrt", "--", "-r", "1", &sh, "-c", &script]);
        let mut isolate = isolate.stderr(Stdio::null()).spawn().unwrap();
        let owner = format!("isolate-{}", isolate.id());
        until("the record", || conf.record(&owner));
        let stranger = Load::start(
            "kcm-stranger",
            first.parse().unwrap(),
            Duration::from_millis(1),
            Duration::from_millis(2),
        );
        let by_container = noise(&[&flag, &format!("--container={owner}"), "--duration=500ms"]);
        let by_pool = noise(&[&flag, "--pool=p", "--duration=500ms"]);
        let all =
            noise(&["--conf-dir=/nonexistent", &format!("--cpus={first}"), "--duration=500ms"]);
        isolate.kill().unwrap();
        isolate.wait().unwrap();
        for report in [&by_container, &by_pool] {
            let cpu = &report["eachCpu"][0];
            assert_eq!(cpu["owners"], serde_json::json!([owner]), "{report:#}");
            assert!(cpu["ownersNs"].as_u64().unwrap() > 1_000_000, "{report:#}");
            let ours = source(report, stranger.thread)["totalNs"].as_u64().unwrap();
            assert!(ours > 1_000_000 && cpu["foreignNs"].as_u64().unwrap() >= ours, "{report:#}");
            let is_its = |s: &&Value| s["name"].as_str().unwrap().starts_with("kcm-own-");
            let its: Vec<&Value> =
                cpu["sources"].as_array().unwrap().iter().filter(is_its).collect();
            assert!(its.is_empty(), "taken for strangers: {its:#?}");
        }
        let cpu = &all["eachCpu"][0];
        assert_eq!((&cpu["owners"], &cpu["ownersNs"]), (&serde_json::json!([]), &0.into()));
    });
}

#[test]
fn it_ends_early_when_asked_and_leaves_nothing_and_what_a_killed_one_left_goes_with_the_next() {
    with_own_mounts(|| {
        if !mount_tracefs() {
            return;
        }
        let [first, _] = two_cpus();
        let cpus = format!("--cpus={first}");
        let start = || {
            let mut command = kcm();
            command.args(["noise", &cpus, "--duration=10m", "--output=json"]);
            let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
            let pid = child.id() as i32;
            until("the instance", || (!instances_of(pid).is_empty()).then_some(()));
            std::thread::sleep(Duration::from_millis(300));
            (child, pid)
        };
        for signal in [Signal::SIGINT, Signal::SIGTERM] {
            let (child, pid) = start();
            kill(Pid::from_raw(pid), signal).unwrap();
            let output = child.wait_with_output().unwrap();
            assert!(output.status.success(), "{output:?}");
            let report: Value = serde_json::from_slice(&output.stdout).unwrap();
            let (begin, end) = window(&report);
            assert!(begin < end && end - begin < 60_000_000_000, "{report:#}");
            assert!(instances_of(pid).is_empty());
        }
        let (mut child, pid) = start();
        kill_and_wait(pid);
        child.wait().unwrap();
        assert_eq!(instances_of(pid).len(), 1);
        noise(&[&cpus, "--duration=50ms"]);
        assert!(instances_of(pid).is_empty());
    });
}

#[test]
fn where_tracefs_is_not_mounted_kcm_mounts_it_for_itself_alone() {
    with_own_mounts(|| {
        if std::path::Path::new("/sys/kernel/tracing/instances").exists() {
            return; // as systemd has it
        }
        let mounts = || std::fs::read_to_string("/proc/thread-self/mountinfo").unwrap();
        let before = mounts();
        let [first, _] = two_cpus();
        let report = noise(&[&format!("--cpus={first}"), "--duration=100ms"]);
        assert_eq!(report["source"], "tracefs", "{report:#}");
        assert_eq!(mounts(), before);
    });
}

#[test]
fn the_table_says_who_had_what() {
    with_own_mounts(|| {
        if !mount_tracefs() {
            return;
        }
        let [first, _] = two_cpus();
        let name = "kcm  \u{1b}[2J";
        let load = Load::start(
            name,
            first.parse().unwrap(),
            Duration::from_millis(1),
            Duration::from_millis(2),
        );
        let mut command: Command = kcm();
        let outcome = run(command.args(["noise", "--duration=500ms", &format!("--cpus={first}")]));
        let table = outcome.succeeded().out;
        let lines: Vec<&str> = table.lines().collect();
        assert!(lines[0].starts_with(&format!("CPUs {first}, for ")), "{table}");
        assert!(lines[0].ends_with(", traced"), "{table}");
        assert_eq!(
            lines[2].split_whitespace().collect::<Vec<_>>().join(" "),
            "CPU OWNERS THEIR TIME IDLE FOREIGN INTERRUPTS SOFTIRQS STEAL"
        );
        let ours = lines.iter().find(|line| line.contains(&format!(" {} ", load.thread)));
        let ours = ours.unwrap_or_else(|| panic!("{table}"));
        assert!(ours.starts_with("thread ") && ours.contains("kcm  \u{fffd}[2J"), "{table}");
    });
}
