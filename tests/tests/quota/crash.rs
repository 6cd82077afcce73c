//! The hook killed at, or failed by, every system call that changes anything: the pod's quota comes back.

use kcm_tests::conf_dir::ConfDir;
use kcm_tests::crash::{
    Moment, recovers_from_a_kill_at_every_point, survives_an_error_at_every_point,
};
use kcm_tests::hook::{HookCall, Ran};
use kcm_tests::kcm::reconcile;
use kcm_tests::machine::two_cpus;
use kcm_tests::stand_in::new_id;

use super::{InPod, Pod, alone};

/// A container in a pod with a quota that is about to be given CPUs, or to give them back.
struct Start {
    conf: ConfDir,
    call: HookCall,
    // Before its pod.
    container: InPod,
    pod: Pod,
}

impl Start {
    fn create() -> Self {
        let [cpu, _] = two_cpus();
        let conf = ConfDir::new(&[("p", true, &[&cpu])]);
        std::fs::write(conf.path().join("pools/p/partition"), "none").unwrap();
        let pod = Pod::new("150000");
        let container = pod.container(&new_id("c"));
        let call = HookCall::create(conf.path(), &container.stand_in, "p");
        Self { conf, call, container, pod }
    }

    fn poststop() -> Self {
        let Self { conf, call, container, pod } = Self::create();
        call.run().must_succeed();
        container.end();
        let call = HookCall::poststop(conf.path(), container.stand_in.id());
        Self { conf, call, container, pod }
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
        self.pod.quota()
    }

    fn status(&self) -> i32 {
        0
    }

    fn has_given_up(&self, ran: &Ran) -> bool {
        if ran.succeeded() && self.container.stand_in.is_alive() {
            let is_lifted = self.pod.quota() == "max 100000";
            let is_told = ran.stderr.contains("may be throttled by a CFS quota");
            assert!(is_lifted != is_told, "{}", ran.stderr);
        }
        !ran.succeeded()
    }

    fn is_named(&self, said: &str) -> bool {
        said.contains(&self.container.cgroup)
            || said.contains(&format!("thread {}", self.container.stand_in.pid()))
    }

    fn must_recover(self) {
        self.container.end();
        let id = self.container.stand_in.id();
        HookCall::poststop(self.conf.path(), id).run().must_succeed();
        reconcile(&self.conf, &[]).succeeded();
        assert_eq!(self.pod.quota(), "150000 100000");
        let next = self.pod.container(&new_id("next"));
        HookCall::create(self.conf.path(), &next.stand_in, "p").run().must_succeed();
        assert_eq!(self.pod.quota(), "max 100000");
        next.end();
        HookCall::poststop(self.conf.path(), next.stand_in.id()).run().must_succeed();
        assert_eq!(self.pod.quota(), "150000 100000");
    }
}

#[test]
fn a_hook_killed_in_lifting_a_quota_leaves_what_puts_it_back() {
    let _alone = alone();
    recovers_from_a_kill_at_every_point("a pod's quota", Start::create);
}

#[test]
fn a_hook_that_meets_an_error_in_lifting_a_quota_says_that_it_did_not() {
    let _alone = alone();
    survives_an_error_at_every_point("a pod's quota", Start::create);
}

#[test]
fn a_hook_killed_in_putting_a_quota_back_leaves_it_to_the_next() {
    let _alone = alone();
    recovers_from_a_kill_at_every_point("a pod's quota put back", Start::poststop);
}

#[test]
fn a_hook_that_meets_an_error_in_putting_a_quota_back_leaves_it_to_the_next_too() {
    let _alone = alone();
    survives_an_error_at_every_point("a pod's quota put back", Start::poststop);
}
