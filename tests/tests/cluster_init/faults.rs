//! An API server that is busy, broken or slow.

use std::time::{Duration, Instant};

use kcm_tests::api_server::{Cluster, Fault, Outcome, Seen};
use serde_json::json;

use super::cluster::{INIT_ONLY, INIT_POD, cluster, failure, made_names, makes_pod, path, run};

fn is_watch(seen: &Seen) -> bool {
    seen.verb == "watch"
}

#[test]
fn what_may_pass_is_tried_again() {
    for (name, fault) in [
        ("429", Fault::too_many_requests(1).times(2)),
        ("500", Fault::status(500).times(3)),
        ("502", Fault::status(502).times(2)),
        ("503", Fault::status(503).times(2)),
        ("504", Fault::status(504).times(2)),
        ("reset", Fault::reset().times(3)),
    ] {
        let api = cluster(&["worker-1"]);
        api.inject(fault.on(makes_pod));
        run(&api, &INIT_ONLY).succeeded();
        assert!(api.injected() > 0, "{name}");
        assert_eq!(made_names(&api).last().unwrap(), INIT_POD);
    }
}

#[test]
fn a_server_that_says_when_to_come_again_is_heeded() {
    let api = cluster(&["worker-1"]);
    api.inject(Fault::too_many_requests(2).on(makes_pod));
    let begun = Instant::now();
    run(&api, &INIT_ONLY).succeeded();
    assert!(begun.elapsed() >= Duration::from_secs(2), "{:?}", begun.elapsed());
}

#[test]
fn a_pod_that_was_made_with_the_answer_lost_is_found_to_be_its_own() {
    let api = cluster(&["worker-1"]);
    // The request is carried out, and the connection closed with no answer.
    api.before(makes_pod, carry_out);
    api.inject(Fault::reset().on(makes_pod));
    let outcome = run(&api, &INIT_ONLY).succeeded();
    let statuses: Vec<u16> =
        api.requests().into_iter().filter(makes_pod).map(|seen| seen.status).collect();
    assert_eq!(statuses, [0, 409], "{outcome:?}");
}

/// What a first attempt leaves behind: the very pod.
fn carry_out(cluster: &Cluster) {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/cluster-init/default-pods.yaml");
    let text = std::fs::read_to_string(file).unwrap();
    let mut pods: Vec<serde_json::Value> = serde_saphyr::from_multiple(&text).unwrap();
    let mut pod = pods.remove(0);
    let init = pod["spec"]["initContainers"][0].take();
    let spec = pod["spec"].as_object_mut().unwrap();
    spec.remove("initContainers");
    spec.insert("containers".into(), json!([init]));
    spec["volumes"].as_array_mut().unwrap().truncate(2);
    pod["metadata"]["name"] = json!(INIT_POD);
    cluster.create("/api/v1/namespaces/default/pods", pod);
}

#[test]
fn a_server_that_stays_broken_fails_the_node_with_its_status() {
    let api = cluster(&["worker-1"]);
    api.inject(Fault::status(500).times(1000).on(makes_pod));
    let detail = failure(&run(&api, &INIT_ONLY));
    let expected = format!("cannot create pods {INIT_POD} in namespace default: HTTP status 500");
    assert!(detail.contains(&expected), "{detail}");
}

#[test]
fn a_watch_that_is_cut_or_expires_is_taken_up_again() {
    for (name, fault) in [
        ("cut at once", Fault::cut_after(0)),
        ("cut in a line", Fault::cut_after(2).times(2)),
        ("410 as an event", Fault::gone_after(1)),
        ("410 as the answer", Fault::gone()),
        ("500", Fault::status(500)),
        ("429", Fault::too_many_requests(1)),
        ("reset", Fault::reset()),
    ] {
        let api = cluster(&["worker-1", "worker-2"]);
        api.pace(Duration::from_millis(20));
        api.inject(fault.on(is_watch));
        let outcome = run(&api, &["--all-hosts", "--timeout=60"]).succeeded();
        assert!(api.injected() > 0, "{name}");
        assert_eq!(outcome.lines("ERROR").len(), 0, "{name}");
        assert!(api.requests().iter().filter(|seen| is_watch(seen)).count() > 1, "{name}");
    }
}

#[test]
fn a_pod_that_is_deleted_while_nobody_watches_is_missed() {
    let api = cluster(&["worker-1"]);
    api.kubelet(|_| Outcome::Hangs);
    // The pod is gone between the end of the one watch and the list before the next.
    api.inject(Fault::gone_after(2).on(is_watch));
    let cluster = Cluster::clone(&api);
    let first = std::sync::atomic::AtomicBool::new(true);
    api.before(
        move |seen| {
            let again = seen.verb == "list" && seen.resource == "pods";
            again && !first.swap(false, std::sync::atomic::Ordering::Relaxed)
        },
        move |_| cluster.delete(&path(INIT_POD)),
    );
    let outcome = run(&api, &[INIT_ONLY[0], INIT_ONLY[1], "--timeout=20"]);
    assert_eq!(failure(&outcome), format!("pod {INIT_POD}: somebody has deleted it"));
}

#[test]
fn a_slow_server_is_waited_for() {
    let api = cluster(&["worker-1"]);
    api.latency(Duration::from_millis(400));
    run(&api, &INIT_ONLY).succeeded();
}

#[test]
fn a_log_that_never_comes_does_not_keep_the_end_from_coming() {
    let api = cluster(&["worker-1"]);
    api.kubelet(|_| Outcome::Fails { container: "init".into(), code: 9, log: String::new() });
    api.inject(Fault::hang(Duration::from_secs(600)).on(|seen| seen.subresource == "log"));
    let begun = Instant::now();
    failure(&run(&api, &INIT_ONLY));
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
}
