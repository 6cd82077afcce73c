//! Ctrl-C and SIGTERM: what is known so far is told, at once.

use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use kcm_tests::api_server::{ApiServer, Fault, Outcome};
use kcm_tests::kcm;
use kcm_tests::machine::until;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use super::cluster::{cluster, cluster_init, made_names, makes_pod, path, rows};

const UNFINISHED: &str = "kcm was interrupted; its pods go on";

fn start(api: &ApiServer) -> Child {
    let mut command = cluster_init(api, &["--all-hosts", "--kcm-cmd-list=init"]);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().unwrap()
}

/// Sends the signal, and waits for the end, which must come soon.
fn interrupt(child: Child, signal: Signal) -> kcm::Outcome {
    kill(Pid::from_raw(child.id() as i32), signal).unwrap();
    let begun = Instant::now();
    let outcome = kcm::Outcome::from(child.wait_with_output().unwrap());
    assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
    outcome
}

fn slow_is_worker_2(pod: &Value) -> Outcome {
    if pod["spec"]["nodeName"] == "worker-2" { Outcome::Hangs } else { Outcome::Succeeds }
}

#[test]
fn what_is_known_so_far_is_told() {
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        let api = cluster(&["worker-1", "worker-2"]);
        api.kubelet(slow_is_worker_2);
        let child = start(&api);
        until("the one to succeed", || {
            let pod = api.get(&path("kcm-init-pod-worker-1"))?;
            (pod["status"]["phase"] == "Succeeded").then_some(())
        });
        until("the other to be made", || api.get(&path("kcm-init-pod-worker-2")));
        api.settle();
        std::thread::sleep(Duration::from_millis(500));
        let outcome = interrupt(child, signal);
        assert_eq!((outcome.code, outcome.signal), (Some(1), None), "{outcome:?}");
        assert_eq!(
            rows(&outcome.out),
            [
                ("worker-1".into(), "ready".into(), String::new()),
                ("worker-2".into(), "failed".into(), UNFINISHED.into()),
            ]
        );
        let unfinished = format!("worker-2: {UNFINISHED}");
        assert_eq!(outcome.lines("ERROR"), [&unfinished, "1 of 2 nodes are not ready"]);
        // How long it was waited for, not nothing.
        let line = outcome.out.lines().last().unwrap();
        let seconds: f64 = line.split_whitespace().nth(2).unwrap().parse().unwrap();
        assert!(seconds >= 0.5, "{line}");
        // Its pod is left alone.
        assert!(api.get(&path("kcm-init-pod-worker-2")).is_some());
        assert_eq!(api.writes().iter().filter(|seen| seen.verb == "delete").count(), 0);
    }
}

#[test]
fn a_connection_that_hangs_does_not_delay_it() {
    let api = cluster(&["worker-1"]);
    api.inject(Fault::hang(Duration::from_secs(600)).on(makes_pod));
    let child = start(&api);
    until("the request", || (api.injected() > 0).then_some(()));
    let outcome = interrupt(child, Signal::SIGTERM);
    assert_eq!(outcome.code, Some(1), "{outcome:?}");
    assert_eq!(rows(&outcome.out), [("worker-1".into(), "failed".into(), UNFINISHED.into())]);
}

#[test]
fn before_there_is_anything_to_tell_it_just_ends() {
    for resource in ["nodes", "clusterroles"] {
        let api = cluster(&["worker-1"]);
        api.inject(Fault::hang(Duration::from_secs(600)).on(move |seen| seen.resource == resource));
        let child = start(&api);
        until("the request", || (api.injected() > 0).then_some(()));
        let outcome = interrupt(child, Signal::SIGTERM);
        assert_eq!((outcome.code, outcome.out.as_str()), (Some(1), ""), "{outcome:?}");
        assert_eq!(outcome.lines("ERROR"), ["interrupted before the first pod was made"]);
        assert_eq!(made_names(&api).len(), 0);
    }
}
