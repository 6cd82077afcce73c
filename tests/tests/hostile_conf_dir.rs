//! The configuration directory in hostile hands: whoever may write it (a pod that mounts it for
//! `kcm isolate`) must not make a root process write elsewhere, wait for ever, or give a list twice.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods, missing_docs)]

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use kcm_tests::conf_dir::ConfDir;
use kcm_tests::hook::HookCall;
use kcm_tests::stand_in::StandIn;
use kcm_tests::tree::tree;
use nix::sys::stat::Mode;

/// A directory in use, and a folder of somebody else's beside it.
struct Attack {
    conf_dir: ConfDir,
    outside: tempfile::TempDir,
    _holder: StandIn,
    victim: StandIn,
}

impl Attack {
    /// List `0` is held by `holder-<name>`; `victim-<name>` asks next.
    fn new(name: &str) -> Self {
        let conf_dir = ConfDir::new(&[("p", true, &["0", "1"])]);
        let holder = StandIn::new(&format!("holder-{name}"));
        HookCall::create(conf_dir.path(), &holder, "p").run().must_succeed();
        let outside = tempfile::tempdir().unwrap();
        fs::write(outside.path().join("file"), "somebody else's").unwrap();
        fs::create_dir_all(outside.path().join("folder/1")).unwrap();
        fs::write(outside.path().join("folder/1/tasks"), "").unwrap();
        let victim = StandIn::new(&format!("victim-{name}"));
        Self { conf_dir, outside, _holder: holder, victim }
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.conf_dir.path().join(name)
    }

    fn call(&self) -> HookCall {
        // A lock that cannot be had is an error after this, not a test that hangs.
        HookCall::create(self.conf_dir.path(), &self.victim, "p").lock_timeout("5")
    }
}

/// Puts something in a file's or folder's place.
fn replace(path: &Path, with: &str, outside: &Path) {
    if path.is_dir() {
        fs::remove_dir_all(path).unwrap();
    } else if path.symlink_metadata().is_ok() {
        fs::remove_file(path).unwrap();
    }
    match with {
        "folder" => fs::create_dir_all(path.join("x")).unwrap(),
        "fifo" => nix::unistd::mkfifo(path, Mode::from_bits_truncate(0o644)).unwrap(),
        "link to a file" => symlink(outside.join("file"), path).unwrap(),
        "link to a folder" => symlink(outside.join("folder"), path).unwrap(),
        "dangling link" => symlink(outside.join("new"), path).unwrap(),
        "hard link" => fs::hard_link(outside.join("file"), path).unwrap(),
        "100 MB" => fs::File::create(path).unwrap().set_len(100 << 20).unwrap(),
        content => fs::write(path, content).unwrap(),
    }
}

#[test]
fn what_stands_in_the_way_is_named_and_nothing_is_changed_inside_or_outside() {
    let mut tried = 0;
    for (place, with, cause) in [
        ("lock", "folder", "kcm/lock"),
        ("lock", "fifo", "kcm/lock is no plain file"),
        ("lock", "link to a file", "kcm/lock is no plain file but a symbolic link"),
        ("lock", "dangling link", "kcm/lock is no plain file but a symbolic link"),
        ("lock", "hard link", "kcm/lock"),
        ("pools", "link to a folder", "kcm/pools: it is a symbolic link"),
        ("pools", "content", "kcm/pools"),
        ("pools/p", "link to a folder", "pools/p: it is a symbolic link"),
        ("pools/p", "content", "pools/p"),
        ("pools/p/exclusive", "folder", "pools/p/exclusive is no plain file"),
        ("pools/p/exclusive", "fifo", "pools/p/exclusive is no plain file"),
        (
            "pools/p/exclusive",
            "link to a file",
            "pools/p/exclusive is no plain file but a symbolic link",
        ),
        ("pools/p/exclusive", "100 MB", "pools/p/exclusive is larger"),
        ("pools/p/partition", "folder", "pools/p/partition is no plain file"),
        ("pools/p/partition", "fifo", "pools/p/partition is no plain file"),
        (
            "pools/p/partition",
            "dangling link",
            "pools/p/partition is no plain file but a symbolic link",
        ),
        ("pools/p/partition", "100 MB", "pools/p/partition is larger"),
        (
            "pools/p/partition",
            "member",
            "pools/p/partition: \"member\" is none of none, root, isolated",
        ),
        (
            "pools/p/partition",
            "root required x",
            "pools/p/partition: \"required x\" follows the kind",
        ),
        ("pools/p/partition", "none required", "pools/p/partition: none cannot be required"),
        ("pools/p/partition", "root\0", "pools/p/partition: \"root\\0\" is none of"),
        ("allocations", "link to a folder", "kcm/allocations: it is a symbolic link"),
        ("allocations", "dangling link", "kcm/allocations: it is a symbolic link"),
        ("allocations", "content", "kcm/allocations"),
        ("allocations/.tmp-0", "folder", "allocations/.tmp-0"),
        ("allocations/.tmp-1", "folder", "allocations/.tmp-1"),
    ] {
        let attack = Attack::new("way");
        replace(&attack.path(place), with, attack.outside.path());
        let before = (tree(attack.conf_dir.path()), tree(attack.outside.path()));
        println!("{place}: {with}");
        attack.call().run().must_refuse(&[cause]);
        let after = (tree(attack.conf_dir.path()), tree(attack.outside.path()));
        assert_eq!(after, before, "{place}: {with}");
        tried += 1;
    }
    println!("{tried} obstacles refused");
}

