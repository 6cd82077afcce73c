//! Directories that are not to be believed: every command says so, and nothing is written.

use std::fs;
use std::path::Path;

use kcm_tests::conf_dir::ConfDir;
use kcm_tests::hook::HookCall;
use kcm_tests::kcm::{Outcome, kcm, run};
use kcm_tests::stand_in::{StandIn, new_id};
use serde_json::Value;

use super::look::{look, remedy};

/// What it is, how it is made of a good one, and what every command says of it.
type Case = (&'static str, fn(&Path), &'static [&'static str]);

const EXCLUSIVE: [Case; 6] = [
    (
        "exclusive is missing",
        |pool| fs::remove_file(pool.join("exclusive")).unwrap(),
        &["pools/dataplane/exclusive", "it is missing", "write 1 (each list has one owner) or 0"],
    ),
    (
        "exclusive is empty",
        |pool| fs::write(pool.join("exclusive"), "").unwrap(),
        &["pools/dataplane/exclusive", "neither 1 nor 0", "write 1"],
    ),
    (
        "exclusive has a word",
        |pool| fs::write(pool.join("exclusive"), "true").unwrap(),
        &["pools/dataplane/exclusive", "\"true\"", "write 1"],
    ),
    (
        "exclusive begins with a line",
        |pool| fs::write(pool.join("exclusive"), "\n1").unwrap(),
        &["pools/dataplane/exclusive", "neither 1 nor 0", "write 1"],
    ),
    (
        "exclusive is a folder",
        |pool| {
            fs::remove_file(pool.join("exclusive")).unwrap();
            fs::create_dir(pool.join("exclusive")).unwrap();
        },
        &["pools/dataplane/exclusive", "no plain file", "write 1"],
    ),
    (
        "exclusive is a link",
        |pool| {
            fs::rename(pool.join("exclusive"), pool.join("../../elsewhere")).unwrap();
            std::os::unix::fs::symlink("../../elsewhere", pool.join("exclusive")).unwrap();
        },
        &["pools/dataplane/exclusive", "symbolic link"],
    ),
];

const CMK: [Case; 2] = [
    (
        "a directory of CMK",
        |pool| {
            for (socket, list) in [("0", "4,12"), ("1", "8,16")] {
                let list = pool.join(socket).join(list);
                fs::create_dir_all(&list).unwrap();
                fs::write(list.join("tasks"), "1").unwrap();
            }
            fs::remove_file(pool.join("0/tasks")).unwrap();
            let infra = pool.join("../infra");
            fs::remove_dir_all(infra.join("1")).unwrap();
            fs::create_dir_all(infra.join("0/1")).unwrap();
            fs::write(infra.join("0/1/tasks"), "").unwrap();
        },
        &["CMK (1.1 or newer)", "another --conf-dir", "kcm init"],
    ),
    (
        "a directory of CMK whose socket has no cores in the pool",
        |pool| {
            fs::remove_dir_all(pool.join("0")).unwrap();
            fs::create_dir(pool.join("0")).unwrap();
            fs::create_dir_all(pool.join("../infra/0/1")).unwrap();
            fs::write(pool.join("../infra/0/1/tasks"), "").unwrap();
            fs::remove_dir_all(pool.join("../infra/1")).unwrap();
        },
        &["CMK (1.1 or newer)", "another --conf-dir", "kcm init"],
    ),
];

fn directory(make: fn(&Path)) -> ConfDir {
    let conf = ConfDir::new(&[("dataplane", true, &["0"]), ("infra", false, &["1"])]);
    make(&conf.path().join("pools/dataplane"));
    conf
}

fn kcm_on(conf: &ConfDir, words: &[&str]) -> Outcome {
    run(kcm().args(words).env("KCM_CONF_DIR", conf.path()))
}

#[track_caller]
fn says(what: &str, errors: &[&str], parts: &[&str]) {
    let says = errors.iter().any(|error| parts.iter().all(|part| error.contains(part)));
    assert!(says, "{what}: {parts:?} is not in {errors:?}");
}

#[test]
fn what_is_not_to_be_believed_is_refused_by_every_command_and_nothing_is_written() {
    for (what, make, parts) in EXCLUSIVE.iter().chain(&CMK) {
        let (conf, container) = (directory(*make), StandIn::new(&new_id("refused")));
        let (before, cpus) = (conf.snapshot(), container.cgroup().cpus());
        for (words, status) in [
            (&["describe"][..], 1),
            (&["reconcile"], 1),
            (&["reconcile", "--repair"], 1),
            (&["discover", "--node-name=n"], 1),
            (&["isolate", "--pool=dataplane", "true"], 125),
            (&["isolate", "--pool=dataplane", "--no-affinity", "true"], 125),
        ] {
            let outcome = kcm_on(&conf, words);
            assert_eq!(outcome.code, Some(status), "{what}: {words:?}: {outcome:?}");
            says(what, &outcome.lines("ERROR"), parts);
        }
        let report: Value =
            serde_json::from_str(&kcm_on(&conf, &["node-report"]).succeeded().out).unwrap();
        let check = &report["checks"]["configDirectory"];
        let errors: Vec<String> = serde_json::from_value(check["errors"].clone()).unwrap();
        says(what, &errors.iter().map(String::as_str).collect::<Vec<_>>(), parts);
        assert_eq!(check["ok"], false, "{what}");
        assert!(report["description"]["pools"].get("dataplane").is_none(), "{what}");
        remedy(&look(&conf), "directory", "fail", parts);
        HookCall::create(conf.path(), &container, "dataplane").run().must_refuse(parts);
        HookCall::poststop(conf.path(), container.id()).run().must_succeed();
        assert_eq!(conf.snapshot(), before, "{what}");
        assert_eq!(container.cgroup().cpus(), cpus, "{what}");
    }
}

#[test]
fn another_pool_of_the_directory_goes_on_unless_it_is_cmks() {
    for (what, make, _) in EXCLUSIVE {
        let (conf, container) = (directory(make), StandIn::new(&new_id("other")));
        HookCall::create(conf.path(), &container, "infra").run().must_succeed();
        assert_eq!(container.cgroup().cpus(), "1", "{what}");
        kcm_on(&conf, &["isolate", "--pool=infra", "true"]).succeeded();
    }
    for (what, make, parts) in CMK {
        let (conf, container) = (directory(make), StandIn::new(&new_id("other")));
        let before = conf.snapshot();
        HookCall::create(conf.path(), &container, "infra").run().must_refuse(parts);
        let outcome = kcm_on(&conf, &["isolate", "--pool=infra", "true"]);
        assert_eq!(outcome.code, Some(125), "{what}: {outcome:?}");
        says(what, &outcome.lines("ERROR"), parts);
        assert_eq!(conf.snapshot(), before, "{what}");
    }
}

#[test]
fn exclusive_that_is_written_as_the_pool_was_made_makes_the_pool_whole_again() {
    for (what, make, _) in &EXCLUSIVE[..4] {
        let conf = directory(*make);
        fs::write(conf.path().join("pools/dataplane/exclusive"), "1").unwrap();
        let [first, second] = ["first", "second"].map(|role| StandIn::new(&new_id(role)));
        HookCall::create(conf.path(), &first, "dataplane").run().must_succeed();
        let refused = ["No free cpu lists in pool dataplane"];
        HookCall::create(conf.path(), &second, "dataplane").run().must_refuse(&refused);
        assert_eq!(first.cgroup().cpus(), "0", "{what}");
        look(&conf).is("directory", "ok", "in order");
    }
}
