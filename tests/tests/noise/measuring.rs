//! Measuring CPUs that are free.

use std::process::Stdio;
use std::time::Duration;

use kcm_tests::conf_dir::ConfDir;
use kcm_tests::kcm::{kcm, run};
use kcm_tests::machine::{is_running, kill_and_wait, two_cpus, until, with_own_mounts};
use kcm_tests::own_place::OwnPlace;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use super::load::{Stall, mount_tracefs};
use super::watching::noise;

fn directory(first: &str) -> (ConfDir, String) {
    let conf = ConfDir::new(&[("p", true, &[first]), ("shared", false, &[first])]);
    let flag = format!("--conf-dir={}", conf.path().display());
    (conf, flag)
}

#[test]
fn a_stall_of_known_length_is_seen_and_is_whose_it_was() {
    with_own_mounts(|| {
        if !mount_tracefs() {
            return;
        }
        let _place = OwnPlace::enter();
        let [first, _] = two_cpus();
        let (conf, flag) = directory(&first);
        let length = Duration::from_millis(80);
        let stall = Stall::start("kcm-stall", first.parse().unwrap(), length);
        let report = noise(&[&flag, "--pool=p", "--measure", "--duration=2s"]);
        let stalls = stall.stop();
        let cpu = &report["eachCpu"][0];
        let gaps = &cpu["gaps"];
        let of = |key: &str| gaps[key].as_u64().unwrap();
        assert!(of("maxNs") >= length.as_nanos() as u64, "{gaps:#}");
        let begin = report["window"]["beginNs"].as_u64().unwrap();
        let end = report["window"]["endNs"].as_u64().unwrap();
        // Those that lie well within.
        let within =
            stalls.iter().filter(|(at, to)| *at > begin + 200_000_000 && *to < end - 200_000_000);
        let mut count = 0;
        for &(at, to) in within {
            count += 1;
            let found = gaps["above"].as_array().unwrap().iter().find(|gap| {
                let gap_at = begin + gap["atNs"].as_u64().unwrap();
                let gap_to = gap_at + gap["lengthNs"].as_u64().unwrap();
                gap_at <= at && to <= gap_to
            });
            let found = found.unwrap_or_else(|| panic!("no gap around {at}-{to} in {gaps:#}"));
            let by = found["by"].as_array().unwrap().iter().find(|by| by["name"] == "kcm-stall");
            let ns = by.unwrap_or_else(|| panic!("{found:#}"))["ns"].as_u64().unwrap();
            // Interrupts in it are told apart.
            assert!(ns + ns / 10 >= length.as_nanos() as u64, "{found:#}");
            assert!(ns <= found["lengthNs"].as_u64().unwrap(), "{found:#}");
        }
        assert!(count >= 2, "{stalls:?} {begin} {end}");
        let percentiles = ["p50Ns", "p99Ns", "p999Ns", "p9999Ns", "maxNs"].map(of);
        assert!(percentiles.is_sorted() && percentiles[0] > 0, "{gaps:#}");
        let sum: u64 =
            gaps["histogram"].as_object().unwrap().values().map(|n| n.as_u64().unwrap()).sum();
        assert_eq!(sum, of("readings"));
        // The loop is the owner, and what it took is given back.
        assert!(cpu["ownersNs"].as_u64().unwrap() > 100_000_000, "{cpu:#}");
        assert_eq!(conf.allocations(), Vec::<String>::new());
        assert_eq!(conf.tasks("p", &first), "");
    });
}

