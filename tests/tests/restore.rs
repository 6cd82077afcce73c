//! Checkpoint and restore by runc and a real CRIU: a pinned container comes back on CPUs of its own.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods, missing_docs)]

use std::fs;
use std::process::{Child, Command, Output, Stdio};

use kcm_tests::conf_dir::ConfDir;
use kcm_tests::container::{Builder, Container};
use kcm_tests::hook::{HookCall, POOL};
use kcm_tests::machine::{
    cgroup_file, effective_cpus, guest, is_running, skip, together, two_cpus, uncover_sysctls,
};
use kcm_tests::runtime::{Pools, Runtime, Scene, with_runtime};
use kcm_tests::stand_in::StandIn;

/// With a child, and with none of the machine's files open: CRIU could not restore those.
const PROGRAM: &str = "\
while read -r line; do case $line in Cpus_allowed_list:*) echo \"$line\";; esac; done \
</proc/self/status; exec </dev/null >/dev/null 2>&1; sleep 1000 & sleep 1000";

/// A CRIU that works with this kernel.
fn criu() -> Option<String> {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/criu");
    let program = if guest().is_some() { "criu" } else { script };
    let mut command = Command::new(program);
    if guest().is_some() {
        command.arg("check");
    }
    let output = command.stdin(Stdio::null()).output();
    match output {
        Ok(output) if output.status.success() => match guest() {
            Some(_) => Some("criu".into()),
            None => Some(String::from_utf8(output.stdout).unwrap().trim().to_owned()),
        },
        Ok(output) => {
            skip(&format!("CRIU does not work here: {}", String::from_utf8_lossy(&output.stderr)));
            None
        }
        Err(error) => {
            skip(&format!("there is no CRIU here: {error}"));
            None
        }
    }
}

fn with_criu(pools: &Pools, play: impl Fn(&Scene, &str) + Sync) {
    let Some(criu) = criu() else { return };
    for runtime in Runtime::all().into_iter().filter(|runtime| runtime.program == "runc") {
        with_runtime(runtime, pools, |scene| {
            uncover_sysctls();
            play(scene, &criu);
        });
    }
}

/// A container that can be restored.
fn container<'s>(scene: &'s Scene, id: &str, criu: &str) -> Builder<'s> {
    scene.container(id).pool("dataplane").command(PROGRAM).option(format!("--criu={criu}"))
}

#[track_caller]
fn must_restore(container: &Container<'_>, flags: &[&str]) {
    let output = container.restore(flags);
    let log = fs::read_to_string(container.images().join("restore.log")).unwrap_or_default();
    assert!(output.status.success(), "{}\n{log}", said(&output));
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).replace("\\\"", "\"")
}

/// Asserts that all processes of a container, two at least, run on these CPUs and no others.
#[track_caller]
fn must_run_on(container: &Container<'_>, cpus: &str) {
    assert_eq!(effective_cpus(&container.cgroup).to_string(), cpus);
    let pids = fs::read_to_string(cgroup_file(&container.cgroup, "cgroup.procs")).unwrap();
    let pids: Vec<&str> = pids.lines().collect();
    assert!(pids.len() >= 2 && pids.contains(&container.pid().to_string().as_str()), "{pids:?}");
    for pid in pids {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let allowed = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
        assert_eq!(allowed.unwrap().trim(), cpus, "{pid}");
        assert!(!status.contains("criu"), "{status}");
    }
}

#[test]
fn a_pinned_container_is_restored_onto_the_cpus_that_it_had_though_others_are_free() {
    let [first, second] = two_cpus();
    with_criu(&[("dataplane", true, &[&first, &second])], |scene, criu| {
        let taker = scene.container("taker").pool("dataplane").run();
        let container = container(scene, "a", criu).run();
        assert_eq!(container.cpus(), second);
        container.checkpoint(&[]);
        assert_eq!(scene.conf.allocations(), ["taker.json"]);
        taker.delete();

        must_restore(&container, &[]);
        must_run_on(&container, &second);
        assert_eq!(scene.conf.tasks("dataplane", &first), "");
        assert_eq!(scene.conf.tasks("dataplane", &second), container.pid().to_string());
        assert_eq!(scene.conf.allocations(), ["a.json"]);
        // As alive as any: nobody else gets its list.
        let other = scene.container("other").pool("dataplane").run();
        assert_eq!(other.cpus(), first);
        let message = scene.container("more").pool("dataplane").refused();
        assert!(message.contains("No free cpu lists in pool dataplane: 2 of 2"), "{message}");

        container.delete();
        assert_eq!(scene.conf.tasks("dataplane", &second), "");
    });
}

/// As on cgroup v2, where CRIU keeps no cpuset: then the hook remembers.
#[test]
fn where_the_checkpoint_does_not_tell_its_cpus_they_are_known_all_the_same() {
    let [first, second] = two_cpus();
    with_criu(&[("dataplane", true, &[&first, &second])], |scene, criu| {
        let taker = scene.container("taker").pool("dataplane").run();
        let container = container(scene, "a", criu).run();
        container.checkpoint(&[]);
        taker.delete();
        let image = container.images().join("cgroup.img");
        let bytes = fs::read(&image).unwrap();
        let name = b"cpuset.cpus";
        let found = bytes.windows(name.len()).position(|window| window == name);
        if let Some(at) = found {
            fs::write(&image, [&bytes[..at], b"cpuset.none", &bytes[at + name.len()..]].concat())
                .unwrap();
        }
        must_restore(&container, &[]);
        must_run_on(&container, &second);
    });
}

