//! Garbage in one file: it is named and left alone, and all else is done.

use std::fs;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use kcm_tests::conf_dir::ConfDir;
use kcm_tests::hook::HookCall;
use kcm_tests::tree::tree;
use nix::sys::stat::{Mode, SFlag, mknod};
use nix::unistd::mkfifo;

use super::document::{NOBODY, NOTHING, document, reclaimed, reconcile};
use super::holders::{Process, container, holder, pool, write_tasks};

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
fn a_damaged_tasks_is_kept_beside_it_and_written_anew_of_whoever_holds_the_list() {
    let cases: [Case; 9] = [
        ("words", |path| fs::write(path, "4194306,x").unwrap(), "\"x\""),
        ("no text", |path| fs::write(path, [255, 254]).unwrap(), "is no process id"),
        ("a negative number", |path| fs::write(path, "-1").unwrap(), "\"-1\""),
        ("2 MB", |path| fs::write(path, "4194306,".repeat(250_000)).unwrap(), "larger than"),
        ("a symbolic link", |path| symlink("../../../target", path).unwrap(), "symbolic link"),
        ("a FIFO", |path| mkfifo(path, Mode::S_IRUSR).unwrap(), "a FIFO"),
        ("a socket", |path| drop(UnixListener::bind(path).unwrap()), "a socket"),
        ("a device", |path| device(path), "a device"),
        ("a folder", |path| fs::create_dir(path).unwrap(), "a folder"),
    ];
    for (what, make, part) in cases {
        for held in [false, true] {
            let conf = ConfDir::new(&[("p", true, &["0"]), ("good", true, &["1"])]);
            let holder = held.then(|| holder(&conf, "damaged"));
            let expected = holder.as_ref().map_or(String::new(), |holder| holder.pid().to_string());
            write_tasks(&conf, "good", "1", &[NOBODY]);
            fs::write(conf.path().join("target"), "4194306").unwrap();
            let path = conf.tasks_path("p", "0");
            fs::remove_file(&path).unwrap();
            make(&path);
            let before = tree(&path);

            let outcome = reconcile(&conf, &[]).succeeded();
            assert_eq!(outcome.out, document(&[], &[reclaimed("good", "1", NOBODY)]), "{what}");
            let [warning] = outcome.lines("WARNING")[..] else { panic!("{what}: {outcome:?}") };
            for part in ["wrote tasks of CPU list 0 of pool p anew", path.to_str().unwrap(), part] {
                assert!(warning.contains(part), "{what}: {part:?} is not in {warning:?}");
            }
            assert_eq!((conf.tasks("p", "0"), conf.tasks("good", "1")), (expected, String::new()));
            let aside = path.with_extension("bad");
            let kept = before
                .into_iter()
                .map(|(at, found)| (aside.join(at.strip_prefix(&path).unwrap()), found));
            let aside = tree(&aside).into_iter().map(|(at, found)| (at.join(""), found));
            let kept = kept.map(|(at, found)| (at.join(""), found));
            assert!(aside.eq(kept), "{what}");
            assert_eq!(fs::read_to_string(conf.path().join("target")).unwrap(), "4194306");

            let again = reconcile(&conf, &[]).succeeded();
            assert_eq!((again.out.as_str(), again.err.as_str()), (NOTHING, ""), "{what}");
        }
    }
}

fn device(path: &Path) {
    // That of /dev/null, so that nothing would come of opening it.
    let mode = Mode::S_IRUSR | Mode::S_IWUSR;
    mknod(path, SFlag::S_IFCHR, mode, libc::makedev(1, 3)).unwrap();
}

#[test]
fn what_is_alive_in_a_damaged_tasks_holds_its_list() {
    let conf = pool(&["0", "1"]);
    let original = Process::sleeping();
    fs::write(conf.tasks_path("p", "0"), format!("{},x", original.pid())).unwrap();
    for _ in 0..2 {
        let taker = container("taker");
        HookCall::create(conf.path(), &taker, "p").run();
        assert_ne!(taker.allowed_cpus(), "0");
    }
    reconcile(&conf, &[]).succeeded();
    assert_eq!(conf.tasks("p", "0"), original.pid().to_string());
}

#[test]
fn a_damaged_word_on_partitions_is_named_and_keeps_no_list_held() {
    let conf = pool(&["0"]);
    let mut ended = holder(&conf, "ended");
    let path = conf.path().join("pools/p/partition");
    fs::write(&path, "x").unwrap();
    ended.kill();
    let outcome = reconcile(&conf, &[]);
    assert_eq!(outcome.code, Some(1), "{outcome:?}");
    assert!(outcome.lines("ERROR")[0].contains(path.to_str().unwrap()), "{outcome:?}");
    assert_eq!((conf.tasks("p", "0"), conf.allocations()), (String::new(), vec![]));
}

