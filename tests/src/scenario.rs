//! What a hook may be in the midst of when it is killed, or when a system call fails: each is a
//! configuration directory, containers, and the one call that is disturbed.

use crate::audit::{self, free, held_by, holders};
use crate::conf_dir::ConfDir;
use crate::crash::Moment;
use crate::hook::{HookCall, Ran};
use crate::stand_in::{StandIn, new_id};

const POOL: &str = "p";

/// A moment before a call, made anew for each way to disturb it.
#[derive(Debug)]
pub struct Scenario {
    /// Its configuration directory.
    pub conf_dir: ConfDir,
    /// The container that the call is for.
    pub container: StandIn,
    /// The call.
    pub call: HookCall,
    /// A fault that the call meets anyway, as strace's `inject` has it.
    pub fault: Option<&'static str>,
    /// How the undisturbed call ends.
    pub status: i32,
}

fn new_pool(lists: &[&str]) -> ConfDir {
    ConfDir::new(&[(POOL, true, lists)])
}

/// A container that holds CPU lists and dies untold. Its cgroup is gone, too.
fn dead_holder(conf_dir: &ConfDir, cores: usize) -> String {
    let container = StandIn::new(&new_id("dead"));
    HookCall::create_cores(conf_dir.path(), &container, POOL, cores).run().must_succeed();
    container.id().to_owned()
}

impl Scenario {
    fn create(conf_dir: ConfDir, cores: usize) -> Self {
        let container = StandIn::new(&new_id("c"));
        let call = HookCall::create_cores(conf_dir.path(), &container, POOL, cores);
        Self { conf_dir, container, call, fault: None, status: 0 }
    }

    /// The first allocation in a directory that the original kcm made.
    pub fn the_first_allocation() -> Self {
        Self::create(new_pool(&["0", "1"]), 1)
    }

    /// A free list beside a held one.
    pub fn a_free_list() -> Self {
        let conf_dir = new_pool(&["0", "1", "0-1"]);
        dead_holder(&conf_dir, 1);
        Self::create(conf_dir, 1)
    }

    /// No list is free until two dead holders are reclaimed.
    pub fn reclaiming_the_dead() -> Self {
        let conf_dir = new_pool(&["0", "1", "0-1"]);
        dead_holder(&conf_dir, 2);
        dead_holder(&conf_dir, 1);
        Self::create(conf_dir, 1)
    }

    /// The container was restarted under the same id.
    pub fn a_restart_under_the_same_id() -> Self {
        let conf_dir = new_pool(&["0", "1"]);
        let container = StandIn::new(&dead_holder(&conf_dir, 2));
        let call = HookCall::create(conf_dir.path(), &container, POOL);
        Self { conf_dir, container, call, fault: None, status: 0 }
    }

    /// Two lists at once.
    pub fn two_cores() -> Self {
        Self::create(new_pool(&["0", "1", "0-1"]), 2)
    }

    /// Two lists at once, of which one must be reclaimed, with an earlier crash's files in the way.
    pub fn leftovers_of_a_crash() -> Self {
        let conf_dir = new_pool(&["0", "1"]);
        dead_holder(&conf_dir, 1);
        for name in [".tmp-0", ".tmp-1", ".tmp-7"] {
            let path = conf_dir.path().join("allocations").join(name);
            std::fs::write(path, "4711").unwrap();
        }
        Self::create(conf_dir, 2)
    }

    /// The container cannot be pinned, and what it was given is given back.
    pub fn a_rollback() -> Self {
        let fault = Some("sched_setaffinity:error=EPERM");
        Self { fault, status: 1, ..Self::create(new_pool(&["0", "1"]), 2) }
    }

    /// A container that held two lists has ended.
    pub fn poststop() -> Self {
        let conf_dir = new_pool(&["0", "1"]);
        let mut container = StandIn::new(&new_id("c"));
        HookCall::create_cores(conf_dir.path(), &container, POOL, 2).run().must_succeed();
        container.kill();
        let call = HookCall::poststop(conf_dir.path(), container.id());
        Self { conf_dir, container, call, fault: None, status: 0 }
    }

    /// Fails the test unless the container runs on the CPUs of the lists that it holds.
    #[track_caller]
    pub fn must_be_pinned(&self) {
        let held = held_by(&holders(&self.conf_dir, POOL), self.container.pid());
        let mut cpus: Vec<u32> = Vec::new();
        for list in &held {
            cpus.extend(if list == "0-1" { vec![0, 1] } else { vec![list.parse().unwrap()] });
        }
        cpus.sort_unstable();
        cpus.dedup();
        let expected = match cpus[..] {
            [0] => "0",
            [1] => "1",
            [0, 1] => "0-1",
            _ => panic!("{held:?}"),
        };
        assert_eq!(self.container.cgroup().cpus(), expected);
        assert_eq!(self.container.allowed_cpus(), expected);
    }
}

impl Moment for Scenario {
    type Program = HookCall;

    fn program(&self) -> &HookCall {
        &self.call
    }

    fn conf_dir(&self) -> &ConfDir {
        &self.conf_dir
    }

    fn kernel(&self) -> String {
        self.container.cgroup().cpus()
    }

    fn fault(&self) -> Option<&'static str> {
        self.fault
    }

    fn status(&self) -> i32 {
        self.status
    }

    fn has_given_up(&self, ran: &Ran) -> bool {
        let is_create = self.container.is_alive();
        match ran.status.code() {
            Some(0) if is_create => self.must_be_pinned(),
            Some(0) => {}
            Some(1) => assert!(is_create, "poststop must not fail a deletion: {}", ran.stderr),
            _ => panic!("{}: {}", ran.status, ran.stderr),
        }
        !ran.succeeded()
    }

    fn is_named(&self, said: &str) -> bool {
        said.contains(&self.container.cgroup().path())
            || said.contains(&format!("thread {}", self.container.pid()))
    }

    /// The next container gets a free list or is refused because there is none, and once the
    /// containers are dead every list is given again, with nobody to reconcile. Whatever the crash
    /// left behind is gone then.
    #[track_caller]
    fn must_recover(mut self) {
        let (path, before) = (self.conf_dir.path().to_owned(), holders(&self.conf_dir, POOL));
        let mut next = StandIn::new(&new_id("next"));
        let ran = HookCall::create(&path, &next, POOL).run();
        if free(&before) > 0 {
            ran.must_succeed();
            let after = holders(&self.conf_dir, POOL);
            assert_eq!(held_by(&after, next.pid()).len(), 1);
            let mine = |holders: &audit::Holders| held_by(holders, self.container.pid());
            assert_eq!(mine(&after), mine(&before), "a live container lost what it held");
        } else {
            ran.must_refuse(&["No free cpu lists in pool p"]);
        }
        next.kill();
        self.container.kill();
        let all: Vec<StandIn> = before.keys().map(|_| StandIn::new(&new_id("fill"))).collect();
        for container in &all {
            HookCall::create(&path, container, POOL).run().must_succeed();
        }
        let full = holders(&self.conf_dir, POOL);
        assert_eq!(free(&full), 0, "{full:?}");
        let names = self.conf_dir.allocations();
        assert!(!names.iter().any(|name| name.starts_with(".tmp-")), "{names:?}");
    }
}