#[test]
fn where_its_cpus_are_held_it_is_restored_onto_others_of_the_pool() {
    let [first, second] = two_cpus();
    with_criu(&[("dataplane", true, &[&first, &second])], |scene, criu| {
        let container = container(scene, "a", criu).run();
        assert_eq!(container.cpus(), first);
        container.checkpoint(&[]);
        let taker = scene.container("taker").pool("dataplane").run();
        assert_eq!(taker.cpus(), first);

        must_restore(&container, &[]);
        must_run_on(&container, &second);
        assert_eq!(effective_cpus(&taker.cgroup).to_string(), first);
    });
}

/// CRIU may write the cgroup's files of before (`full`, `strict`): not over the hook's.
#[test]
fn whatever_criu_is_told_of_cgroups_the_cpus_of_the_hook_hold() {
    let [first, second] = two_cpus();
    with_criu(&[("dataplane", true, &[&first, &second])], |scene, criu| {
        for mode in ["soft", "full", "strict"] {
            let flags = ["--manage-cgroups-mode", mode];
            let container = container(scene, mode, criu).run();
            assert_eq!(container.cpus(), first);
            container.checkpoint(&flags);
            let taker = scene.container(&format!("taker-{mode}")).pool("dataplane").run();
            must_restore(&container, &flags);
            must_run_on(&container, &second);
            container.delete();
            taker.delete();
        }
    });
}

#[test]
fn a_container_of_two_lists_is_restored_onto_both() {
    let [first, second] = two_cpus();
    let both = together([&first, &second]);
    with_criu(&[("dataplane", true, &[&first, &second])], |scene, criu| {
        let two = container(scene, "two", criu).annotation("kcm.intel.com/cores", "2");
        let container = two.run();
        container.checkpoint(&[]);
        must_restore(&container, &[]);
        must_run_on(&container, &both);
    });
}

#[test]
fn where_no_list_is_free_the_restore_fails_with_the_reason_and_its_remedy_works() {
    let [first, _] = two_cpus();
    with_criu(&[("dataplane", true, &[&first])], |scene, criu| {
        let container = container(scene, "a", criu).run();
        container.checkpoint(&[]);
        let taker = scene.container("taker").pool("dataplane").run();

        let output = container.restore(&[]);
        assert!(!output.status.success());
        let said = said(&output);
        for part in ["No free cpu lists in pool dataplane: 1 of 1 are held", "end a container that"]
        {
            assert!(said.contains(part), "{said}");
        }
        assert_eq!(scene.conf.tasks("dataplane", &first), taker.pid().to_string());
        assert!(is_running(taker.pid()) && effective_cpus(&taker.cgroup).to_string() == first);

        taker.delete();
        must_restore(&container, &[]);
        must_run_on(&container, &first);
    });
}

#[test]
fn a_cgroup_with_another_process_in_it_is_no_place_to_restore_into() {
    let [first, second] = two_cpus();
    with_criu(&[("dataplane", true, &[&first, &second])], |scene, criu| {
        let container = container(scene, "a", criu).run();
        container.checkpoint(&[]);
        let mut stranger = Command::new("sleep").arg("600").spawn().unwrap();
        let pid = stranger.id().to_string();
        kcm_tests::machine::make_cgroup(&container.cgroup, &together([&first, &second]));
        fs::write(cgroup_file(&container.cgroup, "cgroup.procs"), &pid).unwrap();

        let output = container.restore(&[]);
        let (status, said) = (output.status, said(&output));
        stranger.kill().unwrap();
        stranger.wait().unwrap();
        assert!(!status.success());
        for part in [&format!("process {pid} is in it"), "cgroup of its own", "end that process"] {
            assert!(said.contains(part), "{said}");
        }
        assert_eq!(effective_cpus(&container.cgroup).to_string(), together([&first, &second]));
        assert_eq!(scene.conf.tasks("dataplane", &first), "");

        must_restore(&container, &[]);
        must_run_on(&container, &first);
    });
}

/// What stands in for a restore: init and CRIU are the same program's, and children of whoever calls
/// the hook.
#[test]
fn nobody_counts_as_criu_but_the_runtimes_own_and_while_a_container_is_restored() {
    let conf = ConfDir::new(&[("p", true, &["0"])]);
    let init = StandIn::new("restored");
    let state = init.state(&[(POOL, "p")]);
    let restored = state.replace("creating", "stopped");
    let call = |state: &str| HookCall::with_input(conf.path(), "createRuntime", state.into());
    let beside = |program: &str, argument: &str| {
        let child = Command::new(program).arg(argument).stdin(Stdio::piped()).spawn().unwrap();
        init.cgroup().enter(child.id() as i32);
        child
    };
    let end = |mut child: Child| {
        child.kill().unwrap();
        child.wait().unwrap();
    };

    let criu = beside("sleep", "600");
    let its = format!("process {} is in it", criu.id());
    call(&state).run().must_refuse(&["no cgroup of its own"]);
    // Its parent is not who calls the hook: here a shell does.
    let by_another = ["sh", "-c", "\"$@\"; exit $?", "sh"];
    call(&restored).under(by_another).run().must_refuse(&[&its, "cgroup of its own"]);
    let other = beside("cat", "-");
    let its = format!("process {} is in it", other.id());
    call(&restored).run().must_refuse(&[&its, "end that process"]);
    assert_eq!((conf.tasks("p", "0"), conf.allocations()), (String::new(), Vec::new()));
    end(other);

    call(&restored).run().must_succeed();
    assert_eq!((init.allowed_cpus().as_str(), init.cgroup().cpus().as_str()), ("0", "0"));
    assert_eq!(conf.tasks("p", "0"), init.pid().to_string());
    end(criu);
}
