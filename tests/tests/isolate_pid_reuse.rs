//! An isolate with the PID of one that is dead.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods, missing_docs)]

use kcm_tests::conf_dir::ConfDir;
use kcm_tests::isolate::{Gate, Isolate, Process, Running, must_be_free, nothing_must_be_held};
use kcm_tests::machine::{start_as, start_time};

/// Starts it with this PID: it waits until it is known to have it.
fn start_with(pid: i32, isolate: &Isolate) -> Running {
    let start = || {
        let gate = Gate::new();
        let wait = format!("{}; exec \"$@\"", gate.wait());
        (gate, isolate.clone().under(["/bin/sh", "-c", &wait, "sh"]).start())
    };
    let (gate, running) = start_as(pid, start, |(_, running)| running.pid());
    gate.open();
    running
}

/// A killed isolate on list 0 or 1 of pool `p`, with what it left.
fn killed(conf_dir: &ConfDir) -> (i32, Process) {
    let script = "sleep 600 & echo $!; echo $$; exec sleep 600";
    let mut isolate = Isolate::new(conf_dir, "p", &[]).script(script).start();
    let (grandchild, child) = (isolate.process(0), isolate.process(1));
    isolate.kill();
    child.ends();
    (isolate.pid(), grandchild)
}

#[test]
fn an_isolate_with_a_dead_ones_pid_takes_nothing_from_what_that_one_left() {
    let conf_dir = ConfDir::new(&[("p", true, &["0", "1"])]);
    let (pid, grandchild) = killed(&conf_dir);
    let before = conf_dir.record(&format!("isolate-{pid}")).unwrap();
    let isolate = Isolate::new(&conf_dir, "p", &[]).script("echo $$; exec sleep 600");
    let isolate = start_with(pid, &isolate);
    let child = isolate.process(0);
    assert_eq!(child.status("Cpus_allowed_list"), "1");
    assert_eq!(["0", "1"].map(|list| conf_dir.tasks("p", list)), [pid, pid].map(|p| p.to_string()));
    let started = start_time(pid);
    let names = [format!("isolate-{pid}-{started}.json"), format!("isolate-{pid}.json")];
    assert_eq!(conf_dir.allocations(), names);
    assert_eq!(conf_dir.record(&format!("isolate-{pid}")).unwrap(), before);
    let record = conf_dir.record(&format!("isolate-{pid}-{started}")).unwrap();
    assert_eq!((&record["pid"], &record["cpuLists"][0]), (&pid.into(), &"1".into()));

    child.kill();
    assert_eq!(isolate.finish().code, Some(128 + 9));
    assert_eq!(["0", "1"].map(|list| conf_dir.tasks("p", list)), [pid.to_string(), String::new()]);
    assert_eq!(conf_dir.allocations(), [format!("isolate-{pid}.json")]);
    grandchild.kill();
    Isolate::new(&conf_dir, "p", &["--cores=2", "true"]).run().succeeded();
    nothing_must_be_held(&conf_dir);
}

#[test]
fn an_isolate_with_a_dead_ones_pid_gets_the_list_that_nobody_holds_any_more() {
    let conf_dir = ConfDir::new(&[("p", true, &["0"])]);
    let (pid, grandchild) = killed(&conf_dir);
    grandchild.kill();
    let isolate = Isolate::new(&conf_dir, "p", &[]).script("echo $$; exec sleep 600");
    let isolate = start_with(pid, &isolate);
    let child = isolate.process(0);
    assert_eq!(conf_dir.tasks("p", "0"), pid.to_string());
    assert_eq!(conf_dir.allocations(), [format!("isolate-{pid}.json")]);
    let record = conf_dir.record(&isolate.owner()).unwrap();
    assert_eq!(record["startTime"], start_time(pid));
    child.kill();
    assert_eq!(isolate.finish().code, Some(128 + 9));
    must_be_free(&conf_dir);
}
