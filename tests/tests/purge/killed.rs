//! A purge killed at, and failed by, every system call that changes anything: after each the
//! directory works, or is as good as none; the next purge, or init, finishes it.

use std::path::Path;

use kcm_tests::conf_dir::ConfDir;
use kcm_tests::isolate::Isolate;
use kcm_tests::kcm::{kcm, run};
use kcm_tests::strace::{SystemCall, Trace};
use kcm_tests::tree::tree;

use super::{full, is_gone, purge, purge_command};

/// The points of an undisturbed purge.
pub(super) fn points(make: fn() -> ConfDir) -> Vec<SystemCall> {
    let conf = make();
    let trace = Trace::of(&purge_command(conf.path()), &[]);
    assert!(trace.ran.succeeded(), "{}", trace.ran.stderr);
    is_gone(conf.path());
    let points = trace.changes();
    let unlinks = points.iter().filter(|point| point.name == "unlinkat").count();
    assert!(unlinks > 8, "{points:?}");
    points
}

fn init(path: &Path) -> Isolate {
    let words = ["init", "--num-dp-cores=1", "--num-cp-cores=0", "--conf-dir"];
    Isolate::of([kcm().get_program()]).words(words).words([path])
}

/// Whether the directory works: it can be read, and its list can be had. Else it is none of kcm's.
fn works(conf: &ConfDir, cpu: &str) -> bool {
    let describe = run(kcm().arg("describe").arg("--conf-dir").arg(conf.path()));
    // It may still have to say of something that it knows it not.
    if !describe.out.is_empty() {
        let held = Isolate::new(conf, "p", &[]).script("echo $KCM_CPUS_ASSIGNED").run();
        assert_eq!(held.out, format!("{cpu}\n"), "{held:?}");
        return true;
    }
    describe.failed_with(&["is no kcm configuration directory"]);
    let refused = Isolate::new(conf, "p", &[]).script("echo RUNS").run();
    assert!(refused.code == Some(125) && refused.out.is_empty(), "{refused:?}");
    false
}

/// Disturbs a purge at each point by this, and has `then` finish it.
fn disturb(what: &str, make: fn() -> ConfDir, then: fn(&ConfDir)) {
    let points = points(make);
    let (mut worked, mut none) = (0, 0);
    for point in &points {
        if what != "signal=SIGKILL" && ["exit_group", "write"].contains(&point.name.as_str()) {
            continue;
        }
        let conf = make();
        let injection = format!("{}:{what}:when={}", point.name, point.nth);
        let ran = Trace::of_injected(&purge_command(conf.path()), &[&injection]).ran;
        assert!(ran.was_killed() || ran.status.code().is_some(), "{}", ran.stderr);
        if works(&conf, "0") {
            worked += 1
        } else {
            none += 1
        }
        then(&conf);
    }
    println!("{what}: {} points; after {worked} it worked, after {none} it was none", points.len());
    assert!(worked > 5 && none > 5, "{worked} {none}");
}

fn purge_finishes(conf: &ConfDir) {
    purge(conf.path()).succeeded();
    is_gone(conf.path());
}

/// Where there is no directory any more, init makes what it makes where nothing ever was.
fn init_finishes(conf: &ConfDir) {
    if conf.path().join("pools").exists() {
        return;
    }
    let outcome = init(conf.path()).run();
    assert_eq!(outcome.code, Some(0), "{outcome:?}");
    let fresh = tempfile::tempdir().unwrap();
    assert_eq!(init(&fresh.path().join("kcm")).run().code, Some(0));
    let names = |path: &Path| -> Vec<String> {
        let of = |found: &Path| found.strip_prefix(path).unwrap().display().to_string();
        let all = tree(path).into_keys().map(|found| of(&found)).collect::<Vec<_>>();
        // What nobody's record is, may stay: there is nobody whom it could name.
        all.into_iter().filter(|name| !name.starts_with("allocations/")).collect()
    };
    assert_eq!(names(conf.path()), names(&fresh.path().join("kcm")));
    let records = conf.allocations();
    assert!(!records.iter().any(|name| name.ends_with(".json")), "{records:?}");
}

#[test]
fn a_purge_killed_at_any_point_is_finished_by_the_next() {
    disturb("signal=SIGKILL", full, purge_finishes);
}

#[test]
fn a_purge_killed_at_any_point_is_finished_by_init() {
    disturb("signal=SIGKILL", full, init_finishes);
}

#[test]
fn a_purge_that_meets_an_error_at_any_point_is_finished_by_the_next() {
    disturb("error=EIO", full, purge_finishes);
}
