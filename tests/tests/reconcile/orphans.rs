//! Halves of an allocation: a record of which `tasks` knows nothing, PIDs of which no record tells,
//! and what a writer that died has left.

use std::fs;
use std::os::unix::fs::MetadataExt;

use kcm_tests::conf_dir::ConfDir;
use kcm_tests::hook::HookCall;
use kcm_tests::kcm::Outcome;
use kcm_tests::stand_in::StandIn;
use kcm_tests::strace::Trace;

use super::document::{NOTHING, document, must_print, must_reclaim, repaired};
use super::holders::{Process, container, drift, give, holder, pool, write_tasks};

/// What the names of these containers' records are.
fn records(of: &[&StandIn]) -> Vec<String> {
    let mut names: Vec<String> = of.iter().map(|owner| format!("{}.json", owner.id())).collect();
    names.sort();
    names
}

/// Fails the test unless nothing is printed, and one warning names this owner.
#[track_caller]
fn must_warn_of(conf: &ConfDir, owner: &StandIn) -> Outcome {
    let outcome = must_print(conf, &[], NOTHING);
    let warnings = outcome.lines("WARNING");
    assert!(warnings.len() == 1 && warnings[0].contains(owner.id()), "{outcome:?}");
    let after = conf.snapshot();
    assert_eq!(must_print(conf, &[], NOTHING).lines("WARNING"), [""; 0]);
    assert_eq!(conf.snapshot(), after, "the second run found something to write");
    outcome
}

#[test]
fn a_dead_holders_record_that_no_tasks_knows_of_is_removed() {
    let conf = pool(&["0", "1"]);
    let alive = holder(&conf, "alive");
    let mut dead = holder(&conf, "dead");
    write_tasks(&conf, "p", "1", &[]);
    dead.kill();
    must_warn_of(&conf, &dead);
    assert_eq!(conf.allocations(), records(&[&alive]));
    assert_eq!((conf.tasks("p", "0"), conf.tasks("p", "1")), (alive.pid().to_string(), "".into()));
}

#[test]
fn a_live_holder_that_runs_on_its_cpus_is_put_back() {
    let conf = pool(&["0", "1"]);
    let alive = holder(&conf, "put-back");
    let before = conf.snapshot();
    write_tasks(&conf, "p", "0", &[]);
    must_warn_of(&conf, &alive);
    assert_eq!(conf.snapshot(), before);
}

#[test]
fn a_live_holder_of_several_lists_is_put_back_into_each() {
    let conf = pool(&["0", "1"]);
    let alive = container("put-back");
    give(&conf, &alive, 2);
    let before = conf.snapshot();
    for list in ["0", "1"] {
        write_tasks(&conf, "p", list, &[]);
    }
    let outcome = must_print(&conf, &[], NOTHING);
    let warnings = outcome.lines("WARNING");
    assert!(warnings.iter().all(|line| line.contains(alive.id())) && warnings.len() == 2);
    assert_eq!(conf.snapshot(), before);
}

/// A container whose hook died when it had written the record, and not yet `tasks`.
fn half_allocated(conf: &ConfDir) -> StandIn {
    let container = container("half");
    let call = HookCall::create(conf.path(), &container, "p");
    // The first is that of the boot, then come record and index.
    let trace = Trace::of(&call, &["renameat:signal=SIGKILL:when=4"]);
    assert!(trace.ran.was_killed() && trace.count("renameat") == 4, "{}", trace.ran.stderr);
    assert_eq!((conf.tasks("p", "0"), conf.tasks("p", "1")), (String::new(), String::new()));
    let names = [".tmp-0".to_owned(), format!("{}.json", container.id())];
    assert_eq!(conf.allocations(), names);
    container
}

#[test]
fn a_live_container_that_never_came_to_its_cpus_has_no_record_any_more() {
    let conf = pool(&["0", "1"]);
    let half = half_allocated(&conf);
    assert_ne!(half.allowed_cpus(), "0");
    must_warn_of(&conf, &half);
    assert_eq!((conf.tasks("p", "0"), conf.allocations()), (String::new(), vec![]));
    give(&conf, &half, 1);
    assert_eq!(conf.tasks("p", "0"), half.pid().to_string());
}

