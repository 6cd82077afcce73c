//! A command with a real-time policy that never yields: kcm, which is not on its CPU, goes on.

use std::fs;

use kcm_tests::conf_dir::ConfDir;
use kcm_tests::isolate::{Isolate, nothing_must_be_held};
use kcm_tests::machine::{guest, two_cpus, until};
use nix::sys::signal::Signal;

/// What the kernel leaves to others of each second, in microseconds (sched(7)); put back when dropped.
struct Throttling(String);

const FILE: &str = "/proc/sys/kernel/sched_rt_runtime_us";

impl Throttling {
    fn off() -> Self {
        let before = fs::read_to_string(FILE).unwrap();
        fs::write(FILE, "-1").unwrap();
        Self(before)
    }
}

impl Drop for Throttling {
    fn drop(&mut self) {
        let _ = fs::write(FILE, &self.0);
    }
}

#[test]
fn a_command_that_leaves_its_cpu_to_nobody_can_be_ended_through_kcm() {
    if guest().is_none() {
        // Nothing else would run there if it failed.
        println!("not tried: it takes a CPU of the machine away");
        return;
    }
    let [cpu, _] = two_cpus();
    let _throttling = Throttling::off();
    for (way, signal, code) in [
        (false, Signal::SIGTERM, 128 + 15),
        (true, Signal::SIGTERM, 128 + 15),
        (false, Signal::SIGINT, 128 + 2),
    ] {
        let conf_dir = ConfDir::new(&[("p", true, &[&cpu])]);
        let words = ["chrt", "--", "-f", "50", "sh", "-c", "echo $$; while :; do :; done"];
        let isolate = Isolate::new(&conf_dir, "p", &words);
        let isolate = if way { isolate.by_affinity() } else { isolate }.start();
        let child = isolate.process(0);
        until("it to be real-time", || {
            let stat = fs::read_to_string(format!("/proc/{}/stat", child.pid())).ok()?;
            let policy = stat.rsplit_once(')')?.1.split_whitespace().nth(38)?.to_owned();
            (policy == "1").then_some(())
        });
        isolate.signal(signal);
        assert_eq!(isolate.finish().code, Some(code));
        nothing_must_be_held(&conf_dir);
    }
}
