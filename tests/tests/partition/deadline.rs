//! The hook waits for locks and for systemd until 15 seconds after its start, and has ended before its
//! runtime would end it, which is after 20.

use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::{Child, Command};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use kcm_tests::conf_dir::ConfDir;
use kcm_tests::hook::{HookCall, POOL, Ran};
use kcm_tests::machine::{Guest, must_be_the_guest, until, with_own_mounts};
use kcm_tests::stand_in::{StandIn, new_id};
use nix::fcntl::{Flock, FlockArg};
use nix::mount::{MsFlags, mount};

const SOCKET: &str = "/run/systemd/private";

/// Whether what is said to systemd comes to it.
static FROZEN: AtomicBool = AtomicBool::new(false);

fn lock(conf: &ConfDir) -> Flock<File> {
    let file = File::options().write(true).open(conf.path().join("lock")).unwrap();
    Flock::lock(file, FlockArg::LockExclusive).unwrap()
}

/// Stands before systemd for this thread and what it starts.
fn stand_before_systemd(folder: &Path) {
    let socket = folder.join("private");
    let listener = UnixListener::bind(&socket).unwrap();
    mount(Some(&socket), SOCKET, None::<&str>, MsFlags::MS_BIND, None::<&str>).unwrap();
    // It ends with the test.
    std::thread::spawn(move || {
        for client in listener.incoming() {
            // Where PID 1 is nobody stands before it.
            let systemd = UnixStream::connect(format!("/proc/1/root{SOCKET}")).unwrap();
            let client = client.unwrap();
            pass_on(client.try_clone().unwrap(), systemd.try_clone().unwrap());
            pass_on(systemd, client);
        }
    });
}

fn pass_on(mut from: UnixStream, mut to: UnixStream) {
    std::thread::spawn(move || {
        let mut bytes = [0; 4096];
        while let Ok(count @ 1..) = from.read(&mut bytes) {
            if !FROZEN.load(Ordering::Relaxed) && to.write_all(&bytes[..count]).is_err() {
                return;
            }
        }
    });
}

/// A container in a scope of systemd's.
struct InScope(Child);

impl InScope {
    fn start(unit: &str) -> Self {
        let mut command = Command::new("systemd-run");
        command.args(["--scope", "--quiet", "--property=Delegate=yes", "--unit", unit]);
        let child = command.args(["sleep", "600"]).spawn().unwrap();
        let is_there = || {
            let cgroup = std::fs::read_to_string(format!("/proc/{}/cgroup", child.id())).ok()?;
            cgroup.trim().ends_with(".scope").then_some(())
        };
        until("the scope", is_there);
        Self(child)
    }

    fn call(&self, conf: &ConfDir) -> HookCall {
        let state = serde_json::json!({
            "ociVersion": "1.0.2", "id": "in-scope", "status": "creating", "pid": self.0.id(),
            "bundle": "", "annotations": {POOL: "p"},
        });
        HookCall::with_input(conf.path(), "createRuntime", state.to_string())
    }
}

impl Drop for InScope {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// How it ended, and for how long it was there.
fn timed(call: &HookCall) -> (Ran, Duration) {
    let begun = Instant::now();
    let ran = call.run();
    (ran, begun.elapsed())
}

#[test]
fn a_hook_that_waits_for_a_lock_or_for_systemd_ends_before_its_runtime_ends_it_and_leaves_nothing()
{
    assert_eq!(must_be_the_guest(), Guest::Systemd);
    let [held, shared] = [&["2"], &["3"]].map(|lists| ConfDir::new(&[("p", true, lists)]));
    let mut ended = StandIn::new(&new_id("ended"));
    HookCall::create(held.path(), &ended, "p").run().must_succeed();
    ended.kill();
    let waiting = StandIn::new(&new_id("waits"));
    let create = HookCall::create(held.path(), &waiting, "p");
    let poststop = HookCall::poststop(held.path(), ended.id());
    let in_scope = InScope::start("kcmtest-deadline.scope");
    let before = held.snapshot();
    let holder = format!("process {} holds it", std::process::id());
    let (_held, second) = (lock(&held), lock(&shared));
    let folder = tempfile::tempdir().unwrap();
    let is_late =
        |took: Duration| (Duration::from_secs(14)..Duration::from_secs(20)).contains(&took);
    std::thread::scope(|threads| {
        let both = [&create, &poststop].map(|call| threads.spawn(move || timed(call)));
        with_own_mounts(|| {
            stand_before_systemd(folder.path());
            let begun = Instant::now();
            let mut hook = in_scope.call(&shared).start();
            hook.give_input();
            // It has asked systemd for the scope by then, and waits for the lock.
            std::thread::sleep(Duration::from_secs(11));
            FROZEN.store(true, Ordering::Relaxed);
            drop(second);
            until("the hook to be given a list", || shared.record("in-scope"));
            // Others are there when it wants to give that back.
            let others = lock(&shared);
            let waits = threads.spawn(move || hook.finish());
            std::thread::sleep(Duration::from_secs(16).saturating_sub(begun.elapsed()));
            drop(others);
            let ran = waits.join().unwrap();
            let took = begun.elapsed();
            ran.must_refuse(&["systemd did not answer on /run/systemd/private within"]);
            println!("refused after {took:?}");
            assert!(is_late(took), "{took:?}");
        });
        let [create, poststop] = both.map(|it| it.join().unwrap());
        create.0.must_refuse(&["kcm/lock was not free within 14.", &holder]);
        poststop.0.must_succeed();
        assert!(is_late(create.1) && is_late(poststop.1), "{:?}, {:?}", create.1, poststop.1);
    });
    assert_eq!(shared.tasks("p", "3"), "");
    assert_eq!(shared.allocations(), [""; 0]);
    assert_eq!(held.snapshot(), before);
}
