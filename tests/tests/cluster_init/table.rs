//! The table at the end, and the log before it.

use kcm_tests::api_server::Outcome;
use serde_json::Value;

use super::cluster::{cluster, rows, run};

/// The second of three nodes fails.
fn one_bad(pod: &Value) -> Outcome {
    match pod["spec"]["nodeName"].as_str() {
        Some("worker-2") => {
            Outcome::Fails { container: "init".into(), code: 3, log: "no such core\n".into() }
        }
        _ => Outcome::usual(pod),
    }
}

#[test]
fn one_bad_node_does_not_stop_the_others_and_the_table_has_all() {
    let api = cluster(&["worker-3", "worker-1", "worker-2"]);
    api.kubelet(one_bad);
    let outcome = run(&api, &["--all-hosts"]);
    assert_eq!(outcome.code, Some(1), "{outcome:?}");
    // Seconds differ from run to run; all else does not.
    let table: Vec<String> = outcome.out.lines().map(without_seconds).collect();
    assert_eq!(
        table,
        [
            "NODE      RESULT  SECONDS  DETAIL",
            "worker-1  ready   SSSSSSS",
            "worker-2  failed  SSSSSSS  pod kcm-init-install-discover-pod-worker-2: init ended with \
             status 3",
            "worker-3  ready   SSSSSSS",
        ]
    );
    assert_eq!(
        outcome.lines("ERROR"),
        [
            "worker-2: pod kcm-init-install-discover-pod-worker-2: init ended with status 3",
            "1 of 3 nodes are not ready",
        ]
    );
    let info = outcome.lines("INFO");
    for line in ["worker-1: ready", "worker-3: ready", "worker-2: init said: no such core"] {
        assert!(info.contains(&line), "{outcome:?}");
    }
    // The node that failed gets no second pod.
    assert_eq!(
        api.get("/api/v1/namespaces/default/pods/kcm-reconcile-nodereport-pod-worker-2"),
        None
    );
}

/// A line of the table with its number, which is seven wide, replaced.
fn without_seconds(line: &str) -> String {
    match line.starts_with("NODE") {
        true => line.to_owned(),
        false => {
            assert!(line[18..25].trim().parse::<f64>().is_ok(), "{line}");
            format!("{}SSSSSSS{}", &line[..18], &line[25..])
        }
    }
}

#[test]
fn the_table_is_as_wide_as_the_longest_name_and_in_the_order_of_names() {
    let api = cluster(&["n", "a-node-of-a-long-name", "b"]);
    let outcome = run(&api, &["--all-hosts", "--kcm-cmd-list=init"]).succeeded();
    let lines: Vec<&str> = outcome.out.lines().collect();
    assert_eq!(lines[0], "NODE                   RESULT  SECONDS  DETAIL");
    assert!(lines[1].starts_with("a-node-of-a-long-name  ready  "), "{lines:?}");
    let rows = rows(&outcome.out);
    let names: Vec<&str> = rows.iter().map(|(name, ..)| name.as_str()).collect();
    assert_eq!(names, ["a-node-of-a-long-name", "b", "n"]);
    assert_eq!(outcome.lines("ERROR").len(), 0);
}
