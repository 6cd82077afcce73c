//! Whatever dies, and however: the next container gets what the dead held, with no poststop and no
//! reconcile in between; and the living keep what they have.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods, missing_docs)]

use std::fs::{self, File};

use kcm_tests::bundle::REPORT_AND_STAY;
use kcm_tests::container::Starting;
use kcm_tests::machine::{
    cgroup_file, is_running, kill, kill_and_wait, processes_with_argument, two_cpus, until,
    waits_for_a_lock,
};
use kcm_tests::runtime::{Scene, with_every_runtime};
use nix::fcntl::{Flock, FlockArg};

/// Begins to create a container, up to where its hook waits for the lock, which the caller holds.
fn create_until_the_hook_waits<'s>(scene: &'s Scene, id: &str) -> (Starting<'s>, i32) {
    let starting = scene.container(id).pool("dataplane").spawn_create();
    let hook = until("the hook to wait for the lock", || {
        let flag = format!("--conf-dir={}", scene.conf.path().display());
        processes_with_argument(&flag).into_iter().find(|&pid| waits_for_a_lock(pid))
    });
    (starting, hook)
}

fn hold_the_lock(scene: &Scene) -> Flock<File> {
    let file = File::open(scene.conf.path().join("lock")).unwrap();
    Flock::lock(file, FlockArg::LockExclusive).unwrap()
}

#[test]
fn the_next_container_gets_the_list_of_one_whose_init_was_killed() {
    let [_, cpu] = two_cpus();
    with_every_runtime(&[("dataplane", true, &[&cpu])], |scene| {
        let killed = scene.container("killed").pool("dataplane").run();
        killed.kill();
        let next = scene.container("next").pool("dataplane").run();
        assert_eq!(next.cpus(), cpu);
        scene.logged(&format!("reclaimed CPU list {cpu} of pool dataplane"));
        assert_eq!(scene.conf.tasks("dataplane", &cpu), next.pid().to_string());
        // The late poststop of the dead one, as CRI-O has it.
        killed.delete();
        assert_eq!(scene.conf.tasks("dataplane", &cpu), next.pid().to_string());
        assert_eq!(scene.conf.allocations(), ["next.json"]);
    });
}

#[test]
fn the_next_container_gets_the_list_when_the_hook_is_killed_while_it_waits() {
    let [_, cpu] = two_cpus();
    with_every_runtime(&[("dataplane", true, &[&cpu])], |scene| {
        let before = scene.conf.snapshot();
        let lock = hold_the_lock(scene);
        let (mut starting, hook) = create_until_the_hook_waits(scene, "victim");
        kill(hook);
        let status = starting.wait();
        starting.container.assert_refused(status);
        drop(lock);
        assert_eq!(scene.conf.snapshot(), before);
        assert_eq!(scene.container("next").pool("dataplane").run().cpus(), cpu);
    });
}

#[test]
fn the_next_container_gets_the_list_when_the_hook_is_killed_while_it_writes() {
    let [_, cpu] = two_cpus();
    // The record and its index are written (after the link that tells of the boot), `tasks` is not;
    // and: all are, and so is the cpuset.
    for point in ["renameat:signal=SIGKILL:when=4", "sched_setaffinity:signal=SIGKILL:when=1"] {
        with_every_runtime(&[("dataplane", true, &[&cpu])], |scene| {
            let inject = format!("inject={point}");
            let strace = ["/usr/bin/strace", "-o", "/dev/null", "-e", &inject];
            let victim = scene
                .container("victim")
                .pool("dataplane")
                .with(|bundle| bundle.hook_starter = strace.map(str::to_owned).to_vec());
            let message = victim.refused();
            // It did die there: runc says so, and then calls poststop; crun does neither.
            let died = match scene.runtime.program {
                "runc" => message.contains("signal: killed"),
                _ => scene.conf.allocations().contains(&"victim.json".into()),
            };
            assert!(died, "{point}: {message}");
            let next = scene.container("next").pool("dataplane").run();
            assert_eq!(next.cpus(), cpu, "{point}");
            assert_eq!(scene.conf.tasks("dataplane", &cpu), next.pid().to_string(), "{point}");
        });
    }
}

