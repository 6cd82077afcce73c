//! Killed between steps.

use std::ffi::OsString;
use std::os::unix::process::ExitStatusExt;
use std::process::Command;

use kcm_tests::conf_dir::ConfDir;
use kcm_tests::hook::Ran;
use kcm_tests::kcm::bare;
use kcm_tests::programs::program;
use kcm_tests::strace::{Program, Trace};

use super::seen::Seen;
use super::{bound_services, conf, shield, stop_services};

struct Run<'a>(&'a ConfDir, &'a [&'a str]);

impl Program for Run<'_> {
    fn run_under(&self, wrapper: Vec<OsString>) -> Ran {
        let mut command = Command::new(&wrapper[0]);
        bare(&mut command);
        command.args(&wrapper[1..]).arg(program("kcm")).arg("shield").args(self.1);
        let output = command.env("KCM_CONF_DIR", self.0.path()).output().unwrap();
        Ran { status: output.status, stderr: String::from_utf8(output.stderr).unwrap() }
    }
}

/// Every point is tried on made-up machines and in memory; here some of each kind, with the real
/// systemd and kernel.
#[test]
fn killed_between_steps_it_is_undone_by_the_next_off() {
    let conf = conf();
    bound_services();
    let before = Seen::now();
    for words in [&["on"] as &[&str], &["off"]] {
        let must_be_on = words == ["off"];
        if must_be_on {
            shield(&conf, &["on"]).succeeded();
        }
        let trace = Trace::of(&Run(&conf, words), &[]);
        assert!(trace.ran.status.success(), "{}", trace.ran.stderr);
        shield(&conf, &["off"]).succeeded();
        for (name, share) in
            [("sendto", 2), ("sendto", 4), ("write", 3), ("write", 5), ("sched_setaffinity", 2)]
        {
            if must_be_on {
                shield(&conf, &["on"]).succeeded();
            }
            let nth = (trace.count(name) * share / 6).max(1);
            let injection = format!("{name}:signal=SIGKILL:when={nth}");
            let killed = Trace::of_injected(&Run(&conf, words), &[&injection]);
            assert_eq!(killed.ran.status.signal(), Some(9), "{injection}: {}", killed.ran.stderr);
            shield(&conf, &["off"]).succeeded();
            Seen::now().must_equal(&before, &format!("{words:?} killed at {injection}"));
        }
    }
    stop_services();
}
