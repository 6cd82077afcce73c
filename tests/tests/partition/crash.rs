//! The hook killed at, or failed by, every system call that changes anything: nothing stays that
//! refuses the next container its CPUs.

use kcm_tests::alone::{alone, aside, others_have, partition};
use kcm_tests::conf_dir::ConfDir;
use kcm_tests::crash::{
    Moment, recovers_from_a_kill_at_every_point, survives_an_error_at_every_point,
};
use kcm_tests::hook::{HookCall, Ran};
use kcm_tests::stand_in::{StandIn, new_id};

/// A container that is about to be given its CPUs, or to give them back.
struct Start {
    conf: ConfDir,
    container: StandIn,
    call: HookCall,
}

/// Above all stand-ins.
fn above(container: &StandIn) -> String {
    container.cgroup().path().rsplit_once('/').unwrap().0.to_owned()
}

impl Start {
    fn create() -> Self {
        let conf = ConfDir::new(&[("p", true, &["2-3"])]);
        std::fs::write(conf.path().join("pools/p/partition"), "root").unwrap();
        let container = StandIn::new(&new_id("c"));
        let call = HookCall::create(conf.path(), &container, "p");
        Self { conf, container, call }
    }

    fn poststop() -> Self {
        let Self { conf, mut container, call } = Self::create();
        call.run().must_succeed();
        container.kill();
        let call = HookCall::poststop(conf.path(), container.id());
        Self { conf, container, call }
    }
}

impl Moment for Start {
    type Program = HookCall;

    fn program(&self) -> &HookCall {
        &self.call
    }

    fn conf_dir(&self) -> &ConfDir {
        &self.conf
    }

    fn kernel(&self) -> String {
        let path = self.container.cgroup().path();
        format!(
            "{} {} {}",
            self.container.cgroup().cpus(),
            aside(&path),
            aside(&above(&self.container))
        )
    }

    fn status(&self) -> i32 {
        0
    }

    fn has_given_up(&self, ran: &Ran) -> bool {
        if ran.succeeded() && self.container.is_alive() {
            assert_eq!(self.container.allowed_cpus(), "2-3");
            let is_alone = partition(&self.container.cgroup().path()) == "root";
            let is_told = ran.stderr.contains("others may run on CPUs 2-3");
            assert!(is_alone != is_told, "{}", ran.stderr);
        }
        !ran.succeeded()
    }

    fn is_named(&self, said: &str) -> bool {
        said.contains(&self.container.cgroup().path())
            || said.contains(&format!("thread {}", self.container.pid()))
    }

    /// Whatever was killed, its cgroup stays for a while, with nobody in it, and so does that of one that
    /// has ended. That of a start that was refused the runtime removes.
    fn must_recover(self) {
        let Self { conf, mut container, .. } = self;
        let is_refused = container.is_alive() && conf.record(container.id()).is_none();
        container.kill();
        let _left = (!is_refused).then_some(container);
        let next = StandIn::new(&new_id("next"));
        let ran = HookCall::create(conf.path(), &next, "p").run().must_succeed();
        assert_eq!(partition(&next.cgroup().path()), "root", "{}", ran.stderr);
        assert!(!others_have("2"));
        assert_eq!(aside(&above(&next)), "2-3");
        let (id, above) = (next.id().to_owned(), above(&next));
        drop(next);
        HookCall::poststop(conf.path(), &id).run().must_succeed();
        assert_eq!(aside(&above), "");
        assert!(others_have("2-3"));
    }
}

#[test]
fn a_hook_killed_in_taking_a_partition_leaves_nothing_in_the_next_ones_way() {
    let _alone = alone();
    recovers_from_a_kill_at_every_point("a partition", Start::create);
}

#[test]
fn a_hook_that_meets_an_error_in_taking_a_partition_says_that_there_is_none() {
    let _alone = alone();
    survives_an_error_at_every_point("a partition", Start::create);
}

#[test]
fn a_hook_killed_in_giving_a_partition_back_leaves_nothing_in_the_next_ones_way() {
    let _alone = alone();
    recovers_from_a_kill_at_every_point("a partition's end", Start::poststop);
}

#[test]
fn a_hook_that_meets_an_error_in_giving_a_partition_back_leaves_nothing_either() {
    let _alone = alone();
    survives_an_error_at_every_point("a partition's end", Start::poststop);
}
