//! Situations that people meet: each message names object, cause and remedy, and the remedy, which is
//! executed as it is written, works.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods, missing_docs)]

mod kernel;

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use kcm_tests::conf_dir::ConfDir;
use kcm_tests::hook::HookCall;
use kcm_tests::kcm::{kcm, reconcile, run};
use kcm_tests::machine::{cgroup_file, is_cgroup_v2, together, two_cpus};
use kcm_tests::stand_in::{Cgroup, StandIn};

/// What follows `before` in a message, up to `end` or its end.
#[track_caller]
fn part<'a>(message: &'a str, before: &str, end: &str) -> &'a str {
    let (_, rest) = message.split_once(before).unwrap_or_else(|| panic!("{before:?}: {message}"));
    rest.split(end).next().unwrap().trim()
}

/// Does what a message says, as it says it.
#[track_caller]
fn follow(commands: &str) {
    let output = Command::new("sh").args(["-ec", commands]).output().unwrap();
    assert!(output.status.success(), "{commands:?}: {output:?}");
}

#[test]
fn of_three_lists_two_held_and_one_damaged_the_third_is_named_and_reconcile_gives_it_back() {
    let [first, second] = two_cpus();
    let both = together([&first, &second]);
    let conf = ConfDir::new(&[("p", true, &[&first, &second, &both])]);
    let holders = ["damaged-1", "damaged-2"].map(StandIn::new);
    for holder in &holders {
        HookCall::create(conf.path(), holder, "p").run().must_succeed();
    }
    let is_free = |list: &&&String| conf.tasks("p", list).is_empty();
    let third = [&first, &second, &both].iter().find(is_free).unwrap().to_string();
    fs::write(conf.tasks_path("p", &third), "no pid\n").unwrap();
    let next = StandIn::new("damaged-3");
    let call = HookCall::create(conf.path(), &next, "p");

    let said =
        call.run().must_refuse(&["pool p: 2 of 3 are held and 1 cannot be used here"]).stderr;
    let path = conf.tasks_path("p", &third);
    let warning = said.lines().find(|line| line.contains(path.to_str().unwrap())).expect(&said);
    assert!(
        warning.contains("\"no\" is no process id") && warning.contains("run kcm reconcile"),
        "{warning}"
    );

    reconcile(&conf, &[]).succeeded();
    call.run().must_succeed();
    assert_eq!(conf.tasks("p", &third), next.pid().to_string());
}

#[test]
fn whoever_holds_a_list_by_a_bare_pid_is_named_with_what_frees_it() {
    let [first, _] = two_cpus();
    let conf = ConfDir::new(&[("p", true, &[&first])]);
    let mut holder = Command::new("sleep").arg("600").stdin(Stdio::null()).spawn().unwrap();
    let pid = holder.id();
    fs::write(conf.tasks_path("p", &first), pid.to_string()).unwrap();
    let container = StandIn::new("bare");
    let call = HookCall::create(conf.path(), &container, "p");
    call.run().must_refuse(&["No free cpu lists in pool p: 1 of 1 are held"]);
    // Who holds is for the node's administrator alone.
    let isolate = |command: &mut Command| {
        run(command.args(["isolate", "--pool=p", "true"]).env("KCM_CONF_DIR", conf.path()))
    };
    let said = isolate(&mut kcm()).err;
    let who =
        format!("{first} by process {pid} (no record says whose; it holds the list until it ends");
    assert!(said.contains(&who), "{said}");

    follow(part(&said, "tells what it is, ", " ends it"));
    holder.wait().unwrap();
    call.run().must_succeed();
}

#[test]
fn a_damaged_word_on_partitions_is_named_with_what_mends_it() {
    let [first, _] = two_cpus();
    let write: fn(&Path) = |path| fs::write(path, "auto").unwrap();
    let remove: fn(&Path) = |path| fs::remove_file(path).unwrap();
    let init: fn(&Path) = |path| {
        let conf = path.ancestors().nth(3).unwrap();
        run(kcm().args(["init", "--partition=p=auto"]).env("KCM_CONF_DIR", conf)).succeeded();
    };
    for mend in [write, remove, init] {
        let conf = ConfDir::new(&[("p", true, &[&first])]);
        let path = conf.path().join("pools/p/partition");
        fs::write(&path, "rooot\n").unwrap();
        let container = StandIn::new("damaged-word");
        let call = HookCall::create(conf.path(), &container, "p");
        let said = call.run().must_refuse(&["\"rooot\" is none of"]).stderr;
        assert!(said.contains(path.to_str().unwrap()), "{said}");
        assert_eq!((conf.tasks("p", &first), conf.allocations()), (String::new(), vec![]));
        let remedy = part(&said, "isolated and auto; ", "\n");
        assert!(remedy.starts_with("write none, root, isolated or auto into it"), "{said}");
        assert!(remedy.ends_with("or remove it, which means auto"), "{said}");
        mend(&path);
        call.run().must_succeed();
    }
}

