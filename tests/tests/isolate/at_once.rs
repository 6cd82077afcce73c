//! Many isolates at once: as many run as there are lists, the others are refused.

use std::collections::BTreeSet;

use kcm_tests::audit::{held_by, holders};
use kcm_tests::conf_dir::ConfDir;
use kcm_tests::isolate::{
    Gate, Isolate, Running, must_be_free, must_be_refused, nothing_must_be_held,
};
use kcm_tests::machine::until;

/// Eight exclusive lists on two CPUs: the spelling is the identity.
const LISTS: [&str; 8] = ["0", "1", "0-1", "00", "01", "0,1", "1,0", "0-0"];
const AT_ONCE: usize = 40;

/// Starts isolates that wait until all are there, and then for `end` if they get a list. Gives
/// those that run once the others have been refused.
fn race(conf_dir: &ConfDir, cores: usize, end: &Gate) -> Vec<Running> {
    let begin = Gate::new();
    let flag = format!("--cores={cores}");
    let wait = format!("{}; exec \"$@\"", begin.wait());
    let script = format!("echo up; {}; exit 9", end.wait());
    let isolate = Isolate::new(conf_dir, "p", &[&flag]).script(&script);
    let isolate = isolate.under(["/bin/sh", "-c", &wait, "sh"]);
    let mut all: Vec<Running> = (0..AT_ONCE).map(|_| isolate.start()).collect();
    begin.open();
    let winners = LISTS.len() / cores;
    until("the others to be refused", || {
        let running = all.iter_mut().filter_map(|isolate| isolate.is_running().then_some(()));
        (running.count() <= winners).then_some(())
    });
    let (running, ended): (Vec<_>, Vec<_>) =
        all.into_iter().partition(|isolate| isolate.err().is_empty());
    assert_eq!((running.len(), ended.len()), (winners, AT_ONCE - winners));
    for isolate in ended {
        must_be_refused(&isolate.finish(), &["No free cpu lists in pool p"]);
    }
    running
}

#[test]
fn of_40_isolates_at_once_as_many_run_as_there_are_lists() {
    let conf_dir = ConfDir::new(&[("p", true, &LISTS)]);
    for cores in [1, 2, 8] {
        let end = Gate::new();
        let running = race(&conf_dir, cores, &end);
        let (holders, mut given) = (holders(&conf_dir, "p"), BTreeSet::new());
        for isolate in &running {
            let lists = held_by(&holders, isolate.pid());
            assert_eq!(lists.len(), cores, "{holders:?}");
            given.extend(lists);
        }
        assert_eq!(given.len(), LISTS.len(), "{holders:?}");
        assert_eq!(conf_dir.allocations().len(), running.len());
        println!("{AT_ONCE} at once, {cores} each: {} ran", running.len());
        end.open();
        for isolate in running {
            let outcome = isolate.finish();
            assert_eq!((outcome.code, &*outcome.out, &*outcome.err), (Some(9), "up\n", ""));
        }
        nothing_must_be_held(&conf_dir);
    }
}

#[test]
fn of_40_isolates_that_are_killed_at_once_every_list_comes_back() {
    let conf_dir = ConfDir::new(&[("p", true, &LISTS)]);
    let end = Gate::new();
    for mut isolate in race(&conf_dir, 2, &end) {
        isolate.kill();
    }
    end.open();
    // The lists are held until the commands are gone, too.
    until("all lists to be free", || {
        let all = Isolate::new(&conf_dir, "p", &["--cores=8", "true"]).run();
        (all.code == Some(0)).then_some(())
    });
    must_be_free(&conf_dir);
}
