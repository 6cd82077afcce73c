//! `kcm init --partition`: what an exclusive pool says of its containers' cpuset partitions.

use std::fs;

use kcm_tests::conf_dir::ConfDir;
use kcm_tests::hook::HookCall;
use kcm_tests::kcm::{Outcome, kcm, run};
use kcm_tests::machine::{cgroup_file, two_cpus};
use kcm_tests::stand_in::{StandIn, new_id};

use super::machine::{MANUAL, Machine};
use super::tree::tree;

fn says(machine: &Machine, pool: &str) -> Option<String> {
    fs::read_to_string(machine.conf_dir().join("pools").join(pool).join("partition")).ok()
}

/// `kcm init` with these words alone.
fn init(machine: &Machine, words: &[&str]) -> Outcome {
    machine.kcm(&[&["init"], words].concat())
}

#[test]
fn a_new_directory_has_what_is_asked_for_and_else_no_such_file() {
    for (flag, expected) in [
        ("dataplane=isolated", "isolated\n"),
        ("dataplane=root,required", "root required\n"),
        ("dataplane=auto,required", "auto required\n"),
        ("dataplane=auto", "auto\n"),
        ("dataplane=none", "none\n"),
    ] {
        for is_made in [false, true] {
            let machine = Machine::new(MANUAL);
            if is_made {
                fs::create_dir_all(machine.conf_dir()).unwrap();
            }
            init(&machine, &["--partition", flag]).succeeded();
            assert_eq!(says(&machine, "dataplane").as_deref(), Some(expected));
            assert_eq!(says(&machine, "infra"), None);
            let path = machine.conf_dir().join("pools/dataplane/partition");
            let made = tree(&machine.conf_dir());
            fs::remove_file(path).unwrap();
            let without = Machine::new(MANUAL);
            init(&without, &[]).succeeded();
            assert_eq!(tree(&without.conf_dir()), tree(&machine.conf_dir()));
            assert!(
                made.contains(&format!("0644 pools/dataplane/partition={expected}")),
                "{made:?}"
            );
        }
    }
}

#[test]
fn in_a_directory_that_is_there_that_one_file_changes_whatever_cores_it_has() {
    let machine = Machine::new(MANUAL);
    machine.init(2, 1).succeeded();
    let before = tree(&machine.conf_dir());
    for word in ["isolated", "none", "root required", "auto"] {
        let flag = format!("--partition=dataplane={}", word.replace(' ', ","));
        for words in [&[flag.as_str()][..], &[&flag, "--num-dp-cores=2"]] {
            let said = init(&machine, words).succeeded();
            let told =
                [format!("Containers of pool dataplane that start from now on: partition {word}.")];
            assert_eq!(said.lines("INFO"), told);
            let mut now = tree(&machine.conf_dir());
            let file = format!("0644 pools/dataplane/partition={word}\n");
            let at = now.iter().position(|line| *line == file);
            now.remove(at.unwrap_or_else(|| panic!("{now:?}")));
            assert_eq!(now, before);
        }
        // Whoever says nothing of it leaves it.
        machine.init(2, 1).succeeded();
        assert_eq!(says(&machine, "dataplane"), Some(format!("{word}\n")));
    }
}

#[test]
fn what_cannot_be_said_is_refused_and_nothing_is_made_or_changed() {
    let shared =
        "The pool infra is shared: its CPUs are nobody's alone. Leave out --partition=infra=…";
    let new = |words: &[&str], part: &str| {
        let machine = Machine::new(MANUAL);
        init(&machine, words).failed_with(&[part]);
        assert!(!machine.path("etc").exists(), "{words:?}");
    };
    let root = "--partition=dataplane=root";
    new(&["--partition=infra=root"], shared);
    new(&[root, "--partition=infra=none"], shared);
    new(&[root, "--partition=gpu=root"], "kcm init makes no pool gpu");
    let machine = Machine::new(MANUAL);
    machine.init(4, 1).succeeded();
    let before = tree(&machine.conf_dir());
    for (words, part) in [
        (&["--partition=infra=root"][..], shared),
        (&[root, "--partition=controlplane=root"], "The pool controlplane is shared"),
        (&[root, "--partition=gpu=root"], "Requested pool gpu does not exist"),
        (&[root, "--num-dp-cores=3"], "4 dataplane cores (3 requested)"),
        (&[root, "--num-cp-cores=2"], "1 controlplane cores (2 requested)"),
    ] {
        init(&machine, words).failed_with(&[part]);
        assert_eq!(tree(&machine.conf_dir()), before, "{words:?}");
    }
}

#[test]
fn a_malformed_value_is_wrong_usage_and_says_what_there_is() {
    for (value, part) in [
        ("dataplane", "give POOL=KIND, as in dataplane=root"),
        ("", "--partition"),
        ("dataplane=", "\"\" is none of none, root, isolated and auto"),
        ("dataplane=member", "\"member\" is none of none, root, isolated and auto"),
        ("dataplane=Root", "\"Root\" is none of"),
        ("dataplane=required", "\"required\" is none of"),
        ("dataplane=root,needed", "\"needed\" follows the kind, where only \"required\" may"),
        ("dataplane=none,required", "none cannot be required"),
        ("../infra=root", "../infra"),
        ("=root", "pool"),
    ] {
        let machine = Machine::new(MANUAL);
        let outcome = init(&machine, &[&format!("--partition={value}")]);
        assert_eq!((outcome.code, outcome.out.as_str()), (Some(2), ""), "{outcome:?}");
        assert!(outcome.err.contains(part), "{part:?} is not in {outcome:?}");
        assert!(!machine.path("etc").exists(), "{value}");
    }
}

#[test]
fn help_tells_the_kinds() {
    let help = run(kcm().args(["init", "--help"])).succeeded().out;
    let help = help.split_whitespace().collect::<Vec<_>>().join(" ");
    for part in [
        "--partition <POOL=KIND[,required]>",
        "KIND is auto, root, isolated or none [default: auto]",
        "Physical cores of the dataplane pool [default: 4]",
    ] {
        assert!(help.contains(part), "{help}");
    }
}

#[test]
fn it_holds_from_the_next_container_on_and_a_pool_made_by_hand_has_it_too() {
    let [cpu, _] = two_cpus();
    let conf = ConfDir::new(&[("mine", true, &[&cpu])]);
    let flag = |value: &str| {
        let word = format!("--partition=mine={value}");
        run(kcm().args(["init", &word]).env("KCM_CONF_DIR", conf.path())).succeeded();
    };
    let container = StandIn::new(&new_id("said"));
    let asking = |kind: &str| {
        let asked = [("kcm.intel.com/pool", "mine"), ("kcm.intel.com/partition", kind)];
        HookCall::with_input(conf.path(), "createRuntime", container.state(&asked))
    };
    flag("none");
    asking("isolated").run().must_refuse(&["pool mine allows no partition \"isolated\""]);
    assert!(conf.record(container.id()).is_none());
    flag("auto");
    let said = asking("isolated").run().must_succeed().stderr;
    let kind = &conf.record(container.id()).unwrap()["partition"];
    let lacks = "gets no cpuset partition (isolated), since this kernel has none";
    match cgroup_file("/", "cpuset.cpus.isolated").exists() {
        true => assert_eq!(kind, "isolated"),
        false => assert!(kind.is_null() && said.contains(lacks), "{kind} {said}"),
    }
}
