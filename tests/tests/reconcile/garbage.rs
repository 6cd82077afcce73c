//! Garbage in one file: it is named and left alone, and all else is done.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use kcm_tests::conf_dir::ConfDir;
use kcm_tests::tree::tree;
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;

use super::document::{NOBODY, NOTHING, document, reclaimed, reconcile};
use super::holders::{holder, write_tasks};

/// A list with a dead task beside one that somebody alive holds: `bad`, the list `1`.
fn directory() -> ConfDir {
    let conf = ConfDir::new(&[("bad", true, &["1"]), ("good", true, &["0"])]);
    write_tasks(&conf, "good", "0", &[NOBODY]);
    conf
}

/// Fails the test unless one error names the path, and the dead task is reclaimed for all that.
#[track_caller]
fn must_complain(conf: &ConfDir, path: &Path, part: &str) {
    let outcome = reconcile(conf, &[]);
    assert_eq!(outcome.code, Some(1), "{outcome:?}");
    assert_eq!(outcome.out, document(&[], &[reclaimed("good", "0", NOBODY)]));
    let [error] = outcome.lines("ERROR")[..] else { panic!("one error: {outcome:?}") };
    for part in [path.to_str().unwrap(), part] {
        assert!(error.contains(part), "{part:?} is not in {error:?}");
    }
    assert_eq!(conf.tasks("good", "0"), "");
}

/// What something is, how it is made in the place of the path, and what the error says of it.
type Case = (&'static str, fn(&Path), &'static str);

#[test]
fn a_malformed_tasks_is_named_and_stays_while_the_rest_is_done() {
    let cases: [Case; 7] = [
        ("words", |path| fs::write(path, "12,x").unwrap(), "\"x\""),
        ("a dead PID and a word", |path| fs::write(path, "4194306,x").unwrap(), "\"x\""),
        ("a negative number", |path| fs::write(path, "-1").unwrap(), "\"-1\""),
        ("2 MB", |path| fs::write(path, "4194306,".repeat(250_000)).unwrap(), "larger than"),
        ("a symbolic link", |path| symlink("../../../target", path).unwrap(), "no plain file"),
        ("a FIFO", |path| mkfifo(path, Mode::S_IRUSR).unwrap(), "no plain file"),
        ("a folder", |path| fs::create_dir(path).unwrap(), "no plain file"),
    ];
    for (what, make, part) in cases {
        let conf = directory();
        fs::write(conf.path().join("target"), "4194306").unwrap();
        let path = conf.tasks_path("bad", "1");
        fs::remove_file(&path).unwrap();
        make(&path);
        let before = tree(&conf.path().join("pools/bad"));
        must_complain(&conf, &path, part);
        assert_eq!(tree(&conf.path().join("pools/bad")), before, "{what}");
        assert_eq!(fs::read_to_string(conf.path().join("target")).unwrap(), "4194306");

        let again = reconcile(&conf, &[]);
        assert_eq!((again.code, again.out.as_str()), (Some(1), NOTHING), "{what}: {again:?}");
    }
}

#[test]
fn what_is_no_cpu_list_or_no_pool_is_named_and_stays_while_the_rest_is_done() {
    for name in ["bad/3-1", "bad/x", "bad/8192", "none", "a b"] {
        let conf = directory();
        let path = conf.path().join("pools").join(name);
        fs::create_dir(&path).unwrap();
        fs::write(path.join("tasks"), "4194306").unwrap();
        let before = tree(&path);
        must_complain(&conf, &conf.path().join("pools"), name.rsplit('/').next().unwrap());
        assert_eq!(tree(&path), before, "{name}");
    }
}

#[test]
fn a_malformed_record_is_named_and_set_aside_while_the_rest_is_done() {
    let cases: [Case; 6] = [
        ("no JSON", |path| fs::write(path, "{\"owner\": ").unwrap(), ""),
        ("nothing", |path| fs::write(path, "").unwrap(), ""),
        ("another owner", |path| forge(path, "owner", "somebody-else".into()), "somebody-else"),
        ("the root cgroup", |path| forge(path, "cgroup", "/".into()), "cgroup"),
        ("a FIFO", |path| replace(path, |p| mkfifo(p, Mode::S_IRUSR).unwrap()), "no plain file"),
        ("a link", |path| replace(path, |p| symlink("../lock", p).unwrap()), "symbolic link"),
    ];
    for (what, make, part) in cases {
        let conf = directory();
        fs::create_dir(conf.path().join("pools/p")).unwrap();
        fs::create_dir(conf.path().join("pools/p/1")).unwrap();
        let holder = holder(&conf, "malformed");
        let record = conf.record_path(holder.id());
        make(&record);
        let aside = record.with_extension("bad");
        let mut before = tree(&record);
        must_complain(&conf, &record, part);
        let renamed = before.remove(&record).map(|content| (aside.clone(), content));
        assert_eq!(tree(&aside).into_iter().next(), renamed, "{what}");
        assert_eq!(conf.allocations(), [file_name(&aside)], "{what}");
        // Without a record the PID holds while it exists.
        assert_eq!(conf.tasks("p", "1"), holder.pid().to_string());

        let again = reconcile(&conf, &[]).succeeded();
        assert_eq!(again.out, NOTHING, "{what}");
    }
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap().to_str().unwrap().to_owned()
}

fn forge(record: &Path, key: &str, value: serde_json::Value) {
    let text = fs::read_to_string(record).unwrap();
    let mut json: serde_json::Value = serde_json::from_str(&text).unwrap();
    json[key] = value;
    fs::write(record, json.to_string()).unwrap();
}

fn replace(path: &Path, make: impl Fn(&PathBuf)) {
    fs::remove_file(path).unwrap();
    make(&path.to_owned());
}

#[test]
fn everything_that_is_wrong_has_a_line_of_its_own() {
    let conf = directory();
    fs::write(conf.tasks_path("bad", "1"), "x").unwrap();
    fs::create_dir(conf.path().join("pools/bad/y")).unwrap();
    fs::create_dir(conf.path().join("allocations")).unwrap();
    fs::write(conf.record_path("z"), "z").unwrap();
    let outcome = reconcile(&conf, &[]);
    assert_eq!((outcome.code, outcome.lines("ERROR").len()), (Some(1), 3), "{outcome:?}");
    assert_eq!(outcome.out, document(&[], &[reclaimed("good", "0", NOBODY)]));
}

#[test]
fn what_is_no_configuration_directory_is_an_error_that_names_it() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = kcm_tests::kcm::kcm();
    let path = folder.path().join("nothing");
    let outcome = kcm_tests::kcm::run(command.arg("reconcile").arg("--conf-dir").arg(&path));
    outcome.failed_with(&[path.to_str().unwrap(), "is no kcm configuration directory"]);
}
