//! The hook and `kcm isolate` in the original's directories.

use std::fs;

use kcm_tests::hook::HookCall;
use kcm_tests::isolate::{Isolate, must_be_refused};
use kcm_tests::kcm::{kcm, run};
use kcm_tests::stand_in::StandIn;
use serde_json::json;

use super::original::{DEAD, DEAD_TOO, Isolated, Original};

/// Pool `exclusive` with a list that a live process of the original's holds, and one that a dead
/// one left behind.
fn held_and_left_behind(live: &Isolated, dead: &str) -> Original {
    let directory = Original::new(&[("exclusive", true, &["0", "1"]), ("infra", false, &["0,1"])]);
    directory.with_tasks("exclusive", "0", &live.pid().to_string()).with_tasks(
        "exclusive",
        "1",
        dead,
    )
}

/// What a dead process of the original's may have left.
fn left_behind() -> [String; 4] {
    [
        DEAD.to_string(),
        format!("{DEAD},{DEAD_TOO}"),
        format!("{DEAD},{DEAD}"),
        format!(" {DEAD},\n"),
    ]
}

#[test]
fn a_container_gets_what_a_dead_process_left_behind_and_not_what_a_live_one_holds() {
    for (number, dead) in left_behind().iter().enumerate() {
        let live = Isolated::on("0");
        let directory = held_and_left_behind(&live, dead);
        let path = directory.conf.path();
        let container = StandIn::new(&format!("heir-{number}"));
        HookCall::create(path, &container, "exclusive").run().must_succeed();
        assert_eq!(directory.tasks("exclusive", "0"), [live.pid()]);
        assert_eq!(directory.tasks("exclusive", "1"), [container.pid()]);
        assert_eq!(container.allowed_cpus(), "1");
        let late = StandIn::new(&format!("late-{number}"));
        let ran = HookCall::create(path, &late, "exclusive").run();
        ran.must_refuse(&["No free cpu lists in pool exclusive: 2 of 2 are held"]);
        // The original ends its process, and takes the PID out itself.
        drop(live);
        directory.write_tasks("exclusive", "0", "");
        HookCall::create(path, &late, "exclusive").run().must_succeed();
        assert_eq!(directory.tasks("exclusive", "0"), [late.pid()]);
        directory.must_be_readable();
    }
}

#[test]
fn a_command_gets_what_a_dead_process_left_behind_and_not_what_a_live_one_holds() {
    for dead in left_behind() {
        let live = Isolated::on("0");
        let directory = held_and_left_behind(&live, &dead);
        let tasks = directory.conf.tasks_path("exclusive", "1");
        let script = format!("echo $KCM_CPUS_ASSIGNED $PPID; cat {}", tasks.display());
        let isolate = Isolate::new(&directory.conf, "exclusive", &[]);
        let outcome = isolate.clone().script(&script).run();
        let outcome = outcome.succeeded();
        let [first, held] = outcome.out.lines().collect::<Vec<_>>()[..] else {
            panic!("{outcome:?}")
        };
        // kcm's own PID was there alone while the command ran, and with no newline.
        assert_eq!(first, format!("1 {held}"));
        assert_eq!(directory.tasks("exclusive", "0"), [live.pid()]);
        assert_eq!(fs::read_to_string(&tasks).unwrap(), "");
        let two = Isolate::new(&directory.conf, "exclusive", &["--cores=2"]).words(["true"]).run();
        must_be_refused(&two, &["No free cpu lists in pool exclusive"]);
        assert_eq!(directory.tasks("exclusive", "0"), [live.pid()]);
        directory.must_be_readable();
    }
}

#[test]
fn a_newline_alone_holds_nothing() {
    let directory =
        Original::new(&[("exclusive", true, &["0"])]).with_tasks("exclusive", "0", "\n");
    let isolate = Isolate::new(&directory.conf, "exclusive", &[]);
    let outcome = isolate.words(["--", "echo", "mine"]).run().succeeded();
    assert_eq!(outcome.out, "mine\n");
    directory.must_be_readable();
    directory.write_tasks("exclusive", "0", "\n");
    let container = StandIn::new("newline");
    HookCall::create(directory.conf.path(), &container, "exclusive").run().must_succeed();
    assert_eq!(directory.tasks("exclusive", "0"), [container.pid()]);
    directory.must_be_readable();
}