#[test]
fn in_a_shared_pool_a_damaged_word_on_partitions_is_named_and_stops_nobody() {
    let [first, _] = two_cpus();
    let conf = ConfDir::new(&[("q", false, &[&first])]);
    let path = conf.path().join("pools/q/partition");
    fs::write(&path, "rooot\n").unwrap();
    let container = StandIn::new("shared-word");
    let said = HookCall::create(conf.path(), &container, "q").run().must_succeed().stderr;
    assert!(said.contains(path.to_str().unwrap()), "{said}");
}

#[test]
fn what_a_pool_says_of_partitions_refuses_with_the_command_that_changes_it() {
    let [first, _] = two_cpus();
    let conf = ConfDir::new(&[("p", true, &[&first])]);
    let path = conf.path().join("pools/p/partition");
    let container = StandIn::new("disallowed");
    let asking = |kind: &str| {
        let asked = [("kcm.intel.com/pool", "p"), ("kcm.intel.com/partition", kind)];
        HookCall::with_input(conf.path(), "createRuntime", container.state(&asked))
    };
    let administrator = |said: &str| {
        let words = part(said, "kcm init ", "\n").trim_end_matches(')');
        let words = words.split(' ');
        run(kcm().arg("init").args(words).env("KCM_CONF_DIR", conf.path())).succeeded();
    };
    for (says, kind) in [("none", "root"), ("root", "isolated"), ("isolated required", "none")] {
        fs::write(&path, says).unwrap();
        let part = format!(
            "pool p allows no partition {kind:?} (its file pools/p/partition says {says:?})"
        );
        let said = asking(kind).run().must_refuse(&[&part]).stderr;
        assert_eq!(conf.allocations(), [""; 0]);
        administrator(&said);
        assert_eq!(fs::read_to_string(&path).unwrap(), "auto\n");
    }
    // Where the kernel has none.
    if cgroup_file("/", "cpuset.cpus.isolated").exists() {
        println!("skipped in part: this kernel has partitions");
    } else {
        fs::write(&path, "root required").unwrap();
        let part = "pool p requires a cpuset partition (root) for each of its containers, and this kernel has \
                    none: they need cgroup v2 and Linux 6.8";
        administrator(&asking("auto").run().must_refuse(&[part]).stderr);
    }
    asking("auto").run().must_succeed();
}

/// As a CPU that was offline leaves them on cgroup v1, or somebody who narrowed a group.
#[test]
fn a_group_above_a_container_that_lacks_its_cpu_is_named_with_the_commands_that_give_it_back() {
    let [first, second] = two_cpus();
    let both = together([&first, &second]);
    let conf = ConfDir::new(&[("p", true, &[&second])]);
    let [top, middle, own] = ["lacks", "lacks/pod", "lacks/pod/c"].map(Cgroup::new);
    let container = StandIn::new("lacking");
    own.enter(container.pid());
    HookCall::create(conf.path(), &container, "p").run().must_succeed();
    let narrow: &[&Cgroup] = if is_cgroup_v2() { &[&top] } else { &[&own, &middle, &top] };
    for cgroup in narrow {
        fs::write(cgroup_file(&cgroup.path(), "cpuset.cpus"), &first).unwrap();
    }
    assert_eq!(container.allowed_cpus(), first);

    let said = reconcile(&conf, &["--repair"]).succeeded().err;
    let missing = format!("{} has no CPUs {second} any more", top.path());
    assert!(said.contains(&missing) && !said.contains("Permission denied"), "{said}");
    follow(part(&said, "give them back with: ", "\n"));
    // kcm changes no group but the container's.
    assert_eq!(top.cpus(), both);

    let said = reconcile(&conf, &["--repair"]).succeeded().err;
    assert!(!said.contains("cannot repair"), "{said}");
    assert_eq!((own.cpus(), container.allowed_cpus()), (second.clone(), second));
    drop(container);
    drop((own, middle, top));
}
