//! Programs of several threads. They are this very executable, asked to run one test that is none.

use std::fs;
use std::process::Command;
use std::time::Duration;

use kcm_tests::machine::until;

const ASKED: &str = "KCM_TEST_THREADS";

/// A program that has more threads than its first, and does nothing for ten minutes.
pub(crate) fn program() -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "threads::a_program_of_several_threads", "--nocapture"]);
    command.args(["--test-threads=1", "--ignored"]).env(ASKED, "yes");
    command
}

/// The same, bound to CPUs from its start.
pub(crate) fn program_on(cpus: &str) -> Command {
    let program = program();
    let mut command = Command::new("taskset");
    command.args(["-c", cpus]).arg(program.get_program()).args(program.get_args());
    command.env(ASKED, "yes");
    command
}

#[test]
#[ignore = "a program that other tests run"]
fn a_program_of_several_threads() {
    assert!(std::env::var_os(ASKED).is_some(), "this is no test, and takes ten minutes");
    let thread = std::thread::spawn(|| std::thread::sleep(Duration::from_secs(600)));
    thread.join().unwrap();
}

/// The threads of such a process but the first, once it has them.
pub(crate) fn other_threads(pid: i32) -> Vec<i32> {
    until("a program to have its threads", || {
        let entries = fs::read_dir(format!("/proc/{pid}/task")).unwrap().flatten();
        let ids = entries.map(|entry| entry.file_name().to_str().unwrap().parse().unwrap());
        let others: Vec<i32> = ids.filter(|&id| id != pid).collect();
        (!others.is_empty()).then_some(others)
    })
}
