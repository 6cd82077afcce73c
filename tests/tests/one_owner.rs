//! Whatever happens to one file of the configuration directory, an exclusive list has one owner at
//! the most, and the next container is refused or gets another list.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods, missing_docs)]

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use kcm_tests::audit::{free, held_by, holders};
use kcm_tests::conf_dir::ConfDir;
use kcm_tests::hook::{HookCall, POOL};
use kcm_tests::kcm::reconcile;
use kcm_tests::stand_in::{StandIn, new_id};
use kcm_tests::tree::tree;
use nix::sys::stat::{Mode, SFlag, mknod};
use nix::unistd::mkfifo;

/// What is done to a file, with its name.
type Harm = (&'static str, fn(&Path));

const HARMS: [Harm; 12] = [
    ("removed", |_| {}),
    ("emptied", |path| fs::write(path, "").unwrap()),
    ("blank", |path| fs::write(path, [0; 40]).unwrap()),
    ("garbled", |path| fs::write(path, "x,{").unwrap()),
    ("emptied in place", |path| fs::write(path, "").unwrap()),
    ("garbled in place", |path| fs::write(path, "x,{").unwrap()),
    ("another PID", |path| fs::write(path, "4194305").unwrap()),
    ("too large", |path| fs::File::create(path).unwrap().set_len(2 << 20).unwrap()),
    ("a folder", |path| fs::create_dir(path).unwrap()),
    ("a FIFO", |path| mkfifo(path, Mode::S_IRUSR).unwrap()),
    ("a socket", |path| drop(UnixListener::bind(path).unwrap())),
    // That of /dev/null, so that nothing would come of opening it.
    ("a device", |path| mknod(path, SFlag::S_IFCHR, Mode::S_IRUSR, libc::makedev(1, 3)).unwrap()),
];

/// After which a `tasks` is not there, or says something.
const UNDAMAGED: [&str; 5] = ["removed", "emptied", "emptied in place", "blank", "another PID"];

/// Puts something else into a file, or into its place, or nothing.
fn harm(path: &Path, (what, make): Harm) {
    if !what.ends_with("in place") {
        fs::remove_file(path).unwrap();
    }
    if what == "another PID" && !path.ends_with("tasks") {
        fs::write(path, "{}").unwrap();
    } else {
        make(path);
    }
}

fn create(conf: &ConfDir, role: &str) -> (StandIn, bool) {
    let container = StandIn::new(&new_id(role));
    let is_given = HookCall::create(conf.path(), &container, "p").run().succeeded();
    (container, is_given)
}

/// All files of a directory, relative to it.
fn files(conf: &ConfDir) -> Vec<PathBuf> {
    let all = tree(conf.path()).into_keys().filter(|path| path.is_file());
    all.map(|path| path.strip_prefix(conf.path()).unwrap().to_owned()).collect()
}

#[test]
fn whatever_happens_to_one_file_a_held_list_is_given_to_nobody_else() {
    let mut tried = 0;
    for lists in [&["0"][..], &["0", "1"]] {
        for harmed in HARMS {
            let names = {
                let conf = ConfDir::new(&[("p", true, lists)]);
                let (_first, _) = create(&conf, "first");
                files(&conf)
            };
            assert_eq!(names.len(), 4 + lists.len(), "{names:?}");
            for number in 0..names.len() {
                for reconciled in [false, true] {
                    let conf = ConfDir::new(&[("p", true, lists)]);
                    let (first, is_given) = create(&conf, "first");
                    assert!(is_given && first.allowed_cpus() == "0");
                    let file = files(&conf).remove(number);
                    harm(&conf.path().join(&file), harmed);
                    if reconciled {
                        reconcile(&conf, &["--repair"]);
                    }
                    let what = format!("{}: {} {reconciled}", file.display(), harmed.0);
                    for _ in 0..2 {
                        let (next, is_given) = create(&conf, "next");
                        assert!(!is_given || next.allowed_cpus() == "1", "{what}: two owners");
                    }
                    assert_eq!(first.allowed_cpus(), "0", "{what}");
                    tried += 1;
                }
            }
        }
    }
    println!("{tried} ways to harm one file");
    assert!(tried > 200);
}

#[test]
fn what_happened_to_a_tasks_is_mended_by_reconcile_and_is_no_concern_when_the_holder_ends() {
    for harmed in HARMS {
        for reconciled in [false, true] {
            let conf = ConfDir::new(&[("p", true, &["0"])]);
            let (mut first, _) = create(&conf, "first");
            harm(&conf.tasks_path("p", "0"), harmed);
            if reconciled {
                reconcile(&conf, &[]);
                assert_eq!(conf.tasks("p", "0"), first.pid().to_string(), "{}", harmed.0);
                assert!(conf.record(first.id()).is_some(), "{}", harmed.0);
            }
            first.kill();
            HookCall::poststop(conf.path(), first.id()).run().must_succeed();
            // What is blank is written anew by the next allocation; what is damaged waits.
            if !reconciled && !UNDAMAGED.contains(&harmed.0) {
                let (_, is_given) = create(&conf, "refused");
                assert!(!is_given, "{}", harmed.0);
                reconcile(&conf, &[]);
            }
            let (next, is_given) = create(&conf, "next");
            assert!(is_given, "{}: {:?}", harmed.0, tree(conf.path()));
            assert_eq!(conf.tasks("p", "0"), next.pid().to_string());
        }
    }
}

#[test]
fn what_happened_to_an_index_is_no_concern_when_the_holder_ends() {
    for harmed in HARMS {
        for reconciled in [false, true] {
            let conf = ConfDir::new(&[("p", true, &["0"])]);
            let (mut first, _) = create(&conf, "first");
            harm(&conf.index_path("p", "0"), harmed);
            first.kill();
            HookCall::poststop(conf.path(), first.id()).run().must_succeed();
            if reconciled {
                reconcile(&conf, &[]).succeeded();
                assert!(!conf.index_path("p", "0").exists(), "{}", harmed.0);
            }
            for _ in 0..2 {
                let (mut next, is_given) = create(&conf, "next");
                assert!(is_given, "{}: {:?}", harmed.0, tree(conf.path()));
                assert_eq!(conf.tasks("p", "0"), next.pid().to_string());
                next.kill();
                HookCall::poststop(conf.path(), next.id()).run().must_succeed();
            }
        }
    }
}

#[test]
fn what_was_kept_of_a_folder_in_the_place_of_tasks_is_no_directory_of_cmk() {
    let conf = ConfDir::new(&[("p", true, &["0"]), ("q", true, &["1"])]);
    let (first, _) = create(&conf, "first");
    harm(
        &conf.tasks_path("p", "0"),
        HARMS.into_iter().find(|(what, _)| *what == "a folder").unwrap(),
    );
    reconcile(&conf, &[]);
    assert!(conf.path().join("pools/p/0/tasks.bad").is_dir());
    fs::remove_file(conf.tasks_path("p", "0")).unwrap();
    let (_next, is_given) = create(&conf, "next");
    assert!(!is_given, "it is still held");
    let other = StandIn::new(&new_id("other"));
    HookCall::create(conf.path(), &other, "q").run().must_succeed();
    reconcile(&conf, &[]).succeeded();
    assert_eq!(conf.tasks("p", "0"), first.pid().to_string());
}

#[test]
fn where_a_file_system_has_no_hard_links_each_index_is_a_copy() {
    use kcm_tests::strace::Trace;
    let conf = ConfDir::new(&[("p", true, &["0", "1"])]);
    let both = StandIn::new(&new_id("both"));
    let call = HookCall::create_cores(conf.path(), &both, "p", 2);
    Trace::of(&call, &["linkat:error=EPERM"]).ran.must_succeed();
    let record = fs::read(conf.record_path(both.id())).unwrap();
    for list in ["0", "1"] {
        assert_eq!(fs::read(conf.index_path("p", list)).unwrap(), record);
        assert_eq!(conf.tasks("p", list), both.pid().to_string());
    }
}

#[test]
fn two_lists_of_one_holder_are_held_whichever_of_their_tasks_is_lost() {
    for lost in [&["0"][..], &["1"], &["0", "1"]] {
        let conf = ConfDir::new(&[("p", true, &["0", "1"])]);
        let both = StandIn::new(&new_id("both"));
        HookCall::create_cores(conf.path(), &both, "p", 2).run().must_succeed();
        for list in lost {
            fs::write(conf.tasks_path("p", list), "").unwrap();
        }
        let (next, is_given) = create(&conf, "next");
        assert!(!is_given, "{lost:?}: {}", next.allowed_cpus());
        assert_eq!(held_by(&holders(&conf, "p"), both.pid()), ["0", "1"]);
    }
}

#[test]
fn a_record_alone_holds_a_list_and_so_does_its_index() {
    for keep_index in [false, true] {
        let conf = ConfDir::new(&[("p", true, &["0"])]);
        // Its tasks is written by kcm itself from now on, as on any node.
        let (mut before, _) = create(&conf, "before");
        before.kill();
        HookCall::poststop(conf.path(), before.id()).run().must_succeed();
        let (first, is_given) = create(&conf, "first");
        assert!(is_given);
        fs::write(conf.tasks_path("p", "0"), "").unwrap();
        let other =
            if keep_index { conf.record_path(first.id()) } else { conf.index_path("p", "0") };
        fs::remove_file(other).unwrap();
        let (_next, is_given) = create(&conf, "next");
        assert!(!is_given, "two owners; index: {keep_index}");
        reconcile(&conf, &[]).succeeded();
        assert_eq!(conf.tasks("p", "0"), first.pid().to_string());
        assert!(conf.record(first.id()).is_some() && conf.index_path("p", "0").exists());
    }
}

#[test]
fn an_owner_keeps_its_list_however_much_its_engine_says_of_it() {
    let conf = ConfDir::new(&[("p", true, &["0"])]);
    let long = "x".repeat(70_000);
    let container = StandIn::new(&new_id("talkative"));
    let state = container.state(&[
        (POOL, "p"),
        ("io.kubernetes.cri.container-type", "container"),
        ("io.kubernetes.cri.container-name", &long),
        ("io.kubernetes.cri.sandbox-name", &long),
        ("io.kubernetes.cri.sandbox-namespace", &long),
        ("io.kubernetes.cri.image-name", &long),
    ]);
    HookCall::with_input(conf.path(), "createRuntime", state).run().must_succeed();
    let written = fs::metadata(conf.record_path(container.id())).unwrap().len();
    assert!(written < 10_000, "{written} bytes");
    let pod = conf.record(container.id()).unwrap()["pod"].as_str().unwrap().to_owned();
    assert!(pod.ends_with("x…") && pod.len() <= 1024, "{pod}");
    reconcile(&conf, &[]).succeeded();
    let (_, is_given) = create(&conf, "next");
    assert!(!is_given);
    assert_eq!(conf.allocations(), [format!("{}.json", container.id())]);
}

#[test]
fn a_pool_that_does_not_say_whether_it_is_exclusive_gives_nothing() {
    let cases: [Harm; 7] = [
        ("missing", |_| {}),
        ("emptied", |path| fs::write(path, "").unwrap()),
        ("a word", |path| fs::write(path, "true").unwrap()),
        ("a space", |path| fs::write(path, " 1").unwrap()),
        ("blank", |path| fs::write(path, [0; 2]).unwrap()),
        ("a folder", |path| fs::create_dir(path).unwrap()),
        ("a link", |path| symlink("../q/exclusive", path).unwrap()),
    ];
    for case in cases {
        let conf = ConfDir::new(&[("p", true, &["0"]), ("q", true, &["1"])]);
        let path = conf.path().join("pools/p/exclusive");
        harm(&path, case);
        close_the_lock(&conf);
        let before = tree(conf.path());
        for _ in 0..2 {
            let container = StandIn::new(&new_id("refused"));
            let ran = HookCall::create(conf.path(), &container, "p").run();
            ran.must_refuse(&[
                "pools/p/exclusive",
                "write 1 (each list has one owner) or 0 (shared)",
            ]);
            assert_eq!(tree(conf.path()), before, "{}", case.0);
        }
        // The other pool is none the worse, and the remedy works.
        let container = StandIn::new(&new_id("other"));
        HookCall::create(conf.path(), &container, "q").run().must_succeed();
        if path.is_dir() {
            fs::remove_dir(&path).unwrap();
        }
        let _ = fs::remove_file(&path);
        fs::write(&path, "1").unwrap();
        let (_, is_given) = create(&conf, "next");
        assert!(is_given, "{}", case.0);
    }
}

/// What the first writer does, whatever else it does.
fn close_the_lock(conf: &ConfDir) {
    fs::set_permissions(conf.path().join("lock"), Permissions::from_mode(0o600)).unwrap();
}

/// A directory as CMK 1.1 and newer make it: lists lie below a socket's folder.
fn of_cmk(sockets: &[(&str, &[&str])]) -> ConfDir {
    let conf = ConfDir::new(&[("p", true, &[]), ("q", true, &[])]);
    for (socket, lists) in sockets {
        fs::create_dir(conf.path().join("pools/p").join(socket)).unwrap();
        for list in *lists {
            let folder = conf.path().join("pools/p").join(socket).join(list);
            fs::create_dir(&folder).unwrap();
            fs::write(folder.join("tasks"), "").unwrap();
        }
    }
    close_the_lock(&conf);
    // In the other pool no socket has a core.
    fs::create_dir(conf.path().join("pools/q/0")).unwrap();
    conf
}

#[test]
fn a_directory_of_cmk_gives_nothing() {
    for sockets in [&[("0", &["1,9", "2,10"][..]), ("1", &[])][..], &[("0", &[]), ("1", &["3"])]] {
        let conf = of_cmk(sockets);
        let before = tree(conf.path());
        for pool in ["p", "q"] {
            let container = StandIn::new(&new_id("cmk"));
            let ran = HookCall::create(conf.path(), &container, pool).run();
            ran.must_refuse(&["pools/p/", "is a directory of CMK", "give another --conf-dir"]);
            assert_eq!(tree(conf.path()), before, "{pool} {sockets:?}");
        }
    }
}

#[test]
fn whatever_is_done_one_after_the_other_while_a_hook_is_at_work_there_are_no_two_owners() {
    for harmed in
        HARMS.into_iter().filter(|(what, _)| ["removed", "garbled in place"].contains(what))
    {
        for reconciled in [false, true] {
            let conf = ConfDir::new(&[("p", true, &["0"])]);
            let first = StandIn::new(&new_id("first"));
            let hook = HookCall::create(conf.path(), &first, "p").start_and_stop();
            for turn in 0..3 {
                let (record, index) = (conf.record_path(first.id()), conf.index_path("p", "0"));
                for path in [record, index, conf.tasks_path("p", "0")] {
                    if path.exists() {
                        harm(&path, harmed);
                    }
                    if reconciled {
                        reconcile(&conf, &[]);
                    }
                }
                println!("{turn}: {:?}", tree(conf.path()));
            }
            let (second, is_given) = create(&conf, "second");
            let ran = hook.finish();
            assert!(!(is_given && ran.succeeded()), "{} {reconciled}: two owners", harmed.0);
            match (is_given, ran.succeeded()) {
                (true, _) => {
                    ran.must_refuse(&["CPU list 0 of pool p was given to", first.id()]);
                    assert_eq!(conf.tasks("p", "0"), second.pid().to_string());
                    assert!(conf.record(first.id()).is_none());
                }
                (false, true) => {
                    reconcile(&conf, &[]).succeeded();
                    assert_eq!(conf.tasks("p", "0"), first.pid().to_string());
                }
                (false, false) => panic!("{} {reconciled}: {}", harmed.0, ran.stderr),
            }
        }
    }
}

#[test]
fn a_hook_that_died_between_its_record_and_tasks_has_given_nothing() {
    use kcm_tests::strace::Trace;
    // The first renamed is the boot, then come the record, its index, and tasks.
    for number in [3, 4] {
        let conf = ConfDir::new(&[("p", true, &["0"])]);
        let failed = StandIn::new(&new_id("failed"));
        let kill = format!("renameat:signal=SIGKILL:when={number}");
        let trace = Trace::of(&HookCall::create(conf.path(), &failed, "p"), &[&kill]);
        assert!(trace.ran.was_killed());
        assert!(conf.record(failed.id()).is_some() && conf.tasks("p", "0").is_empty());
        assert!(failed.is_alive());
        let (_next, is_given) = create(&conf, "next");
        assert!(is_given, "{number}: a start that failed holds the list");
        let names = conf.allocations();
        assert_eq!(free(&holders(&conf, "p")), 0, "{names:?}");
    }
}
