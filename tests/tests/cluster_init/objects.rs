//! What the pods need in the cluster is there before the first of them.

use kcm_tests::api_server::{ApiServer, Seen};
use serde_json::{Value, json};

use super::cluster::{INIT_ONLY, cluster, makes_pod, run};

const RBAC: &str = "/apis/rbac.authorization.k8s.io/v1";

/// A write as `kind name`.
fn told(seen: &Seen) -> String {
    format!("{} {}", seen.resource, seen.name)
}

#[test]
fn account_rights_and_kinds_are_applied_before_the_first_pod() {
    let api = cluster(&["worker-1"]);
    run(&api, &INIT_ONLY).succeeded();
    let writes = api.writes();
    let (pods, objects): (Vec<_>, Vec<_>) = writes.iter().partition(|seen| makes_pod(seen));
    assert_eq!(
        objects.iter().map(|seen| told(seen)).collect::<Vec<_>>(),
        [
            "serviceaccounts kcm",
            "clusterroles kcm",
            "clusterrolebindings kcm-default",
            "roles kcm",
            "rolebindings kcm",
            "customresourcedefinitions nodereports.kcm.intel.com",
            "customresourcedefinitions reconcilereports.kcm.intel.com",
        ]
    );
    for seen in &objects {
        assert_eq!(seen.content_type, "application/apply-patch+yaml", "{seen:?}");
        assert_eq!(seen.parameter("fieldManager"), Some("kcm"), "{seen:?}");
        assert_eq!(seen.parameter("force"), None, "{seen:?}");
    }
    assert_eq!(pods.len(), 1);
    assert!(makes_pod(writes.last().unwrap()), "a pod came before what it needs: {writes:?}");
}

/// What a binding binds: the role, and to whom.
fn bound(binding: &Value) -> (Value, Value) {
    (binding["roleRef"].clone(), binding["subjects"].clone())
}

fn account(namespace: &str) -> Value {
    json!([{"kind": "ServiceAccount", "name": "kcm", "namespace": namespace}])
}

fn role(kind: &str) -> Value {
    json!({"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": "kcm"})
}

#[track_caller]
fn check_rights(api: &ApiServer, namespace: &str) {
    let get = |path: String| api.get(&path).unwrap_or_else(|| panic!("{path} is not there"));
    get(format!("/api/v1/namespaces/{namespace}/serviceaccounts/kcm"));
    let cluster = get(format!("{RBAC}/clusterrolebindings/kcm-{namespace}"));
    assert_eq!(bound(&cluster), (role("ClusterRole"), account(namespace)));
    let local = get(format!("{RBAC}/namespaces/{namespace}/rolebindings/kcm"));
    assert_eq!(bound(&local), (role("Role"), account(namespace)));
    let rules = get(format!("{RBAC}/namespaces/{namespace}/roles/kcm"))["rules"].clone();
    let reports = json!([{"apiGroups": ["kcm.intel.com"],
        "resources": ["nodereports", "reconcilereports"], "verbs": ["create", "patch"]}]);
    assert_eq!(rules, reports);
}

#[test]
fn each_namespace_has_a_binding_of_its_own() {
    let api = cluster(&["worker-1"]);
    for namespace in ["default", "ops"] {
        run(&api, &["--all-hosts", "--kcm-cmd-list=init", &format!("--namespace={namespace}")])
            .succeeded();
    }
    // The second has taken nothing away from the first.
    check_rights(&api, "default");
    check_rights(&api, "ops");
    let nodes = json!([
        {"apiGroups": [""], "resources": ["nodes"], "verbs": ["get", "patch"]},
        {"apiGroups": [""], "resources": ["nodes/status"], "verbs": ["patch"]},
    ]);
    assert_eq!(api.get(&format!("{RBAC}/clusterroles/kcm")).unwrap()["rules"], nodes);
}

#[test]
fn rights_that_somebody_else_has_changed_are_not_taken_back_by_force() {
    let api = cluster(&["worker-1"]);
    run(&api, &INIT_ONLY).succeeded();
    api.edit(&format!("{RBAC}/clusterroles/kcm"), |role| {
        role["rules"] = json!([{"apiGroups": [""], "resources": ["nodes"], "verbs": ["get"]}]);
    });
    run(&api, &INIT_ONLY).failed_with(&[
        "cannot patch clusterroles kcm: HTTP status 409: ",
        "others than kcm own these fields",
    ]);
}