#[test]
fn a_live_container_on_other_cpus_than_those_of_its_record_is_not_put_back() {
    for (held, recorded) in [("0", "1"), ("0", "0-1"), ("0-1", "0")] {
        let conf = pool(&[held]);
        let other = holder(&conf, "other");
        fs::rename(
            conf.path().join("pools/p").join(held),
            conf.path().join("pools/p").join(recorded),
        )
        .unwrap();
        write_tasks(&conf, "p", recorded, &[]);
        let lists = serde_json::json!([recorded]);
        conf.edit(other.id(), &[("cpuLists", lists), ("cpus", recorded.into())]);
        must_warn_of(&conf, &other);
        assert_eq!((conf.tasks("p", recorded), conf.allocations()), (String::new(), vec![]));
    }
}

#[test]
fn that_a_cgroup_is_to_be_a_partition_is_written_anew_with_its_record() {
    let conf = pool(&["0"]);
    let lost = holder(&conf, "parted");
    conf.edit(lost.id(), &[("partition", "root".into())]);
    let before = fs::read(conf.index_path("p", "0")).unwrap();
    fs::remove_file(conf.record_path(lost.id())).unwrap();
    must_print(&conf, &[], NOTHING);
    assert_eq!(conf.record(lost.id()).unwrap()["partition"], "root");
    assert_eq!(fs::read(conf.index_path("p", "0")).unwrap().len(), before.len());
    // A word of a later kcm's is none of ours, and the record holds all the same.
    conf.edit(lost.id(), &[("partition", "shared".into())]);
    HookCall::create(conf.path(), &container("other"), "p").run().must_refuse(&["1 of 1 are held"]);
}

#[test]
fn a_record_that_was_removed_is_written_anew_of_its_index_or_of_its_cgroups_mark() {
    for without_index in [false, true] {
        let conf = pool(&["0", "1"]);
        let lost = container("lost");
        give(&conf, &lost, 2);
        let mut said = conf.record(lost.id()).unwrap();
        fs::remove_file(conf.record_path(lost.id())).unwrap();
        if without_index {
            for list in ["0", "1"] {
                fs::remove_file(conf.index_path("p", list)).unwrap();
            }
        }
        must_print(&conf, &[], NOTHING);
        let mut again = conf.record(lost.id()).unwrap();
        for record in [&mut said, &mut again] {
            record.as_object_mut().unwrap().remove("createdAt").unwrap();
        }
        assert_eq!(again, said);
        for list in ["0", "1"] {
            let [index, record] = [conf.index_path("p", list), conf.record_path(lost.id())];
            assert_eq!(fs::read(&index).unwrap(), fs::read(&record).unwrap());
            // No harm to one is done to the other.
            let ino = |path| fs::metadata(path).unwrap().ino();
            assert_ne!(ino(index), ino(record));
        }
        drift(&lost, "0");
        must_print(
            &conf,
            &["--repair"],
            &document(&["0", "1"].map(|list| repaired("p", list, lost.pid(), &[0], true)), &[]),
        );
        assert_eq!(lost.cgroup().cpus(), "0-1");
    }
}

#[test]
fn a_live_pid_without_a_record_stays_and_a_dead_one_goes() {
    let conf = pool(&["0", "1", "0-1"]);
    let alive = Process::sleeping();
    write_tasks(&conf, "p", "0", &[alive.pid()]);
    let dead = Process::sleeping().end();
    write_tasks(&conf, "p", "0-1", &[dead]);
    must_reclaim(&conf, &[("p", "0-1", dead)]);
    assert_eq!(conf.tasks("p", "0"), alive.pid().to_string());
    assert_eq!(conf.tasks("p", "0-1"), "");
}

#[test]
fn what_a_dead_writer_left_is_removed_by_every_reconcile() {
    let conf = pool(&["0"]);
    let _holder = holder(&conf, "writer");
    let before = conf.snapshot();
    for names in [&[".tmp-0", ".tmp-3"][..], &[".tmp-3"], &[".tmp-0"], &[".tmp-12"]] {
        for name in names {
            fs::write(conf.path().join("allocations").join(name), "4711").unwrap();
        }
        must_print(&conf, &[], NOTHING);
        assert_eq!(conf.snapshot(), before, "{names:?}");
    }
}
