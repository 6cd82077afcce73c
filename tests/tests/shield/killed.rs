//! Killed before each system call that changes anything, and then taken off or put on.

use std::ffi::OsString;
use std::os::unix::process::ExitStatusExt;
use std::process::Command;

use kcm_tests::hook::Ran;
use kcm_tests::kcm::bare;
use kcm_tests::node::{Node, on_a_node};
use kcm_tests::programs::program;
use kcm_tests::strace::{Program, SystemCall, Trace};

use crate::machine::Machine;

struct Run<'a> {
    machine: &'a Machine,
    words: &'a [&'a str],
}

impl Program for Run<'_> {
    fn run_under(&self, wrapper: Vec<OsString>) -> Ran {
        let mut command = Command::new(&wrapper[0]);
        bare(&mut command);
        command.args(&wrapper[1..]).arg(program("kcm"));
        self.machine.prepare(&mut command, self.words);
        let output = command.output().unwrap();
        Ran { status: output.status, stderr: String::from_utf8(output.stderr).unwrap() }
    }
}

/// The machine before the run that is killed.
fn made(node: &Node, is_on: bool) -> Machine {
    let _ = std::fs::remove_dir_all("/var/lib/kcm");
    let machine = Machine::new(node);
    if is_on {
        machine.shield(&["on"]).succeeded();
    }
    machine
}

fn killed_everywhere(node: &Node, words: &[&str], is_on: bool) {
    let before = made(node, false).values();
    let machine = made(node, is_on);
    let trace = Trace::of(&Run { machine: &machine, words }, &[]);
    assert!(trace.ran.status.success(), "{}", trace.ran.stderr);
    let points: Vec<SystemCall> = trace.changes();
    assert!(points.len() > 20, "{points:?}");
    for (number, point) in points.iter().enumerate() {
        let machine = made(node, is_on);
        let injection = format!("{}:signal=SIGKILL:when={}", point.name, point.nth);
        let trace = Trace::of_injected(&Run { machine: &machine, words }, &[&injection]);
        assert_eq!(trace.ran.status.signal(), Some(9), "{point:?}: {}", trace.ran.stderr);
        // The next one is either.
        if number % 2 == 0 {
            machine.shield(&["on"]).succeeded();
            machine.must_be_shielded();
        }
        machine.shield(&["off"]).succeeded();
        assert_eq!(machine.values(), before, "killed at {}", point.line);
    }
    println!("kcm shield {words:?}: killed at {} points", points.len());
}

#[test]
fn killed_anywhere_while_it_is_put_on_it_is_mended_by_the_next_on_or_off() {
    on_a_node(|node| killed_everywhere(node, &["on", "--latency=0"], false));
}

#[test]
fn killed_anywhere_while_it_is_taken_off_it_is_mended_by_the_next_on_or_off() {
    on_a_node(|node| killed_everywhere(node, &["off"], true));
}