#[test]
fn what_is_not_free_is_not_measured_and_is_said_to_be_held_by_whom() {
    let _place = OwnPlace::enter();
    let [first, second] = two_cpus();
    let (conf, flag) = directory(&first);
    let refused = |words: &[&str], parts: &[&str]| {
        let mut command = kcm();
        command.args(["noise", "--measure", "--duration=50ms", &flag]).args(words);
        run(&mut command).failed_with(parts)
    };
    let before = conf.snapshot();
    refused(&["--pool=shared"], &["pool shared is shared", "exclusive"]);
    refused(&["--pool=q"], &["q", "p"]);
    refused(&[&format!("--cpus={second}")], &["no whole CPU lists of one exclusive pool"]);
    assert_eq!(conf.snapshot(), before);
    let mut isolate = kcm();
    isolate.args(["isolate", &flag, "--pool=p", "sleep", "--", "60"]);
    let mut isolate = isolate.stderr(Stdio::null()).spawn().unwrap();
    let owner = format!("isolate-{}", isolate.id());
    until("the record", || conf.record(&owner));
    for words in [vec!["--pool=p".to_owned()], vec![format!("--cpus={first}")]] {
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let outcome = refused(&words, &["No free cpu lists in pool p"]);
        let held = outcome.lines("WARNING").join("\n");
        assert!(held.contains(&owner), "{held}");
    }
    refused(&["--pool=p", "--cores=2"], &["2 cores requested of pool p, which has 1"]);
    isolate.kill().unwrap();
    isolate.wait().unwrap();
}

#[test]
fn wrong_usage_of_measuring_is_status_2() {
    for words in [
        &["--container=x", "--measure"] as &[&str],
        &["--pool=p", "--cores=2"],
        &["--pool=p", "--measure", "--cores=0"],
        &["--cpus=0", "--measure", "--cores=2"],
        &["--pool=p", "--threshold=10us"],
        &["--pool=p", "--measure", "--threshold=0"],
        &["--pool=p", "--measure", "--threshold=1h"],
    ] {
        let outcome = run(kcm().arg("noise").args(words));
        assert_eq!((outcome.code, &*outcome.out), (Some(2), ""), "{words:?}: {outcome:?}");
    }
}

#[test]
fn whoever_ends_it_frees_what_it_took() {
    let _place = OwnPlace::enter();
    let [first, _] = two_cpus();
    let (conf, flag) = directory(&first);
    let start = || {
        let mut command = kcm();
        command.args(["noise", "--measure", "--pool=p", "--duration=10m", "--output=json", &flag]);
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let owner = format!("isolate-{}", child.id());
        until("the record", || conf.record(&owner));
        let children = format!("/proc/{0}/task/{0}/children", child.id());
        let gauge = until("the loop", || {
            let children = std::fs::read_to_string(&children).unwrap_or_default();
            children.split_whitespace().next().map(|pid| pid.parse::<i32>().unwrap())
        });
        std::thread::sleep(Duration::from_millis(500));
        (child, gauge)
    };
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        let (child, _) = start();
        kill(Pid::from_raw(child.id() as i32), signal).unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{output:?}");
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        // On a busy machine it may not have begun yet.
        assert!(report["eachCpu"][0]["gaps"]["readings"].is_u64(), "{report:#}");
        assert_eq!(conf.allocations(), Vec::<String>::new());
    }
    let (mut child, gauge) = start();
    kill_and_wait(child.id() as i32);
    child.wait().unwrap();
    until("the loop to end with it", || (!is_running(gauge)).then_some(()));
    // All of its threads.
    OwnPlace::is_empty();
    // Whoever wants them next has them.
    let report = noise(&[&flag, "--measure", "--pool=p", "--duration=100ms"]);
    assert_eq!(report["subject"], json!("pool p"));
    assert_eq!(conf.allocations(), Vec::<String>::new());
    // A loop that is killed is an error, and frees them, too.
    let (child, gauge) = start();
    kill_and_wait(gauge);
    kill(Pid::from_raw(child.id() as i32), Signal::SIGINT).unwrap();
    let output = child.wait_with_output().unwrap();
    let err = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{err}");
    // On a slow machine it had not begun yet.
    let errors = err.lines().filter(|line| line.starts_with("ERROR "));
    let errors: Vec<&str> = errors.collect();
    assert!(errors.len() == 1 && errors[0].contains("the loop that measures"), "{err}");
    assert_eq!(conf.allocations(), Vec::<String>::new());
}
