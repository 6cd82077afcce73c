//! Whoever runs `cluster-init` lacks a right.

use kcm_tests::api_server::{ApiServer, Outcome, Rule, User};
use kcm_tests::kcm;

use super::cluster::{INIT_ONLY, INIT_POD, cluster, cluster_init, failure};

/// `cluster-init` by a user who may do all that it needs but one thing.
fn without(api: &ApiServer, missing: &str) -> kcm::Outcome {
    let rbac = "rbac.authorization.k8s.io";
    let all = [
        ("", "nodes", "list"),
        ("", "serviceaccounts", "create patch"),
        (rbac, "clusterroles", "create patch"),
        (rbac, "clusterrolebindings", "create patch"),
        (rbac, "roles", "create patch"),
        (rbac, "rolebindings", "create patch"),
        ("apiextensions.k8s.io", "customresourcedefinitions", "create patch"),
        ("", "pods", "create get list watch"),
        ("", "pods/log", "get"),
    ];
    let rules = all.iter().flat_map(|(group, resource, verbs)| {
        let verbs = verbs.split(' ').filter(|verb| format!("{verb} {resource}") != missing);
        verbs.map(|verb| Rule::new(group, resource, verb, None)).collect::<Vec<_>>()
    });
    let user = User { name: "operator".into(), rules: Some(rules.collect()), node: None };
    let mut command = cluster_init(api, &INIT_ONLY);
    kcm::run(command.env("KUBECONFIG", api.kubeconfig_of(&user)))
}

#[test]
fn what_is_not_allowed_is_told_as_the_rule_to_add() {
    without(&cluster(&["worker-1"]), "nothing").succeeded();
    for (missing, text, rule) in [
        (
            "list nodes",
            "cannot list nodes: HTTP status 403: ",
            r#"{"apiGroups":[""],"resources":["nodes"],"verbs":["list"]}"#,
        ),
        (
            "patch serviceaccounts",
            "cannot patch serviceaccounts kcm in namespace default: HTTP status 403: ",
            r#"{"apiGroups":[""],"resources":["serviceaccounts"],"verbs":["create","patch"]}"#,
        ),
        (
            "create clusterroles",
            "cannot patch clusterroles kcm: HTTP status 403: ",
            r#""resources":["clusterroles"],"verbs":["create","patch"]}"#,
        ),
        (
            "list pods",
            "cannot list pods in namespace default: HTTP status 403: ",
            r#"{"apiGroups":[""],"resources":["pods"],"verbs":["list"]}"#,
        ),
        (
            "watch pods",
            "cannot watch pods in namespace default: HTTP status 403: ",
            r#"{"apiGroups":[""],"resources":["pods"],"verbs":["watch"]}"#,
        ),
    ] {
        let api = cluster(&["worker-1"]);
        without(&api, missing).failed_with(&[text, rule]);
    }
}

#[test]
fn pods_that_may_not_be_made_fail_their_nodes_with_the_rule_to_add() {
    let api = cluster(&["worker-1"]);
    let detail = failure(&without(&api, "create pods"));
    let rule = r#"{"apiGroups":[""],"resources":["pods"],"verbs":["create"]}"#;
    for part in ["HTTP status 403", rule] {
        assert!(detail.contains(part), "{detail}");
    }
}

#[test]
fn logs_that_may_not_be_read_do_not_hide_why_a_pod_failed() {
    let api = cluster(&["worker-1"]);
    api.kubelet(|_| Outcome::Fails { container: "init".into(), code: 9, log: String::new() });
    let outcome = without(&api, "get pods/log");
    assert_eq!(failure(&outcome), format!("pod {INIT_POD}: init ended with status 9"));
}
