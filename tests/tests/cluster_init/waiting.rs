//! What it waits for, in which order, and for how long.

use std::time::{Duration, Instant};

use kcm_tests::api_server::Outcome;

use super::cluster::{
    INIT_ONLY, INIT_POD, cluster, cluster_where_all, failure, first_pod, made_names, only_row,
    path, run, second_pod,
};

#[test]
fn the_second_pod_is_made_when_the_first_has_succeeded() {
    let api = cluster(&["worker-1"]);
    api.pace(Duration::from_millis(50));
    let first = path(&first_pod("worker-1"));
    let second = second_pod("worker-1");
    let watched = second.clone();
    api.before(
        move |seen| seen.verb == "create" && seen.body["metadata"]["name"] == watched.as_str(),
        move |cluster| {
            let phase = cluster.get(&first).unwrap()["status"]["phase"].clone();
            assert_eq!(phase, "Succeeded");
        },
    );
    let outcome = run(&api, &["--all-hosts"]).succeeded();
    assert_eq!(made_names(&api), [first_pod("worker-1"), second.clone()]);
    assert_eq!(only_row(&outcome), ("ready".to_owned(), String::new()));
    assert_eq!(api.get(&path(&second)).unwrap()["status"]["phase"], "Running");
}

#[test]
fn nothing_is_asked_while_it_waits() {
    let api = cluster(&["worker-1"]);
    api.pace(Duration::from_millis(200));
    run(&api, &INIT_ONLY).succeeded();
    let asked = api.requests().into_iter().filter(|seen| seen.resource == "pods");
    let mut verbs: Vec<String> = asked.map(|seen| seen.verb).collect();
    verbs.sort();
    assert_eq!(verbs, ["create", "list", "watch"]);
}

#[test]
fn the_time_limit_ends_a_node_and_says_what_it_waited_for() {
    let api = cluster_where_all(Outcome::Hangs);
    let begun = Instant::now();
    let mut flags = INIT_ONLY.to_vec();
    flags.push("--timeout=2");
    let outcome = run(&api, &flags);
    assert_eq!(
        failure(&outcome),
        format!("pod {INIT_POD}: not ready after 2 s: init: ContainerCreating")
    );
    assert!(begun.elapsed() >= Duration::from_secs(2));
    assert!(begun.elapsed() < Duration::from_secs(6), "{:?}", begun.elapsed());
    let logs = api.requests().into_iter().filter(|seen| seen.subresource == "log");
    let asked: Vec<_> = logs.map(|seen| (seen.name, seen.status)).collect();
    // A container that has not begun has none.
    assert_eq!(asked, [(INIT_POD.to_owned(), 400)]);
}

#[test]
fn a_container_that_never_ends_is_named_with_the_end_of_its_log() {
    let api = cluster_where_all(Outcome::Runs);
    let log: String = (1..=12).map(|number| format!("line {number}\n")).collect();
    api.before(
        |seen| seen.subresource == "log",
        move |cluster| cluster.write_log(&path(INIT_POD), "init", &log),
    );
    let mut flags = INIT_ONLY.to_vec();
    flags.push("--timeout=1");
    let outcome = run(&api, &flags);
    assert_eq!(
        failure(&outcome),
        format!("pod {INIT_POD}: not ready after 1 s: {INIT_POD} is running")
    );
    let info = outcome.lines("INFO");
    assert!(!info.contains(&"worker-1: init said: line 2"), "{outcome:?}");
    assert!(info.contains(&"worker-1: init said: line 3"), "{outcome:?}");
    assert!(info.contains(&"worker-1: init said: line 12"), "{outcome:?}");
}

#[test]
fn a_pod_that_no_kubelet_takes_ends_with_the_time_limit() {
    let api = cluster(&["worker-1"]);
    api.pace(Duration::from_secs(60));
    let mut flags = INIT_ONLY.to_vec();
    flags.push("--timeout=1");
    let outcome = run(&api, &flags);
    assert_eq!(
        failure(&outcome),
        format!("pod {INIT_POD}: not ready after 1 s: it is not on its node yet")
    );
}

#[test]
fn a_pod_that_should_go_on_is_believed_when_it_has_run_for_a_while() {
    let api = cluster(&["worker-1"]);
    let begun = Instant::now();
    run(&api, &["--all-hosts", "--kcm-cmd-list=reconcile"]).succeeded();
    assert!(begun.elapsed() >= Duration::from_secs(2));
}
