//! Directories with something wrong in them: the rest is printed, what is wrong is named, nothing
//! is changed.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use kcm_tests::conf_dir::ConfDir;
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;

use super::{Outcome, describe, json_at};

/// What something is, how it is made, and what the error says of it.
type Case = (&'static str, fn(&Path), &'static str);

/// A directory of one good list, `good/0`, with a task, and `bad/1`.
fn directory() -> ConfDir {
    let conf = ConfDir::new(&[("bad", true, &["1"]), ("good", true, &["0"])]);
    fs::write(conf.tasks_path("good", "0"), "4711").unwrap();
    conf
}

const GOOD: &str = r#"    "good": {
      "cpuLists": {
        "0": {
          "cpus": "0",
          "tasks": [
            4711
          ]
        }
      },
      "exclusive": true,
      "name": "good"
    }
"#;

/// What is printed where list 1 of pool `bad` is malformed.
fn without_list_1() -> String {
    let bad = "    \"bad\": {\n      \"cpuLists\": {},\n      \"exclusive\": true,\n      \
               \"name\": \"bad\"\n    },\n";
    format!("{{\n  \"path\": \"CONF_DIR\",\n  \"pools\": {{\n{bad}{GOOD}  }}\n}}\n")
}

/// Describes a directory in which one thing is wrong; the error names it.
fn describe_wrong(conf: &ConfDir, parts: &[&str]) -> Outcome {
    let before = conf.snapshot();
    let outcome = describe(conf.path());
    assert_eq!(conf.snapshot(), before, "nothing is changed");
    assert_eq!(outcome.code, Some(1), "{outcome:?}");
    let [error] = outcome.lines("ERROR")[..] else { panic!("one error: {outcome:?}") };
    for part in parts {
        assert!(error.contains(part), "{part:?} is not in {error:?}");
    }
    outcome
}

#[test]
fn a_list_with_malformed_tasks_is_left_out_and_named() {
    for (tasks, word) in [
        ("12,x", "\"x\""),
        ("0", "\"0\""),
        ("-1", "\"-1\""),
        ("1;2", "\"1;2\""),
        ("99999999999", "\"99999999999\""),
        ("a\nERROR b", "\"a\""),
    ] {
        let conf = directory();
        fs::write(conf.tasks_path("bad", "1"), tasks).unwrap();
        let outcome = describe_wrong(&conf, &["pools/bad/1/tasks", word, "run kcm reconcile"]);
        assert_eq!(outcome.out, json_at(&without_list_1(), conf.path()), "{tasks:?}");
    }
}

#[test]
fn a_tasks_that_is_no_plain_small_text_is_left_out_and_named() {
    let cases: [Case; 5] = [
        ("a symbolic link", |path| symlink("/etc/hostname", path).unwrap(), "symbolic link"),
        ("a folder", |path| fs::create_dir(path).unwrap(), "a folder"),
        ("a FIFO", |path| mkfifo(path, Mode::S_IRUSR).unwrap(), "no plain file"),
        ("not text", |path| fs::write(path, b"1,\xff").unwrap(), "is no process id"),
        (
            "100 MB",
            |path| fs::File::create(path).unwrap().set_len(100 << 20).unwrap(),
            "larger than",
        ),
    ];
    for (what, make, part) in cases {
        let conf = directory();
        let tasks = conf.tasks_path("bad", "1");
        fs::remove_file(&tasks).unwrap();
        make(&tasks);
        let parts = ["pools/bad/1/tasks", part];
        let outcome = describe(conf.path());
        assert_eq!(outcome.out, json_at(&without_list_1(), conf.path()), "{what}");
        assert_eq!(outcome.code, Some(1), "{what}: {outcome:?}");
        let errors = outcome.lines("ERROR");
        assert!(errors.len() == 1 && parts.iter().all(|p| errors[0].contains(p)), "{outcome:?}");
    }
}

#[test]
fn what_is_no_cpu_list_is_left_out_and_named() {
    for name in ["x", "3-1", "-1", "8192", "1\nERROR 2", "\u{1b}[31m"] {
        let conf = directory();
        fs::rename(conf.path().join("pools/bad/1"), conf.path().join("pools/bad").join(name))
            .unwrap();
        let outcome = describe_wrong(&conf, &["pools/bad/"]);
        assert_eq!(outcome.out, json_at(&without_list_1(), conf.path()), "{name:?}");
    }
}

#[test]
fn a_list_that_is_a_symbolic_link_is_not_followed() {
    let conf = directory();
    let list = conf.path().join("pools/bad/1");
    fs::remove_dir_all(&list).unwrap();
    symlink("../good/0", &list).unwrap();
    let outcome = describe_wrong(&conf, &["pools/bad/1"]);
    assert_eq!(outcome.out, json_at(&without_list_1(), conf.path()));
}

#[test]
fn what_is_no_pool_is_left_out_and_named() {
    let good = format!("{{\n  \"path\": \"CONF_DIR\",\n  \"pools\": {{\n{GOOD}  }}\n}}\n");
    let cases: [Case; 4] = [
        ("linked", |path| symlink("good", path).unwrap(), "symbolic link is not followed"),
        ("file", |path| fs::write(path, "").unwrap(), "no folder"),
        ("none", |path| fs::create_dir(path).unwrap(), "\"none\" is no pool name"),
        ("a b\nc", |path| fs::create_dir(path).unwrap(), "\"a b\\nc\" is no pool name"),
    ];
    for (name, make, part) in cases {
        let conf = directory();
        fs::remove_dir_all(conf.path().join("pools/bad")).unwrap();
        make(&conf.path().join("pools").join(name));
        let outcome = describe_wrong(&conf, &["pools/", part]);
        assert_eq!(outcome.out, json_at(&good, conf.path()), "{name}");
    }
}

#[test]
fn everything_that_is_wrong_has_its_own_line_even_at_the_level_critical() {
    let conf = directory();
    fs::write(conf.tasks_path("bad", "1"), "x").unwrap();
    fs::create_dir(conf.path().join("pools/bad/y")).unwrap();
    fs::write(conf.path().join("pools/bad/z"), "").unwrap();
    let mut command = super::kcm();
    command.arg("describe").env("KCM_CONF_DIR", conf.path());
    let outcome = super::run(command.env("KCM_LOG_LEVEL", "CRITICAL"));
    assert_eq!((outcome.code, outcome.lines("ERROR").len()), (Some(1), 3), "{outcome:?}");
    assert_eq!(outcome.out, json_at(&without_list_1(), conf.path()));
}