#[test]
fn the_next_container_gets_the_list_when_the_runtime_is_killed_under_the_hook() {
    let [_, cpu] = two_cpus();
    with_every_runtime(&[("dataplane", true, &[&cpu])], |scene| {
        let lock = hold_the_lock(scene);
        let (mut starting, hook) = create_until_the_hook_waits(scene, "orphan");
        let procs = cgroup_file(&starting.container.cgroup, "cgroup.procs");
        let init: i32 = fs::read_to_string(&procs).unwrap().trim().parse().unwrap();
        starting.runtime.kill().unwrap();
        starting.wait();
        drop(lock);
        until("the hook to end", || (!is_running(hook)).then_some(()));
        assert_eq!(scene.container("next").pool("dataplane").run().cpus(), cpu);
        // runc's init ends with its runtime. That of crun 1.8.1 does not, and keeps a CPU busy.
        if scene.runtime.program == "crun" {
            kill_and_wait(init);
        }
        until("init to end", || (!is_running(init)).then_some(()));
    });
}

#[test]
fn the_next_container_gets_the_list_of_one_whose_program_is_not_there() {
    let [_, cpu] = two_cpus();
    with_every_runtime(&[("dataplane", true, &[&cpu])], |scene| {
        // The hook has run by then, and crun runs no poststop.
        scene.container("typo").pool("dataplane").program("/bin/no-such-program").refused();
        assert_eq!(scene.container("next").pool("dataplane").run().cpus(), cpu);
    });
}

#[test]
fn a_container_with_the_hosts_pids_keeps_its_list_while_a_child_of_its_dead_init_runs() {
    let [_, cpu] = two_cpus();
    with_every_runtime(&[("dataplane", true, &[&cpu])], |scene| {
        let script = REPORT_AND_STAY.replace("exec sleep", "sleep 1000 & exec sleep");
        let parent = scene.container("parent").pool("dataplane").command(&script);
        let parent = parent.with(|bundle| bundle.host_pids = true).run();
        assert_eq!(parent.cpus(), cpu);
        let procs = cgroup_file(&parent.cgroup, "cgroup.procs");
        let child: i32 = until("init to have a child", || {
            let text = fs::read_to_string(&procs).unwrap();
            let mut pids = text.lines().map(|pid| pid.parse().unwrap());
            pids.find(|&pid| pid != parent.pid())
        });
        parent.kill();
        assert!(is_running(child));
        let message = scene.container("early").pool("dataplane").refused();
        assert!(message.contains("1 of 1 are held"), "{message}");

        kill_and_wait(child);
        assert_eq!(scene.container("next").pool("dataplane").run().cpus(), cpu);
    });
}

#[test]
fn the_same_id_under_another_root_is_refused_and_takes_nothing_from_the_first() {
    let [first, second] = two_cpus();
    with_every_runtime(&[("dataplane", true, &[&first, &second])], |scene| {
        let container = scene.container("web").pool("dataplane").run();
        let before = scene.conf.snapshot();
        let namesake = scene.container("web").under_root("other").pool("dataplane");
        let message = namesake.refused();
        let expected = format!(
            "another live container with id web (process {}) holds CPUs here",
            container.pid()
        );
        assert!(message.contains(&expected), "{message}");
        // Also after the poststop that runc calls for what failed.
        assert_eq!(scene.conf.snapshot(), before);
        assert_eq!(container.cpus(), first);

        // A namesake that asks for nothing is let go by, and its end frees nothing either.
        let bystander = scene.container("web").under_root("other").run();
        bystander.delete();
        assert_eq!(scene.conf.snapshot(), before);
    });
}

#[test]
fn a_container_started_again_under_its_id_gets_its_list_anew() {
    let [first, second] = two_cpus();
    with_every_runtime(&[("dataplane", true, &[&first, &second])], |scene| {
        let container = scene.container("again").pool("dataplane").run();
        let dead = container.pid();
        container.kill();
        // The runtime's own knowledge of it is lost too: no poststop ever.
        fs::remove_dir_all(scene.folder.join("state/again")).unwrap();
        if scene.runtime.systemd {
            until("systemd to drop the scope", || {
                (!cgroup_file(&container.cgroup, "").exists()).then_some(())
            });
        }
        let again = scene.container("again").pool("dataplane").run();
        assert_ne!(again.pid(), dead);
        assert_eq!(again.cpus(), first);
        assert_eq!(scene.conf.tasks("dataplane", &first), again.pid().to_string());
        assert_eq!(scene.conf.tasks("dataplane", &second), "");
        assert_eq!(scene.conf.record("again").unwrap()["pid"], again.pid());
    });
}
