//! The hook refuses what it must not touch: states that name the wrong process, or none, and
//! whatever a user may write into an annotation. Nothing is left behind.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods, missing_docs)]

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use kcm_tests::conf_dir::ConfDir;
use kcm_tests::hook::{HookCall, POOL};
use kcm_tests::machine::{cgroup_file, is_cgroup_v2};
use kcm_tests::stand_in::{Cgroup, StandIn};
use kcm_tests::strace::Trace;
use serde_json::{Value, json};

fn conf() -> ConfDir {
    ConfDir::new(&[("dataplane", true, &["0", "1"]), ("shared", false, &["0-1"])])
}

/// A state as runc gives it, of a container that asks for a core.
fn state(container: &StandIn) -> Value {
    serde_json::from_str(&container.state(&[(POOL, "dataplane")])).unwrap()
}

fn create(conf: &ConfDir, input: impl ToString) -> HookCall {
    HookCall::with_input(conf.path(), "createRuntime", input.to_string())
}

/// Feeds a state to the hook, which must refuse it with these words and change nothing.
#[track_caller]
fn refused(container: &StandIn, input: impl ToString, words: &[&str]) {
    let conf = conf();
    let (before, cpus) = (conf.snapshot(), container.cgroup().cpus());
    create(&conf, input).run().must_refuse(words);
    let mut after = conf.snapshot();
    after.remove(&conf.path().join("allocations/"));
    assert_eq!(after, before);
    assert_eq!(container.cgroup().cpus(), cpus);
}

#[test]
fn a_pid_that_cannot_be_a_containers_is_refused() {
    let container = StandIn::new("pids");
    for (pid, words) in [
        (json!(1), "pid 1 where a container's host PID is needed"),
        (json!(0), "pid 0 where a container's host PID is needed"),
        (json!(-5), "pid -5 where"),
        (json!(1_i64 << 40), "pid 1099511627776 where"),
        (Value::Null, "no pid where"),
        (json!("12"), "not an OCI container state"),
    ] {
        let mut state = state(&container);
        state["pid"] = pid;
        refused(&container, state, &[words]);
    }
    let mut state = state(&container);
    state.as_object_mut().unwrap().remove("pid");
    refused(&container, state, &["no pid where"]);
}

#[test]
fn a_process_that_has_ended_is_refused() {
    let container = StandIn::new("ended");
    let mut child = Command::new("true").spawn().unwrap();
    let mut state = state(&container);
    state["pid"] = json!(child.id());
    child.wait().unwrap();
    refused(&container, state, &["has ended already"]);
}

#[test]
fn a_process_without_a_cgroup_of_its_own_is_refused() {
    let words = ["the container has no cgroup of its own"];
    // It is where the hook is: what `podman run --cgroups=disabled` makes.
    let container = StandIn::new("own");
    let mut child = Command::new("sleep").arg("60").spawn().unwrap();
    let mut beside_us = state(&container);
    beside_us["pid"] = json!(child.id());
    refused(&container, beside_us, &words);

    // The same in a cgroup that is not the root.
    let conf = conf();
    let procs = cgroup_file(&container.cgroup().path(), "cgroup.procs");
    let enter = format!("echo $$ >{}; exec \"$@\"", procs.display());
    let before = (conf.snapshot(), container.cgroup().cpus());
    let call = create(&conf, state(&container)).under(["sh", "-c", &enter, "sh"]);
    call.run().must_refuse(&words);
    assert_eq!((conf.snapshot(), container.cgroup().cpus()), before);

    // Its cgroup holds somebody else.
    container.cgroup().enter(child.id() as i32);
    refused(&container, state(&container), &words);
    child.kill().unwrap();
    child.wait().unwrap();
    create(&conf, state(&container)).run().must_succeed();
}

#[test]
fn a_process_in_a_cgroup_above_the_hooks_is_refused() {
    let container = StandIn::new("above");
    // In cgroup v2 the controllers must stay off below a cgroup with processes.
    let path = format!("{}/hook", container.cgroup().path());
    let below = (!is_cgroup_v2()).then(|| Cgroup::new("above/hook"));
    if below.is_none() {
        fs::create_dir(cgroup_file(&path, "")).unwrap();
    }
    let procs = cgroup_file(&path, "cgroup.procs");
    let enter = format!("echo $$ >{}; exec \"$@\"", procs.display());
    let conf = conf();
    let before = (conf.snapshot(), container.cgroup().cpus());
    let call = create(&conf, state(&container)).under(["sh", "-c", &enter, "sh"]);
    call.run().must_refuse(&["the container has no cgroup of its own"]);
    assert_eq!((conf.snapshot(), container.cgroup().cpus()), before);
    if below.is_none() {
        fs::remove_dir(cgroup_file(&path, "")).unwrap();
    }
}

#[test]
fn a_sandbox_is_let_go_by_though_it_has_its_pods_annotations() {
    for kind in ["io.kubernetes.cri.container-type", "io.kubernetes.cri-o.ContainerType"] {
        let (conf, container) = (conf(), StandIn::new("pause"));
        let before = (conf.snapshot(), container.cgroup().cpus());
        let state = container.state(&[(POOL, "dataplane"), (kind, "sandbox")]);
        create(&conf, state).run().must_succeed();
        assert_eq!((conf.snapshot(), container.cgroup().cpus()), before);
    }
}