#[test]
fn a_list_keeps_the_originals_spelling_while_what_is_assigned_has_the_kernels() {
    let directory = Original::new(&[("exclusive", true, &["1,0"])]);
    let record = |owner: &str| {
        let record = directory.conf.record(owner).unwrap();
        [record["cpuLists"].clone(), record["cpus"].clone()]
    };
    let mut container = StandIn::new("spelling");
    HookCall::create(directory.conf.path(), &container, "exclusive").run().must_succeed();
    assert_eq!(record("spelling"), [json!(["1,0"]), json!("0-1")]);
    assert_eq!(directory.tasks("exclusive", "1,0"), [container.pid()]);
    assert_eq!(container.allowed_cpus(), "0-1");
    container.kill();
    HookCall::poststop(directory.conf.path(), container.id()).run().must_succeed();
    assert_eq!(directory.tasks("exclusive", "1,0"), [0; 0]);

    let isolate = Isolate::new(&directory.conf, "exclusive", &[]);
    let script = "echo $KCM_CPUS_ASSIGNED $KCM_CPUS_ASSIGNED_MASK; exec sleep 600";
    let mut running = isolate.script(script).start();
    assert_eq!(running.line(0), "0-1 3");
    assert_eq!(record(&running.owner()), [json!(["1,0"]), json!("0-1")]);
    assert_eq!(directory.tasks("exclusive", "1,0"), [running.pid()]);
    running.kill();
    directory.must_be_readable();
}

#[test]
fn a_shared_list_keeps_the_originals_processes_beside_kcms() {
    let [one, two] = [Isolated::on("0,1"), Isolated::on("0,1")];
    let [one, two] = [&one, &two].map(Isolated::pid);
    // The original adds a PID again without looking.
    let directory = Original::new(&[("shared", false, &["0,1"])]).with_tasks(
        "shared",
        "0,1",
        &format!("{one},{two},{one}"),
    );
    let theirs = |tasks: Vec<i32>| -> Vec<i32> {
        tasks.into_iter().filter(|&pid| pid == one || pid == two).collect()
    };
    let has_theirs = || {
        let mut found = theirs(directory.tasks("shared", "0,1"));
        found.dedup();
        assert!(found == [one, two] || found == [one, two, one], "{found:?}");
    };
    let mut container = StandIn::new("guest");
    HookCall::create(directory.conf.path(), &container, "shared").run().must_succeed();
    assert!(directory.tasks("shared", "0,1").contains(&container.pid()));
    has_theirs();
    container.kill();
    HookCall::poststop(directory.conf.path(), container.id()).run().must_succeed();
    has_theirs();
    Isolate::new(&directory.conf, "shared", &[]).words(["true"]).run().succeeded();
    has_theirs();
    assert_eq!(theirs(directory.tasks("shared", "0,1")), directory.tasks("shared", "0,1"));
    directory.must_be_readable();
}

#[test]
fn the_lock_that_the_original_holds_is_waited_for() {
    let directory = Original::new(&[("exclusive", true, &["0"])]);
    let (path, held) = (directory.conf.path(), directory.lock());
    let before = directory.conf.snapshot();
    let lock = path.join("lock").to_str().unwrap().to_owned();
    let holder = format!("process {} holds it", std::process::id());
    let container = StandIn::new("waits");
    let hook = HookCall::create(path, &container, "exclusive").lock_timeout("0.2");
    hook.run().must_refuse(&[&lock, &holder]);
    let isolate = Isolate::new(&directory.conf, "exclusive", &["true"]);
    must_be_refused(&isolate.env("KCM_LOCK_TIMEOUT", "0.2").run(), &[&lock, &holder]);
    let mut reconcile = kcm();
    let reconcile = reconcile.arg("reconcile").env("KCM_CONF_DIR", path);
    run(reconcile.env("KCM_LOCK_TIMEOUT", "0.2")).failed_with(&[&lock, &holder]);
    assert_eq!(directory.conf.snapshot(), before);
    drop(held);
    HookCall::create(path, &container, "exclusive").run().must_succeed();
    directory.must_be_readable();
}
