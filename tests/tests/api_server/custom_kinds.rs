//! Custom kinds: there once their definition is, and held to its schema.

use kcm_tests::api_server::{ApiServer, Ask};
use serde_json::{Value, json};

use crate::{APPLY, message, patch};

const REPORT: &str = "/apis/kcm.intel.com/v1/namespaces/default/reconcilereports/n";

fn definition() -> Value {
    let report = json!({"type": "object", "required": ["count"], "properties": {
        "count": {"type": "integer"}, "names": {"type": "array", "items": {"type": "string"}},
        "note": {"type": "string"}, "free": {"type": "object",
            "x-kubernetes-preserve-unknown-fields": true}}});
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "reconcilereports.kcm.intel.com"},
        "spec": {"group": "kcm.intel.com", "scope": "Namespaced",
            "names": {"kind": "ReconcileReport", "plural": "reconcilereports"},
            "versions": [{"name": "v1", "served": true, "storage": true,
                "schema": {"openAPIV3Schema": {"type": "object", "properties": {"report": report}}}}]},
    })
}

fn apply(report: Value) -> Ask {
    let body = json!({"apiVersion": "kcm.intel.com/v1", "kind": "ReconcileReport",
        "metadata": {"name": "n"}, "report": report});
    patch(&format!("{REPORT}?fieldManager=kcm"), APPLY, body)
}

#[test]
fn a_kind_is_there_once_its_definition_is_applied_and_established() {
    let api = ApiServer::start();
    let report = apply(json!({"count": 1}));
    assert_eq!(api.send(&report).unwrap().status, 404);
    let path =
        "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/reconcilereports.kcm.intel.com";
    let applied = patch(&format!("{path}?fieldManager=kcm"), APPLY, definition());
    assert_eq!(api.send(&applied).unwrap().status, 201);
    api.settle();
    assert_eq!(api.send(&report).unwrap().status, 201);
    assert_eq!(api.get(REPORT).unwrap()["report"]["count"], 1);
}

#[test]
fn what_the_schema_does_not_have_is_refused() {
    let api = ApiServer::start();
    api.install_crds([definition()]);
    let start =
        "failed to create typed patch object (/n; kcm.intel.com/v1, Kind=ReconcileReport): .report";
    let cases = [
        (
            json!({"count": "1"}),
            500,
            format!("{start}.count: expected numeric (int or float), got &{{1}}"),
        ),
        (
            json!({"count": 1, "more": 1}),
            500,
            format!("{start}.more: field not declared in schema"),
        ),
        (
            json!({"count": 1, "names": [1]}),
            500,
            format!("{start}.names[0]: expected string, got &{{1}}"),
        ),
        (
            json!({"names": []}),
            422,
            "ReconcileReport.kcm.intel.com \"n\" is invalid: report.count: Required value".into(),
        ),
    ];
    for (report, status, expected) in cases {
        let reply = api.send(&apply(report.clone())).unwrap();
        assert_eq!((reply.status, message(&reply)), (status, expected), "{report}");
        assert_eq!(api.get(REPORT), None);
    }
    assert_eq!(api.send(&apply(json!({"count": 1, "note": null}))).unwrap().status, 422);
    assert_eq!(api.send(&apply(json!({"count": 1, "free": {"a": [1]}}))).unwrap().status, 201);
}
