//! A purge stopped at every system call that changes anything, and somebody who wants a list just
//! then: whoever gets one keeps it (R5).

use std::io::Read;
use std::process::{Child, Command, Stdio};

use kcm_tests::conf_dir::ConfDir;
use kcm_tests::isolate::Isolate;
use kcm_tests::kcm::bare;
use kcm_tests::machine::until;
use kcm_tests::strace::SystemCall;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::NamedTempFile;

use super::killed::points;
use super::{is_gone, purge_command};

fn two_pools() -> ConfDir {
    ConfDir::new(&[("p", true, &["0"]), ("q", false, &["0-1", "1", "4", "5"])])
}

/// A purge that was stopped.
struct Stopped {
    strace: Child,
    purge: Pid,
}

impl Stopped {
    fn at(point: &SystemCall, conf: &ConfDir) -> Self {
        let trace = NamedTempFile::new().unwrap();
        let mut command = Command::new("strace");
        bare(&mut command);
        command.arg("-o").arg(trace.path());
        command.arg(format!("-einject={}:signal=SIGSTOP:when={}", point.name, point.nth));
        command.args(purge_command(conf.path()).as_words());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let strace = command.spawn().unwrap();
        until("the purge to be stopped", || {
            let text = std::fs::read_to_string(trace.path()).unwrap();
            text.contains("--- stopped by SIGSTOP ---").then_some(())
        });
        let children = format!("/proc/{0}/task/{0}/children", strace.id());
        let children = std::fs::read_to_string(children).unwrap();
        Self { strace, purge: Pid::from_raw(children.trim().parse().unwrap()) }
    }

    /// Lets it go on: whether it succeeds, and what it says.
    fn go_on(mut self) -> (bool, String) {
        kill(self.purge, Signal::SIGCONT).unwrap();
        let mut said = String::new();
        self.strace.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        (self.strace.wait().unwrap().success(), said)
    }
}

#[test]
fn whoever_gets_a_list_while_a_purge_is_stopped_at_any_point_keeps_it() {
    let (mut came_first, mut came_late) = (0, 0);
    for point in points(two_pools).iter().filter(|point| point.name != "exit_group") {
        let conf = two_pools();
        let stopped = Stopped::at(point, &conf);
        let isolate = Isolate::new(&conf, "p", &[]).script("echo RUNS; exec sleep 1000");
        let mut isolate = isolate.env("KCM_LOCK_TIMEOUT", "0.2").start();
        let runs = until("isolate to have a list, or none", || {
            let (runs, ends) = (isolate.out() == "RUNS\n", !isolate.is_running());
            (runs || ends).then_some(runs)
        });
        let (purged, said) = stopped.go_on();
        if runs {
            came_first += 1;
            assert!(!purged, "{point:?}: a list was given, and its directory removed: {said}");
            assert!(said.contains(&isolate.pid().to_string()), "{point:?}: {said}");
            assert_eq!(conf.tasks("p", "0"), isolate.pid().to_string(), "{point:?}");
            assert!(conf.record(&isolate.owner()).is_some(), "{point:?}");
        } else {
            came_late += 1;
            assert!(purged, "{point:?}: {said}");
            is_gone(conf.path());
        }
    }
    println!("{came_first} times a list was had, and the purge refused; {came_late} times none");
    assert!(came_first > 2 && came_late > 10, "{came_first} {came_late}");
}
