//! Within a container: with the host's procfs, whoever looks from the host sees who holds what; as
//! PID 1, kcm is the init that a container needs.

use std::path::Path;

use kcm_tests::bundle::{Bundle, bind};
use kcm_tests::container::Builder;
use kcm_tests::hook::HookCall;
use kcm_tests::isolate::{
    Isolate, Process, descendants, must_be_held, nothing_must_be_held, status, status_if_there,
};
use kcm_tests::kcm::{kcm, run};
use kcm_tests::machine::{is_running, kill_and_wait, start_time, two_cpus, until};
use kcm_tests::programs::copy_to;
use kcm_tests::runtime::{Scene, with_every_runtime};
use kcm_tests::stand_in::StandIn;

/// Fails the test unless this process, seen from the host, is the holder of the only list.
fn must_be_seen_by_the_host(conf: &kcm_tests::conf_dir::ConfDir, list: &str, pid: i32) {
    let record = conf.record(&format!("isolate-{pid}")).unwrap();
    assert_eq!((&record["pid"], &record["startTime"]), (&pid.into(), &start_time(pid).into()));
    let before = conf.snapshot();
    let container = StandIn::new(&format!("outside-{pid}"));
    let hook = HookCall::create(conf.path(), &container, "p");
    hook.run().must_refuse(&["1 of 1 are held"]);
    run(kcm().arg("reconcile").env("KCM_CONF_DIR", conf.path())).succeeded();
    assert_eq!(conf.snapshot(), before);
    must_be_held(conf, list, pid);
}

#[test]
fn from_a_pid_namespace_the_hosts_pid_is_recorded_and_the_host_sees_it_alive() {
    let [cpu, _] = two_cpus();
    for script in [
        // As PID 1, and as another.
        "exec unshare --pid --fork --mount-proc \"$@\"",
        "exec unshare --pid --fork --mount-proc sh -c '\"$@\"; exit' sh \"$@\"",
    ] {
        let conf_dir = kcm_tests::conf_dir::ConfDir::new(&[("p", true, &[&cpu])]);
        let here = tempfile::tempdir().unwrap();
        let script = format!("mount --bind /proc \"$HERE\"; export KCM_PROC_FS=$HERE; {script}");
        let unshare = ["unshare", "--mount", "--propagation", "private", "sh", "-euc", &script];
        let isolate = Isolate::new(&conf_dir, "p", &[]).script("echo $PPID; exec sleep 600");
        let isolate = isolate.under(unshare.into_iter().chain(["sh"])).env("HERE", here.path());
        let isolate = isolate.start();
        let inner = isolate.line(0);
        let below = descendants(isolate.pid());
        let is_kcm = |pid: &&i32| status(**pid, "NSpid").ends_with(&format!("\t{inner}"));
        let pid = *below.iter().find(is_kcm).unwrap();
        assert_eq!(status(pid, "Name"), "kcm");
        must_be_seen_by_the_host(&conf_dir, &cpu, pid);

        // All that is in the namespace of PID 1 dies with it, and a command with its kcm.
        kill_and_wait(pid);
        let gone = |pid: &i32| !is_running(*pid);
        until("what it ran to be gone", || below.iter().all(gone).then_some(()));
        let container = StandIn::new(&format!("heir-{pid}"));
        HookCall::create(conf_dir.path(), &container, "p").run().must_succeed();
    }
}

/// A container that is not given CPUs by the hook, and whose init is kcm with this command.
fn with_kcm<'s>(scene: &'s Scene, id: &str, command: &[&str]) -> Builder<'s> {
    let conf = scene.conf.path();
    scene.container(id).with(|bundle: &mut Bundle| {
        let words = ["/bin/kcm", "isolate", "--pool=p"].iter().chain(command);
        bundle.args = words.map(|word| (*word).to_owned()).collect();
        bundle.env.push("KCM_PROC_FS=/host/proc".to_owned());
        bundle.mounts.extend([
            bind(Path::new("/proc"), "/host/proc", "ro"),
            bind(Path::new("/sys"), "/sys", "ro"),
            bind(conf, "/etc/kcm", "rw"),
        ]);
    })
}

/// Puts kcm, and what is mounted, into the root file system of a scene.
fn prepare(scene: &Scene) {
    let rootfs = scene.folder.join("rootfs");
    for folder in ["etc/kcm", "host/proc", "sys"] {
        std::fs::create_dir_all(rootfs.join(folder)).unwrap();
    }
    copy_to("kcm", &rootfs.join("bin/kcm"));
}

/// Has zombies, daemons that outlive the command, and a status that is only the command's.
const BUSY: &str = "trap 'exit 7' TERM
for i in 1 2 3; do (sleep 600 & sleep 0.01 &); done
echo ready; while :; do sleep 0.05; done";

#[test]
fn as_init_of_a_container_it_reaps_passes_on_signals_and_ends_with_the_commands_status() {
    let [cpu, _] = two_cpus();
    with_every_runtime(&[("p", true, &[&cpu])], |scene| {
        prepare(scene);
        let mut starting = with_kcm(scene, "a", &["sh", "--", "-c", BUSY]).spawn_in_foreground();
        until("the command to run", || (starting.container.out() == "ready\n").then_some(()));
        let init = starting.container.pid();
        assert_eq!(status(init, "NSpid").split_whitespace().last(), Some("1"));
        must_be_seen_by_the_host(&scene.conf, &cpu, init);
        // kcm reaps what was left to it: only the command and three daemons stay its children.
        // (The command's own children come and go.)
        let is_child = |pid: &i32| status_if_there(*pid, "PPid") == Some(init.to_string());
        let children = || descendants(init).into_iter().filter(is_child);
        until("the zombies to be reaped", || {
            let states: Vec<_> = children().map(|pid| status_if_there(pid, "State")).collect();
            let is_alive =
                |state: &Option<String>| state.as_ref().is_some_and(|s| !s.starts_with('Z'));
            (states.len() == 4 && states.iter().all(is_alive)).then_some(())
        });
        let all: Vec<Process> = children().map(Process::of).collect();
        starting.container.signal("TERM");
        assert_eq!(starting.wait().code(), Some(7), "with {}", scene.runtime);
        assert!(all.iter().all(|process| !process.is_running()));
        nothing_must_be_held(&scene.conf);
    });
}

#[test]
fn a_containers_exit_status_is_the_commands() {
    let [cpu, _] = two_cpus();
    with_every_runtime(&[("p", true, &[&cpu])], |scene| {
        prepare(scene);
        for (number, (command, status)) in [
            (&["sh", "--", "-c", "exit 3"] as &[&str], 3),
            (&["sh", "--", "-c", "kill -9 $$"], 128 + 9),
            (&["/bin/sleep", "--", "0"], 0),
            (&["no-such-program"], 127),
            (&["/proc"], 126),
            (&["--cores=2", "sleep", "--", "1"], 125),
        ]
        .into_iter()
        .enumerate()
        {
            let mut starting =
                with_kcm(scene, &format!("c{number}"), command).spawn_in_foreground();
            let ended = starting.wait();
            let said = starting.container.failure();
            assert_eq!(ended.code(), Some(status), "{command:?} with {}: {said}", scene.runtime);
            nothing_must_be_held(&scene.conf);
        }
    });
}