#[test]
fn what_a_user_may_write_is_named_and_refused() {
    let container = StandIn::new("user");
    for (annotations, words) in [
        (json!({POOL: "typo"}), &["typo", "dataplane", "shared"] as &[&str]),
        (json!({POOL: ""}), &["annotation kcm.intel.com/pool is \"\""]),
        (json!({POOL: "../elsewhere"}), &["annotation kcm.intel.com/pool is \"../elsewhere\""]),
        (json!({POOL: "a\nkcm-hook: all is well"}), &["annotation kcm.intel.com/pool is"]),
        (json!({POOL: "x".repeat(100_000)}), &["annotation kcm.intel.com/pool is"]),
        (json!({POOL: 5}), &["not an OCI container state"]),
        (json!({POOL: "dataplane", "kcm.intel.com/cores": "-1"}), &["cores is \"-1\""]),
        (json!({POOL: "dataplane", "kcm.intel.com/cores": "9".repeat(50)}), &["cores is"]),
        (json!({POOL: "dataplane", "kcm.intel.com/cores": "3"}), &["which has 2; ask for 2"]),
    ] {
        let mut state = state(&container);
        state["annotations"] = annotations;
        refused(&container, state, words);
    }
    let whole = container.state(&[(POOL, "dataplane")]);
    let deep = format!("\"annotations\":{{\"{POOL}\":{}", "[".repeat(100_000));
    let nested = whole.replacen("\"annotations\":{", &deep, 1);
    assert_ne!(nested, whole);
    let huge = whole.replacen('{', &format!("{{\"x\":\"{}\",", "x".repeat(2 << 20)), 1);
    refused(&container, nested, &["not an OCI container state"]);
    refused(&container, huge, &["larger than 1 MiB"]);
    refused(&container, "", &["not an OCI container state"]);
}

#[test]
fn an_id_that_could_be_a_path_is_refused() {
    let container = StandIn::new("id");
    for id in ["..", "../../etc/cron.d/x", "a/b", "", "a\nb", &"x".repeat(201)] {
        let mut state = state(&container);
        state["id"] = json!(id);
        refused(&container, state, &["cannot name an owner"]);
    }
}

#[test]
fn stages_at_which_the_pid_is_the_containers_own_are_refused() {
    for stage in ["createContainer", "startContainer", "poststart", "x"] {
        let (conf, container) = (conf(), StandIn::new("stage"));
        let before = conf.snapshot();
        let call = HookCall::with_input(conf.path(), stage, state(&container).to_string());
        call.run().must_refuse(&["createRuntime and poststop"]);
        assert_eq!(conf.snapshot(), before);
    }
}

/// A bundle with this configuration.
fn bundle(config: &str) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("config.json"), config).unwrap();
    let path = folder.path().to_owned();
    (folder, path)
}

#[test]
fn annotations_come_from_the_bundle_only_where_the_state_has_no_such_key() {
    let config = json!({"annotations": {POOL: "dataplane"}}).to_string();
    let (_folder, path) = bundle(&config);
    for (annotations, tasks) in [(None, true), (Some(json!({})), false)] {
        let (conf, container) = (conf(), StandIn::new("bundle"));
        let mut state = state(&container);
        state["bundle"] = json!(path);
        state.as_object_mut().unwrap().remove("annotations");
        if let Some(annotations) = annotations {
            state["annotations"] = annotations;
        }
        create(&conf, state).run().must_succeed();
        let expected = if tasks { container.pid().to_string() } else { String::new() };
        assert_eq!(conf.tasks("dataplane", "0"), expected);
    }
}

#[test]
fn a_bundle_that_gives_cpus_or_makes_no_sense_is_refused() {
    let container = StandIn::new("spec");
    for (config, words) in [
        (
            r#"{"linux":{"resources":{"cpu":{"cpus":"1"}}}}"#,
            &["the container is given CPUs 1 already", "cpuManagerPolicy", "--cpuset-cpus"]
                as &[_],
        ),
        ("{", &["config.json is not an OCI configuration"]),
    ] {
        let (_folder, path) = bundle(config);
        let mut state = state(&container);
        state["bundle"] = json!(path);
        refused(&container, state, words);
    }
}

#[test]
fn a_container_that_asks_for_nothing_costs_no_look_at_the_configuration() {
    let container = StandIn::new("plain");
    let conf = conf();
    fs::remove_dir_all(conf.path()).unwrap();
    for input in [container.state(&[]), container.state(&[("a", "b")])] {
        let trace = Trace::of(&create(&conf, input), &[]);
        assert!(trace.ran.succeeded(), "{}", trace.ran.stderr);
        let path = conf.path().to_str().unwrap();
        let touching = |call: &&kcm_tests::strace::SystemCall| {
            call.name != "execve" && call.line.contains(path)
        };
        assert_eq!(trace.calls.iter().find(touching), None);
        assert!(!conf.path().exists());
    }
}
