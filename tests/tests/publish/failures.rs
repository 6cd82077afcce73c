//! What goes wrong is said once, with what to do. The document is printed all the same.

use kcm_tests::api_server::{ApiServer, Fault, User};
use kcm_tests::kcm::{Outcome, run};
use serde_json::json;

use super::cluster::{NODE_REPORT, cluster, definitions, pools, publish};

/// It failed with status 1, after its document, and one ERROR line that has these parts.
fn failed_after_printing(outcome: &Outcome, parts: &[&str]) {
    assert_eq!(outcome.code, Some(1), "{outcome:?}");
    assert!(outcome.out.starts_with("{\n"), "{outcome:?}");
    let errors = outcome.lines("ERROR");
    assert_eq!(errors.len(), 1, "{outcome:?}");
    for part in parts {
        assert!(errors[0].contains(part), "{part:?} is not in {outcome:?}");
    }
}

#[test]
fn a_cluster_that_does_not_know_the_kind_is_said_how_to_be_told() {
    let (api, conf) = (ApiServer::start(), pools());
    let outcome = run(&mut publish(&api, &conf, &["node-report"]));
    failed_after_printing(
        &outcome,
        &[
            "cannot patch nodereports worker-1 in namespace default: HTTP status 404: ",
            "kcm crds | kubectl apply --server-side -f -",
        ],
    );
}

#[test]
fn a_definition_of_another_version_is_said_to_be_that() {
    let (api, conf) = (ApiServer::start(), pools());
    let mut old = definitions();
    let at = "/spec/versions/0/schema/openAPIV3Schema/properties/report/properties/checks\
              /properties/configDirectory/properties/ok";
    *old[0].pointer_mut(at).unwrap() = json!({"type": "string"});
    api.install_crds(old);
    let outcome = run(&mut publish(&api, &conf, &["node-report"]));
    let parts = ["HTTP status 500: failed to create typed patch object", "another version of kcm"];
    failed_after_printing(&outcome, &parts);
    // It is no passing trouble.
    assert_eq!(api.requests().len(), 1);
}

#[test]
fn what_others_wrote_into_it_is_taken_back_and_said() {
    let (api, conf) = (cluster(), pools());
    run(&mut publish(&api, &conf, &["node-report"])).succeeded();
    let theirs = json!({
        "apiVersion": "kcm.intel.com/v1", "kind": "NodeReport", "metadata": {"name": "worker-1"},
        "report": {"summary": {"pools": 77}},
    });
    let path = format!("{NODE_REPORT}?fieldManager=other&force=true");
    let apply = "application/apply-patch+yaml";
    let ask = kcm_tests::api_server::Ask::with("PATCH", &path, apply, theirs);
    assert_eq!(api.send(&ask).unwrap().status, 200);
    assert_eq!(api.get(NODE_REPORT).unwrap()["report"]["summary"]["pools"], 77);
    let outcome = run(&mut publish(&api, &conf, &["node-report"])).succeeded();
    let warnings = outcome.lines("WARNING");
    assert!(
        warnings[0].contains("conflict with \"other\"")
            || warnings[0].contains("conflicts with \"other\""),
        "{warnings:?}"
    );
    assert!(warnings[0].contains(".report.summary.pools"), "{warnings:?}");
    assert_eq!(api.get(NODE_REPORT).unwrap()["report"]["summary"]["pools"], 2);
}

#[test]
fn a_right_that_is_missing_is_told_as_the_rule_to_add() {
    let (api, conf) = (cluster(), pools());
    let name = "system:serviceaccount:default:weak".to_owned();
    let user = User { name, rules: Some(Vec::new()), node: None };
    let mut command = publish(&api, &conf, &["reconcile"]);
    let outcome = run(command.env("KUBECONFIG", api.kubeconfig_of(&user)));
    failed_after_printing(
        &outcome,
        &[
            "cannot patch reconcilereports worker-1 in namespace default: HTTP status 403: ",
            r#"{"apiGroups":["kcm.intel.com"],"resources":["reconcilereports"],"verbs":["create","patch"]}"#,
        ],
    );
}

#[test]
fn what_may_pass_is_tried_again() {
    for fault in [
        Fault::status(500).times(2),
        Fault::status(503).times(1),
        Fault::too_many_requests(1).times(1),
        Fault::reset().times(1),
    ] {
        let (api, conf) = (cluster(), pools());
        api.inject(fault);
        run(&mut publish(&api, &conf, &["node-report"])).succeeded();
        assert!(api.get(NODE_REPORT).is_some());
    }
}

#[test]
fn a_server_that_hangs_holds_up_no_round_for_long() {
    let (api, conf) = (cluster(), pools());
    api.inject(Fault::hang(std::time::Duration::from_secs(300)).times(9));
    let outcome = run(&mut publish(&api, &conf, &["reconcile"]));
    let parts =
        ["cannot patch reconcilereports worker-1", "no answer within 15 s", "is the API server up"];
    failed_after_printing(&outcome, &parts);
}

#[test]
fn wrong_usage_is_told_before_anything_is_done() {
    let (api, conf) = (cluster(), pools());
    for command in ["node-report", "reconcile"] {
        let mut nameless = publish(&api, &conf, &[command]);
        run(nameless.env_remove("NODE_NAME")).failed_with(&["--node-name", "NODE_NAME"]);
        let mut command_line = kcm_tests::kcm::kcm();
        let outcome = run(command_line.args([command, "--namespace=x"]));
        assert_eq!(outcome.code, Some(2), "{outcome:?}");
        assert!(outcome.err.contains("--publish"), "{outcome:?}");
    }
    assert!(api.requests().is_empty());
}
