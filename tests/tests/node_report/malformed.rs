//! Files that are not what belongs there: named as `kcm describe` names them, and the rest is
//! described and checked all the same.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use kcm_tests::conf_dir::ConfDir;

use super::{errors, on, parse, sixteen_cpus};

/// Pool `good` with a task in its one list, and pool `bad` with a list `1` and what is made there.
fn directory(make: impl Fn(&Path)) -> ConfDir {
    let conf = ConfDir::new(&[("bad", true, &["1"]), ("good", true, &["0"])]);
    fs::write(conf.tasks_path("good", "0"), "4711").unwrap();
    make(&conf.path().join("pools"));
    conf
}

/// What something is, how it is made below `pools/`, and what the error says of it.
type Case = (&'static str, fn(&Path), [&'static str; 2]);

const CASES: [Case; 9] = [
    (
        "a word",
        |pools| fs::write(pools.join("bad/1/tasks"), "12,x").unwrap(),
        ["pools/bad/1/tasks", "\"x\""],
    ),
    (
        "a PID of 0",
        |pools| fs::write(pools.join("bad/1/tasks"), "0").unwrap(),
        ["pools/bad/1/tasks", "\"0\""],
    ),
    (
        "a list's name",
        |pools| fs::create_dir(pools.join("bad/3-1")).unwrap(),
        ["pools/bad/3-1", "3-1"],
    ),
    (
        "a file among lists",
        |pools| fs::write(pools.join("bad/note"), "").unwrap(),
        ["pools/bad/note", "neither a CPU list's folder"],
    ),
    (
        "a file among pools",
        |pools| fs::write(pools.join("README"), "").unwrap(),
        ["pools/README", "no folder, so no pool"],
    ),
    (
        "a link among pools",
        |pools| symlink("good", pools.join("link")).unwrap(),
        ["pools/link", "no folder, so no pool"],
    ),
    (
        "a partition's kind",
        |pools| fs::write(pools.join("bad/partition"), "rot").unwrap(),
        ["pools/bad/partition", "\"rot\" is none of none, root, isolated and auto"],
    ),
    (
        "a folder in the place of what a pool says of partitions",
        |pools| fs::create_dir(pools.join("bad/partition")).unwrap(),
        ["pools/bad/partition", "is no plain file"],
    ),
    (
        "a pool's name",
        |pools| fs::create_dir(pools.join("none")).unwrap(),
        ["pools/none", "no pool name"],
    ),
];

#[test]
fn what_is_malformed_is_named_as_describe_names_it_and_the_rest_is_described() {
    for (what, make, parts) in CASES {
        let conf = directory(make);
        let before = conf.snapshot();
        let outcome = on(&sixteen_cpus(), conf.path(), "node-report").succeeded();
        assert_eq!(conf.snapshot(), before, "{what}");
        let report = parse(&outcome);
        let errors = errors(&report);
        assert!(errors.len() == 1, "{what}: {errors:?}");
        assert!(parts.iter().all(|part| errors[0].contains(part)), "{what}: {errors:?}");
        let described = on(&sixteen_cpus(), conf.path(), "describe");
        assert_eq!(described.code, Some(1), "{what}: {described:?}");
        assert_eq!(errors, described.lines("ERROR"), "{what}");
        assert_eq!(report["description"], parse(&described), "{what}");
        let good = &report["description"]["pools"]["good"]["cpuLists"]["0"]["tasks"];
        assert_eq!(good[0], 4711, "{what}");
    }
}

/// A directory with one of everything that can be wrong; its folders are made in this order.
fn all_wrong(pools: &[(&str, bool, &[&str])]) -> ConfDir {
    let conf = ConfDir::new(pools);
    fs::write(conf.tasks_path("a", "2"), "12,34").unwrap();
    fs::write(conf.tasks_path("b", "3"), "x").unwrap();
    fs::create_dir(conf.path().join("pools/b/3-1")).unwrap();
    fs::write(conf.path().join("pools/b/note"), "").unwrap();
    fs::write(conf.path().join("pools/README"), "").unwrap();
    fs::create_dir(conf.path().join("pools/none")).unwrap();
    conf
}

#[test]
fn everything_that_is_wrong_is_reported_in_an_order_that_stays() {
    let conf = all_wrong(&[("a", true, &["0-1", "1", "2"]), ("b", true, &["3", "0", "99"])]);
    let ours = [
        "CPU list a:2 is exclusive and has 2 tasks: 12, 34",
        "CPU list b:99 has CPUs that are not online: 99",
        "CPU list overlap detected in a:0-1 and a:1 (in both: [1])",
        "CPU list overlap detected in a:0-1 and b:0 (in both: [0])",
    ];
    let machine = sixteen_cpus();
    let described = on(&machine, conf.path(), "describe");
    let theirs = described.lines("ERROR");
    assert_eq!(theirs.len(), 5, "{described:?}");
    let mut expected: Vec<&str> = ours.into_iter().chain(theirs).collect();
    expected.sort_unstable();

    let first = on(&machine, conf.path(), "node-report").succeeded().out;
    let report = serde_json::from_str(&first).unwrap();
    let mut found = errors(&report);
    found.sort_unstable();
    assert_eq!(found, expected);
    for _ in 0..5 {
        assert_eq!(on(&machine, conf.path(), "node-report").succeeded().out, first);
    }
    // A directory in which the names came in another order.
    let other = all_wrong(&[("b", true, &["99", "0", "3"]), ("a", true, &["2", "1", "0-1"])]);
    let out = on(&machine, other.path(), "node-report").succeeded().out;
    let [path, other] = [&conf, &other].map(|conf| conf.path().to_str().unwrap());
    assert_eq!(out.replace(other, path), first);
}
