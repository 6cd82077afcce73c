//! `kcm uninstall --purge`, the built program: it removes what kcm makes, and nothing else, and is
//! no moment in which two processes could hold a list, whatever else happens at that moment.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods, missing_docs)]

mod at_once;
mod foreign;
mod killed;
mod layout;
mod stopped;

use std::path::Path;

use kcm_tests::conf_dir::ConfDir;
use kcm_tests::isolate::Isolate;
use kcm_tests::kcm::{Outcome, kcm, run};
use kcm_tests::programs::program;

/// A purge of this directory that leaves the machine's own programs alone.
fn words(path: &Path) -> Vec<String> {
    let nowhere = path.parent().unwrap().join("nowhere");
    let flag = |name: &str, path: &Path| format!("--{name}={}", path.display());
    let folders = [flag("install-dir", &nowhere), flag("hook-dir", &nowhere)];
    let start = ["uninstall".to_owned(), "--purge".to_owned(), flag("conf-dir", path)];
    start.into_iter().chain(folders).collect()
}

fn purge(path: &Path) -> Outcome {
    run(kcm().args(words(path)))
}

/// The same, to be run under something.
fn purge_command(path: &Path) -> Isolate {
    Isolate::of([program("kcm")]).words(words(path))
}

/// A directory with something of each kind that kcm makes, nobody in it.
fn full() -> ConfDir {
    let conf = ConfDir::new(&[("p", true, &["0"]), ("q", false, &["1-2", "4"])]);
    let write = |path: &str, text: &str| {
        let path = conf.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    };
    write("pools/p/mems", "local");
    write("pools/p/partition", "auto\n");
    write("pools/p/0/tasks.bad", "x");
    // No process has that PID (PID_MAX_LIMIT).
    write("pools/q/4/tasks", "4194999");
    for name in ["some.bad", ".tmp-0", ".tmp-7"] {
        write(&format!("allocations/{name}"), "x");
    }
    write("allocations/gone.json", "no record");
    let record = conf.path().join("allocations/gone.json");
    std::fs::hard_link(record, conf.path().join("pools/q/1-2/holder.json")).unwrap();
    write(".tmp-pools/r/exclusive", "1");
    conf
}

/// Fails the test unless this directory is as good as none.
#[track_caller]
fn is_gone(path: &Path) {
    assert!(std::fs::symlink_metadata(path).is_err(), "{} is there", path.display());
}