#[test]
fn ten_damaged_files_are_kept_and_the_eleventh_is_named() {
    let conf = pool(&["0"]);
    for number in 0..10 {
        fs::write(conf.tasks_path("p", "0"), format!("x{number}")).unwrap();
        reconcile(&conf, &[]).succeeded();
    }
    fs::write(conf.tasks_path("p", "0"), "x").unwrap();
    let outcome = reconcile(&conf, &[]);
    assert_eq!(outcome.code, Some(1), "{outcome:?}");
    assert!(outcome.lines("ERROR")[0].contains("tasks.bad"), "{outcome:?}");
    for (name, text) in [("tasks", "x"), ("tasks.bad", "x0"), ("tasks.bad.9", "x9")] {
        let path = conf.path().join("pools/p/0").join(name);
        assert_eq!(fs::read_to_string(path).unwrap(), text);
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
fn a_malformed_record_is_set_aside_and_written_anew_of_what_proves_it() {
    let cases: [Case; 7] = [
        ("no JSON", |path| fs::write(path, "{\"owner\": ").unwrap(), ""),
        ("nothing", |path| fs::write(path, "").unwrap(), ""),
        ("the root cgroup", |path| forge(path, "cgroup", "/".into()), "cgroup"),
        ("300 KB", |path| forge(path, "pod", "x".repeat(300_000).into()), "larger than"),
        ("a FIFO", |path| replace(path, |p| mkfifo(p, Mode::S_IRUSR).unwrap()), "a FIFO"),
        ("a socket", |path| replace(path, |p| drop(UnixListener::bind(p).unwrap())), "a socket"),
        ("a link", |path| replace(path, |p| symlink("../lock", p).unwrap()), "symbolic link"),
    ];
    for ((what, make, part), has_copy) in
        cases.iter().flat_map(|case| [(case, true), (case, false)])
    {
        let conf = directory();
        fs::create_dir(conf.path().join("pools/p")).unwrap();
        fs::write(conf.path().join("pools/p/exclusive"), "1").unwrap();
        fs::create_dir(conf.path().join("pools/p/1")).unwrap();
        fs::write(conf.tasks_path("p", "1"), "").unwrap();
        let holder = holder(&conf, "malformed");
        write_tasks(&conf, "good", "0", &[NOBODY]);
        let record = conf.record_path(holder.id());
        let said = conf.record(holder.id()).unwrap();
        make(&record);
        if !has_copy {
            fs::remove_file(conf.index_path("p", "1")).unwrap();
        }
        // All is whole again, and nobody has to look at it.
        let outcome = reconcile(&conf, &[]).succeeded();
        let path = record.to_str().unwrap();
        let named = outcome.lines("WARNING");
        assert!(named.iter().any(|line| line.contains(path) && line.contains(part)), "{outcome:?}");
        assert_eq!(conf.tasks("p", "1"), holder.pid().to_string());
        let again = conf.record(holder.id()).unwrap_or_else(|| panic!("{what}"));
        for key in
            ["owner", "pool", "cpuLists", "cpus", "pid", "startTime", "cgroup", "cgroupInode"]
        {
            assert_eq!(again[key], said[key], "{what}: {key}");
        }
        assert_eq!(conf.allocations(), [file_name(&record)], "{what}");
        let again = reconcile(&conf, &[]).succeeded();
        assert_eq!(again.out, NOTHING, "{what}");
    }
}

#[test]
fn a_record_set_aside_that_nothing_proves_is_named_until_it_is_removed() {
    let conf = pool(&["0"]);
    let bare = Process::sleeping();
    write_tasks(&conf, "p", "0", &[bare.pid()]);
    fs::create_dir(conf.path().join("allocations")).unwrap();
    fs::write(conf.record_path("lost"), "x").unwrap();
    for round in 0..3 {
        let outcome = reconcile(&conf, &[]);
        assert_eq!(
            (outcome.code, outcome.out.as_str()),
            (Some(1), NOTHING),
            "{round}: {outcome:?}"
        );
        assert!(outcome.err.contains("allocations/lost.bad"), "{round}: {outcome:?}");
        assert_eq!(conf.tasks("p", "0"), bare.pid().to_string());
    }
    fs::remove_file(conf.path().join("allocations/lost.bad")).unwrap();
    reconcile(&conf, &[]).succeeded();
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
    fs::write(conf.path().join("pools/bad/exclusive"), "x").unwrap();
    fs::create_dir(conf.path().join("pools/good/y")).unwrap();
    fs::create_dir(conf.path().join("allocations")).unwrap();
    fs::write(conf.record_path("z"), "z").unwrap();
    let outcome = reconcile(&conf, &[]);
    // The record is named by what is wrong with it, and by what became of it.
    assert_eq!((outcome.code, outcome.lines("ERROR").len()), (Some(1), 4), "{outcome:?}");
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
