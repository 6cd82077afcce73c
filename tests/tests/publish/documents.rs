//! What the custom resources say.

use kcm_tests::conf_dir::ConfDir;
use kcm_tests::kcm::run;
use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::cluster::{NODE_REPORT, RECONCILE_REPORT, cluster, pools, publish};

/// Its time, in RFC 3339 with its zone, is now.
fn is_of_now(object: &Value) {
    let text = object["last_updated"].as_str().unwrap();
    let age = OffsetDateTime::now_utc() - OffsetDateTime::parse(text, &Rfc3339).unwrap();
    assert!((0..120).contains(&age.whole_seconds()), "{text}");
}

#[test]
fn a_node_report_is_made_named_after_the_node() {
    let (api, conf) = (cluster(), pools());
    let printed = run(&mut publish(&api, &conf, &["node-report"])).succeeded().out;
    let printed: Value = serde_json::from_str(&printed).unwrap();
    let object = api.get(NODE_REPORT).unwrap();
    assert_eq!(object["apiVersion"], "kcm.intel.com/v1");
    assert_eq!(object["kind"], "NodeReport");
    assert_eq!(object["metadata"]["name"], "worker-1");
    is_of_now(&object);
    // The pools overlap, which a report is there to say.
    let overlaps = [
        "CPU list overlap detected in dataplane:0 and infra:0-1 (in both: [0])",
        "CPU list overlap detected in dataplane:1 and infra:0-1 (in both: [1])",
    ];
    let pools = json!({
        "dataplane": {"exclusive": true, "name": "dataplane", "cpuLists": {
            "0": {"cpus": "0", "tasks": []},
            "1": {"cpus": "1", "tasks": [std::process::id()]},
        }},
        "infra": {"exclusive": false, "name": "infra", "cpuLists": {
            "0-1": {"cpus": "0-1", "tasks": []},
        }},
    });
    assert_eq!(
        object["report"],
        json!({
            "checks": {
                "configDirectory": {"errors": overlaps, "ok": false},
                "isolation": printed["checks"]["isolation"],
            },
            "description": {"path": conf.path(), "pools": pools},
            "summary": {"ok": false, "pools": 2, "exclusiveFree": 1, "exclusiveTotal": 2},
        })
    );
    assert!(object["report"]["checks"]["isolation"]["pools"]["dataplane"]["partition"].is_object());
    assert_eq!(object["topology"], printed["topology"]);
}

#[test]
fn a_directory_that_cannot_be_read_is_reported_as_none() {
    let (api, conf) = (cluster(), ConfDir::new(&[]));
    let gone = conf.path().join("gone");
    run(publish(&api, &conf, &["node-report"]).env("KCM_CONF_DIR", &gone)).succeeded();
    let report = &api.get(NODE_REPORT).unwrap()["report"];
    assert_eq!(report["description"], Value::Null);
    assert_eq!(report["checks"]["configDirectory"]["ok"], false);
    let summary = json!({"ok": false, "pools": 0, "exclusiveFree": 0, "exclusiveTotal": 0});
    assert_eq!(report["summary"], summary);
}

#[test]
fn a_report_is_updated_in_place() {
    let (api, conf) = (cluster(), pools());
    run(&mut publish(&api, &conf, &["node-report"])).succeeded();
    let before = api.get(NODE_REPORT).unwrap();
    std::fs::write(conf.tasks_path("dataplane", "1"), "").unwrap();
    run(&mut publish(&api, &conf, &["node-report"])).succeeded();
    let after = api.get(NODE_REPORT).unwrap();
    assert_eq!(after["metadata"]["uid"], before["metadata"]["uid"]);
    assert_eq!(after["report"]["summary"]["exclusiveFree"], 2);
    // Each by one request, and nothing is read first or deleted.
    let requests: Vec<(String, u16)> =
        api.requests().into_iter().map(|seen| (seen.verb, seen.status)).collect();
    assert_eq!(requests, [("patch".to_owned(), 201), ("patch".to_owned(), 200)]);
}

#[test]
fn a_list_that_is_gone_is_gone_from_the_report() {
    let (api, conf) = (cluster(), pools());
    run(&mut publish(&api, &conf, &["node-report"])).succeeded();
    std::fs::remove_dir_all(conf.path().join("pools/dataplane/0")).unwrap();
    run(&mut publish(&api, &conf, &["node-report"])).succeeded();
    let object = api.get(NODE_REPORT).unwrap();
    let lists = &object["report"]["description"]["pools"]["dataplane"]["cpuLists"];
    let names: Vec<&String> = lists.as_object().unwrap().keys().collect();
    assert_eq!(names, ["1"]);
}

#[test]
fn a_reconcile_report_has_what_the_round_found() {
    let (api, conf) = (cluster(), pools());
    // A process id that nobody has: pid_max is 4,194,304 at the most.
    std::fs::write(conf.tasks_path("dataplane", "0"), "4194305").unwrap();
    run(&mut publish(&api, &conf, &["reconcile"])).succeeded();
    let object = api.get(RECONCILE_REPORT).unwrap();
    assert_eq!(
        (&object["kind"], &object["metadata"]["name"]),
        (&json!("ReconcileReport"), &json!("worker-1"))
    );
    is_of_now(&object);
    assert_eq!(
        object["report"],
        json!({
            "mismatchedCpuMasks": object["report"]["mismatchedCpuMasks"],
            "reclaimedCpuLists": [{"cpus": "0", "pid": 4194305, "pool": "dataplane"}],
            "summary": {
                "mismatched": object["report"]["mismatchedCpuMasks"].as_array().unwrap().len(),
                "reclaimed": 1,
            },
        })
    );
    // The next round says what it found itself.
    run(&mut publish(&api, &conf, &["reconcile"])).succeeded();
    let object = api.get(RECONCILE_REPORT).unwrap();
    assert_eq!(object["report"]["reclaimedCpuLists"], json!([]));
}

#[test]
fn another_namespace_may_have_it() {
    let (api, conf) = (cluster(), pools());
    let words = ["node-report", "--namespace=kcm-system"];
    run(&mut publish(&api, &conf, &words)).succeeded();
    assert!(api.get(&NODE_REPORT.replace("/default/", "/kcm-system/")).is_some());
    assert!(api.get(NODE_REPORT).is_none());
}
