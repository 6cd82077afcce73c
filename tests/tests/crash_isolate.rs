//! `kcm isolate` killed at, or failed by, every system call that changes anything: no sampling.
//! After each, nobody shares an exclusive list, none is lost, and no command has run elsewhere than
//! on the CPUs that it was told.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods, missing_docs)]

use std::fs;
use std::path::Path;

use kcm_tests::audit::{free, held_by, holders};
use kcm_tests::conf_dir::ConfDir;
use kcm_tests::crash::{
    Moment, recovers_from_a_kill_at_every_point, survives_an_error_at_every_point,
};
use kcm_tests::hook::{HookCall, Ran};
use kcm_tests::isolate::Isolate;
use kcm_tests::kcm::reconcile;
use kcm_tests::machine::until;
use kcm_tests::own_place::OwnPlace;
use kcm_tests::stand_in::{StandIn, new_id};
use kcm_tests::strace::Trace;

/// Says which CPUs it has been told of, and which it may use, into the directory's folder.
const COMMAND: &str = "set -- $(grep Cpus_allowed_list: /proc/self/status)
echo \"$KCM_CPUS_ASSIGNED $2\" >\"$SAID\"; exit 7";

/// A moment before `kcm isolate`.
struct Before {
    conf_dir: ConfDir,
    isolate: Isolate,
    status: i32,
    /// Alive throughout.
    holder: Option<StandIn>,
}

impl Before {
    fn isolate(conf_dir: ConfDir, cores: usize) -> Self {
        let said = conf_dir.path().with_file_name("said");
        let isolate = Isolate::new(&conf_dir, "p", &[&format!("--cores={cores}")]);
        let isolate = isolate.script(COMMAND).env("SAID", said);
        Self { conf_dir, isolate, status: 7, holder: None }
    }

    /// The first that is isolated in a directory that the original kcm made.
    fn the_first() -> Self {
        Self::isolate(pool(&["0", "1"]), 1)
    }

    /// Two lists at once, beside one that a container holds, with an earlier crash's files about.
    fn two_cores() -> Self {
        let conf_dir = pool(&["0", "1", "0-1"]);
        let holder = StandIn::new(&new_id("beside"));
        HookCall::create(conf_dir.path(), &holder, "p").run().must_succeed();
        for name in [".tmp-0", ".tmp-1", ".tmp-7"] {
            fs::write(conf_dir.path().join("allocations").join(name), "4711").unwrap();
        }
        Self { holder: Some(holder), ..Self::isolate(conf_dir, 2) }
    }

    /// No list is free until the dead are reclaimed.
    fn reclaiming_the_dead() -> Self {
        let conf_dir = pool(&["0", "1"]);
        let mut dead = Isolate::new(&conf_dir, "p", &[]).script("exec sleep 600").start();
        until("an isolate to hold a list", || {
            conf_dir.record(&dead.owner()).is_some().then_some(())
        });
        dead.kill();
        nobody_has_it_open(&conf_dir);
        let mut container = StandIn::new(&new_id("dead"));
        HookCall::create(conf_dir.path(), &container, "p").run().must_succeed();
        container.kill();
        Self::isolate(conf_dir, 1)
    }

    /// A command that is not there: what it was given is given back.
    fn a_command_that_is_not_found() -> Self {
        let conf_dir = pool(&["0", "1"]);
        let isolate = Isolate::new(&conf_dir, "p", &["--cores=2", "/nonexistent/command"]);
        Self { conf_dir, isolate, status: 127, holder: None }
    }

    /// What the command has said; none where it has not run.
    fn said(&self) -> Option<String> {
        fs::read_to_string(self.conf_dir.path().with_file_name("said")).ok()
    }
}

fn pool(lists: &[&str]) -> ConfDir {
    ConfDir::new(&[("p", true, lists)])
}

/// Waits until no process has a file or folder of the directory open, as all have that an isolate
/// has started.
fn nobody_has_it_open(conf_dir: &ConfDir) {
    let path = conf_dir.path();
    OwnPlace::is_empty();
    until("what a killed isolate has started to end", || {
        let processes = fs::read_dir("/proc").unwrap().flatten();
        let mut files = processes.filter_map(|entry| fs::read_dir(entry.path().join("fd")).ok());
        let is_open = |file: &Path| fs::read_link(file).is_ok_and(|file| file.starts_with(path));
        let is_anyones = files.any(|files| files.flatten().any(|file| is_open(&file.path())));
        (!is_anyones).then_some(())
    });
}

impl Moment for Before {
    type Program = Isolate;

    fn program(&self) -> &Isolate {
        &self.isolate
    }

    fn conf_dir(&self) -> &ConfDir {
        &self.conf_dir
    }

    fn kernel(&self) -> String {
        self.holder.as_ref().map(StandIn::allowed_cpus).unwrap_or_default()
    }

    fn status(&self) -> i32 {
        self.status
    }