#[test]
fn leftovers_that_are_links_are_removed_and_their_targets_stay() {
    let attack = Attack::new("leftovers");
    let before = tree(attack.outside.path());
    for (name, with) in [
        (".tmp-0", "link to a file"),
        (".tmp-1", "hard link"),
        (".tmp-2", "dangling link"),
        (".tmp-3", "fifo"),
    ] {
        replace(&attack.path("allocations").join(name), with, attack.outside.path());
    }
    attack.call().run().must_succeed();
    assert_eq!(tree(attack.outside.path()), before);
    assert_eq!(attack.conf_dir.allocations().len(), 2, "{:?}", attack.conf_dir.allocations());
}

/// What a `tasks` file may hold or be that is no list of processes.
const BAD_TASKS: &[&str] = &[
    "x",
    "0",
    "-1",
    "1.5",
    "+7",
    "1;2",
    "4711,x",
    "4194305000",
    "99999999999999999999",
    "1\0",
    "1\u{a0}",
    "\u{7f}",
    "100 MB",
    "folder",
    "fifo",
    "link to a file",
    "dangling link",
];

#[test]
fn a_list_with_damaged_tasks_is_passed_over_and_stays_as_it_is() {
    for with in BAD_TASKS {
        let attack = Attack::new("tasks");
        // List 0 is held, so that every list is looked into: 1 is damaged, and 0-1 is free in truth.
        fs::create_dir(attack.path("pools/p/0-1")).unwrap();
        fs::write(attack.path("pools/p/0-1/tasks"), i32::MAX.to_string()).unwrap();
        replace(&attack.path("pools/p/1/tasks"), with, attack.outside.path());
        let before = (tree(&attack.path("pools/p/1")), tree(attack.outside.path()));
        attack.call().run().must_succeed();
        let pid = attack.victim.pid().to_string();
        assert_eq!(attack.conf_dir.tasks("p", "0-1"), pid, "{with:?}");
        let after = (tree(&attack.path("pools/p/1")), tree(attack.outside.path()));
        assert_eq!(after, before, "{with:?}");
    }
    println!("{} damaged tasks passed over", BAD_TASKS.len());
}

#[test]
fn with_nothing_but_damaged_tasks_the_refusal_names_pool_and_log_names_file_on_one_line() {
    for with in BAD_TASKS {
        let attack = Attack::new("only");
        replace(&attack.path("pools/p/1/tasks"), with, attack.outside.path());
        let before = tree(attack.conf_dir.path());
        let ran = attack.call().run().must_refuse(&["pool p"]);
        assert!(ran.stderr.contains("pools/p/1/tasks"), "{with:?}: {}", ran.stderr);
        let ours = ran.stderr.lines().all(|line| line.starts_with("kcm-hook: "));
        assert!(ours, "a line of somebody else's in the log: {}", ran.stderr);
        assert_eq!(tree(attack.conf_dir.path()), before, "{with:?}");
    }
}

#[test]
fn odd_entries_in_a_pool_are_no_lists_and_forge_no_line_of_the_log() {
    let attack = Attack::new("odd");
    let outside = attack.outside.path();
    let odd = [
        "x",
        "3-1",
        "-1",
        "99999",
        "0-99999999999",
        "1,",
        "1\nkcm-hook: ERROR forged",
        "..5",
        " ",
        "1 2",
        "\u{202e}1",
    ];
    for name in odd {
        fs::create_dir(attack.path("pools/p").join(name)).unwrap();
    }
    symlink(outside.join("folder/1"), attack.path("pools/p/0,1")).unwrap();
    fs::write(attack.path("pools/p/00"), "a file in a list's place").unwrap();
    let before = tree(outside);
    let ran = attack.call().run().must_succeed();
    assert_eq!(attack.conf_dir.tasks("p", "1"), attack.victim.pid().to_string());
    for line in ran.stderr.lines() {
        assert!(line.starts_with("kcm-hook: ") && !line.contains("ERROR forged\n"), "{line}");
    }
    assert!(!ran.stderr.contains("\nkcm-hook: ERROR forged"), "{}", ran.stderr);
    assert_eq!(tree(outside), before);
}

#[test]
fn hard_linked_tasks_keep_their_content_under_their_other_name() {
    let attack = Attack::new("hard");
    let other = attack.outside.path().join("other");
    fs::hard_link(attack.path("pools/p/1/tasks"), &other).unwrap();
    fs::write(&other, "2147483647").unwrap();
    attack.call().run().must_succeed();
    assert_eq!(attack.conf_dir.tasks("p", "1"), attack.victim.pid().to_string());
    assert_eq!(fs::read_to_string(&other).unwrap(), "2147483647");
}
