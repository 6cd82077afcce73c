//! `kcm reconcile` killed at, or failed by, every system call that changes anything: no sampling.
//! After each the living have what they had, and another reconcile does the rest.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods, missing_docs)]

use std::fs;
use std::process::Command;

use kcm_tests::audit::{free, held_by, holders};
use kcm_tests::conf_dir::ConfDir;
use kcm_tests::crash::{
    Moment, recovers_from_a_kill_at_every_point, survives_an_error_at_every_point,
};
use kcm_tests::hook::{HookCall, Ran};
use kcm_tests::isolate::Isolate;
use kcm_tests::kcm::reconcile;
use kcm_tests::machine::cgroup_file;
use kcm_tests::programs::program;
use kcm_tests::stand_in::{StandIn, new_id};

const NOTHING: &str = "{\n  \"mismatchedCpuMasks\": [],\n  \"reclaimedCpuLists\": []\n}\n";

/// No process ever has this PID: it is past the kernel's limit (PID_MAX_LIMIT, 4,194,304).
const NOBODY: &str = "4194999";

/// A moment before `kcm reconcile --repair`.
struct Before {
    conf_dir: ConfDir,
    reconcile: Isolate,
    /// Alive throughout, and its list.
    container: StandIn,
    list: String,
}

impl Before {
    fn reconcile(conf_dir: ConfDir, container: StandIn) -> Self {
        let flag = format!("--conf-dir={}", conf_dir.path().display());
        let words = [program("kcm").into_os_string(), "reconcile".into(), "--repair".into()];
        let reconcile = Isolate::of(words).words([flag]);
        let [list] = &held_by(&holders(&conf_dir, "p"), container.pid())[..] else { panic!() };
        let list = list.clone();
        Self { conf_dir, reconcile, container, list }
    }

    /// Dead containers, one of which held two lists, a dead PID with no record, a record whose PID
    /// is nowhere, and what a killed writer has left.
    fn the_dead() -> Self {
        let conf_dir = ConfDir::new(&[("p", true, &["0", "1", "0-1", "1,0"])]);
        let [mut two, mut one] = [StandIn::new(&new_id("two")), StandIn::new(&new_id("one"))];
        HookCall::create_cores(conf_dir.path(), &two, "p", 2).run().must_succeed();
        let alive = container();
        HookCall::create(conf_dir.path(), &alive, "p").run().must_succeed();
        HookCall::create(conf_dir.path(), &one, "p").run().must_succeed();
        let list = held_by(&holders(&conf_dir, "p"), one.pid()).remove(0);
        fs::write(conf_dir.tasks_path("p", &list), NOBODY).unwrap();
        two.kill();
        one.kill();
        for name in [".tmp-0", ".tmp-2"] {
            fs::write(conf_dir.path().join("allocations").join(name), "4711").unwrap();
        }
        Self::reconcile(conf_dir, alive)
    }

    /// A container that is no longer on its CPUs, and a dead PID.
    fn a_drifted_container() -> Self {
        let conf_dir = ConfDir::new(&[("p", true, &["0", "1"])]);
        let drifted = container();
        HookCall::create(conf_dir.path(), &drifted, "p").run().must_succeed();
        let cpus = cgroup_file(&drifted.cgroup().path(), "cpuset.cpus");
        fs::write(cpus, "0-1").unwrap();
        fs::write(conf_dir.tasks_path("p", "1"), NOBODY).unwrap();
        Self::reconcile(conf_dir, drifted)
    }
}

fn container() -> StandIn {
    StandIn::in_own_namespaces(&new_id("alive"), Command::new("sleep").arg("600"))
}

impl Moment for Before {
    type Program = Isolate;

    fn program(&self) -> &Isolate {
        &self.reconcile
    }

    fn conf_dir(&self) -> &ConfDir {
        &self.conf_dir
    }

    fn kernel(&self) -> String {
        self.container.cgroup().cpus()
    }

    fn status(&self) -> i32 {
        0
    }

    fn has_given_up(&self, ran: &Ran) -> bool {
        match ran.status.code() {
            Some(0) => {}
            Some(1) => assert!(ran.stderr.contains("ERROR "), "{}", ran.stderr),
            _ => panic!("{}: {}", ran.status, ran.stderr),
        }
        !ran.succeeded()
    }

    fn is_named(&self, said: &str) -> bool {
        said.contains(&self.container.cgroup().path())
    }

    /// The living has its list, and in the end its CPUs; all else is free, in the files, too.
    fn must_recover(self) {
        let pid = self.container.pid();
        assert_eq!(held_by(&holders(&self.conf_dir, "p"), pid), [self.list.as_str()]);
        reconcile(&self.conf_dir, &["--repair"]);
        let again = reconcile(&self.conf_dir, &["--repair"]).succeeded();
        assert_eq!(again.out, NOTHING, "{again:?}");
        let after = holders(&self.conf_dir, "p");
        assert_eq!(held_by(&after, pid), [self.list.as_str()]);
        assert_eq!(free(&after), after.len() - 1);
        for list in after.keys().filter(|list| **list != self.list) {
            assert_eq!(self.conf_dir.tasks("p", list), "", "{list}");
        }
        assert_eq!(self.conf_dir.allocations(), [format!("{}.json", self.container.id())]);
        let cpus = self.conf_dir.record(self.container.id()).unwrap()["cpus"].clone();
        assert_eq!(self.container.cgroup().cpus(), cpus);
        assert_eq!(self.container.allowed_cpus(), cpus);
    }
}

#[test]
fn a_reconcile_killed_in_reclaiming_the_dead_loses_and_shares_no_list() {
    recovers_from_a_kill_at_every_point("the dead", Before::the_dead);
}

#[test]
fn a_reconcile_that_meets_an_error_in_reclaiming_the_dead_survives_it() {
    survives_an_error_at_every_point("the dead", Before::the_dead);
}

#[test]
fn a_reconcile_killed_in_repairing_a_container_leaves_it_its_list_and_the_next_repairs_it() {
    recovers_from_a_kill_at_every_point("a drifted container", Before::a_drifted_container);
}

#[test]
fn a_reconcile_that_meets_an_error_in_repairing_a_container_survives_it() {
    survives_an_error_at_every_point("a drifted container", Before::a_drifted_container);
}