    fn has_given_up(&self, ran: &Ran) -> bool {
        let has_run = self.said().is_some();
        match ran.status.code() {
            Some(code) if code == self.status => assert_eq!(has_run, code == 7, "{}", ran.stderr),
            Some(125) => assert!(!has_run, "it has run after all: {}", ran.stderr),
            _ => panic!("{}: {}", ran.status, ran.stderr),
        }
        ran.status.code() == Some(125)
    }

    fn is_named(&self, said: &str) -> bool {
        [
            "cannot bind the command to its CPUs",
            "cannot start a process",
            "/sys/fs/cgroup/",
            "signals",
            "CPUs may be used",
        ]
        .iter()
        .any(|part| said.contains(part))
    }

    /// The next one gets a free list, and once all are dead every list is given again.
    fn must_recover(mut self) {
        nobody_has_it_open(&self.conf_dir);
        if let Some(said) = self.said() {
            let (told, allowed) = said.trim().split_once(' ').unwrap();
            assert_eq!(told, allowed, "a command ran on other CPUs than it was told");
        }
        let before = holders(&self.conf_dir, "p");
        if let Some(holder) = &self.holder {
            assert_eq!(held_by(&before, holder.pid()).len(), 1, "a container lost its list");
            assert_eq!(free(&before), 2);
        } else {
            assert_eq!(free(&before), before.len());
        }
        let script = "echo $KCM_CPUS_ASSIGNED";
        let next = Isolate::new(&self.conf_dir, "p", &[]).script(script).run().succeeded();
        assert_eq!(next.out.lines().count(), 1);
        if let Some(holder) = &mut self.holder {
            holder.kill();
        }
        let all: Vec<StandIn> = before.keys().map(|_| StandIn::new(&new_id("fill"))).collect();
        for container in &all {
            HookCall::create(self.conf_dir.path(), container, "p").run().must_succeed();
        }
        assert_eq!(free(&holders(&self.conf_dir, "p")), 0);
        let names = self.conf_dir.allocations();
        assert!(!names.iter().any(|name| name.starts_with(".tmp-")), "{names:?}");
        // A record may be left that says of nobody that he holds something.
        reconcile(&self.conf_dir, &[]).succeeded();
        let names = self.conf_dir.allocations();
        assert!(names.iter().all(|name| name.starts_with("fill-")), "{names:?}");
    }
}

#[test]
fn a_command_lives_no_longer_than_a_killed_kcm() {
    let _place = OwnPlace::enter();
    let before = Before::the_first();
    // At the first system call after its start that changes anything: the one that gives back.
    let undisturbed = Trace::of(before.program(), &[]);
    let names: Vec<&str> = undisturbed.calls.iter().map(|call| call.name.as_str()).collect();
    let start = names.iter().position(|name| name.starts_with("clone")).unwrap();
    let flock = names[start..].iter().position(|&name| name == "flock");
    let nth = undisturbed.calls[start + flock.unwrap()].nth;

    let before = Before::the_first();
    let trace = Trace::of(before.program(), &[&format!("flock:signal=SIGKILL:when={nth}")]);
    assert!(trace.ran.was_killed() && before.said().is_some());
    before.must_recover();
}

#[test]
fn an_isolate_killed_in_the_first_allocation_loses_and_shares_no_list() {
    let _place = OwnPlace::enter();
    recovers_from_a_kill_at_every_point("the first isolate", Before::the_first);
}

#[test]
fn an_isolate_that_meets_an_error_in_the_first_allocation_survives_it() {
    let _place = OwnPlace::enter();
    survives_an_error_at_every_point("the first isolate", Before::the_first);
}

#[test]
fn an_isolate_killed_in_taking_two_cores_loses_and_shares_no_list() {
    let _place = OwnPlace::enter();
    recovers_from_a_kill_at_every_point("two cores", Before::two_cores);
}

#[test]
fn an_isolate_that_meets_an_error_in_taking_two_cores_survives_it() {
    let _place = OwnPlace::enter();
    survives_an_error_at_every_point("two cores", Before::two_cores);
}

#[test]
fn an_isolate_killed_in_reclaiming_the_dead_loses_and_shares_no_list() {
    let _place = OwnPlace::enter();
    recovers_from_a_kill_at_every_point("reclaiming the dead", Before::reclaiming_the_dead);
}

#[test]
fn an_isolate_that_meets_an_error_in_reclaiming_the_dead_survives_it() {
    let _place = OwnPlace::enter();
    survives_an_error_at_every_point("reclaiming the dead", Before::reclaiming_the_dead);
}

#[test]
fn an_isolate_killed_around_a_command_that_is_not_found_loses_and_shares_no_list() {
    let _place = OwnPlace::enter();
    recovers_from_a_kill_at_every_point("not found", Before::a_command_that_is_not_found);
}

#[test]
fn an_isolate_that_meets_an_error_around_a_command_that_is_not_found_survives_it() {
    let _place = OwnPlace::enter();
    survives_an_error_at_every_point("not found", Before::a_command_that_is_not_found);
}
