//! Events that the kernel has no room for.

use std::fs;
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use kcm_tests::kcm::{Outcome, kcm};
use kcm_tests::machine::{two_cpus, until, with_own_mounts};
use kcm_tests::oracle::{TRACEFS, instances_of};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use super::load::{bind, mount_tracefs, set};

#[test]
fn what_was_lost_is_counted_and_its_time_is_given_to_nobody() {
    with_own_mounts(|| {
        if !mount_tracefs() {
            return;
        }
        let [first, _] = two_cpus();
        let mut command = kcm();
        command.args(["noise", &format!("--cpus={first}"), "--duration=3s", "--output=json"]);
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let pid = child.id() as i32;
        let instance = until("the instance", || instances_of(pid).pop());
        std::thread::sleep(Duration::from_millis(700));
        // It reads nothing, while two threads hand the CPU to each other.
        kill(Pid::from_raw(pid), Signal::SIGSTOP).unwrap();
        let over = AtomicBool::new(false);
        std::thread::scope(|threads| {
            for _ in 0..2 {
                threads.spawn(|| {
                    bind(first.parse().unwrap());
                    set(&["chrt", "-r", "-p", "1"]);
                    while !over.load(Ordering::Relaxed) {
                        std::thread::yield_now();
                    }
                });
            }
            let stats = format!("{TRACEFS}/instances/{instance}/per_cpu/cpu{first}/stats");
            let overrun = || {
                let stats = fs::read_to_string(&stats).unwrap();
                let line = stats.lines().find_map(|line| line.strip_prefix("overrun: ")).unwrap();
                (line.parse::<u64>().unwrap() > 2000).then_some(())
            };
            until("the buffer to be full", overrun);
            over.store(true, Ordering::Relaxed);
        });
        kill(Pid::from_raw(pid), Signal::SIGCONT).unwrap();
        let outcome = Outcome::from(child.wait_with_output().unwrap()).succeeded();
        let warnings = outcome.lines("WARNING").join("\n");
        assert!(warnings.contains(&format!("events of CPU {first} were lost")), "{warnings}");
        let report: Value = serde_json::from_str(&outcome.out).unwrap();
        let cpu = &report["eachCpu"][0];
        let of = |key: &str| cpu[key].as_u64().unwrap();
        assert!(of("lostEvents") > 1000 && of("unaccountedNs") > 1_000_000, "{cpu:#}");
        let sum =
            ["foreignNs", "idleNs", "interruptsNs", "ownersNs", "softirqsNs", "unaccountedNs"];
        let sum: u64 = sum.into_iter().map(of).sum();
        let at = |name: &str| report["window"][name].as_u64().unwrap();
        assert_eq!(sum, at("endNs") - at("beginNs"), "{cpu:#}");
    });
}
