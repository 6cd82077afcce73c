//! The commands as the service account: the roles in the cluster are enough, and each is needed.

use std::path::PathBuf;

use kcm_tests::api_server::ApiServer;
use kcm_tests::kcm::{kcm, run};
use serde_json::Value;

use super::commands::{NODE, all, all_succeed, cluster};
use super::manifest::{objects, with_less};

/// Puts the objects of a manifest into the cluster, as kubectl does.
fn create(api: &ApiServer, objects: Vec<Value>) {
    let rbac = "/apis/rbac.authorization.k8s.io/v1";
    for object in objects {
        let namespace = object["metadata"]["namespace"].as_str().unwrap_or_default();
        let collection = match object["kind"].as_str().unwrap() {
            "ServiceAccount" => format!("/api/v1/namespaces/{namespace}/serviceaccounts"),
            "ClusterRole" => format!("{rbac}/clusterroles"),
            "ClusterRoleBinding" => format!("{rbac}/clusterrolebindings"),
            "Role" => format!("{rbac}/namespaces/{namespace}/roles"),
            "RoleBinding" => format!("{rbac}/namespaces/{namespace}/rolebindings"),
            other => panic!("{other} is new in the manifest"),
        };
        api.create(&collection, object);
    }
}

fn account(api: &ApiServer, namespace: &str) -> PathBuf {
    let name = format!("system:serviceaccount:{namespace}:kcm");
    api.kubeconfig_by_rbac(&name, Some(NODE))
}

#[test]
fn the_manifest_lets_the_commands_work() {
    let api = cluster();
    create(&api, objects());
    all_succeed(&api, &account(&api, "kcm-system"), "kcm-system");
}

#[test]
fn cluster_init_lets_the_commands_work() {
    for namespace in ["default", "ops"] {
        let api = ApiServer::start();
        api.add_node(NODE);
        let place = format!("--namespace={namespace}");
        let mut init = kcm();
        init.args(["cluster-init", "--all-hosts", "--kcm-cmd-list=init", &place]);
        run(init.env("KUBECONFIG", api.kubeconfig())).succeeded();
        api.settle();
        all_succeed(&api, &account(&api, namespace), namespace);
    }
}

#[test]
fn without_any_one_of_its_verbs_some_command_is_refused() {
    for (what, copy) in with_less() {
        let api = cluster();
        create(&api, copy);
        let outcomes = all(&account(&api, "kcm-system"), "kcm-system");
        let is_refused = |err: &str| err.contains("HTTP status 403") && err.contains("rbac.yaml");
        assert!(outcomes.iter().any(|(_, outcome)| is_refused(&outcome.err)), "{what}");
    }
}

#[test]
fn reports_are_written_in_the_accounts_own_namespace_alone() {
    let api = cluster();
    create(&api, objects());
    for (command, outcome) in all(&account(&api, "kcm-system"), "elsewhere") {
        let publishes = command.contains("re") && !command.starts_with("discover");
        let refused = outcome.err.contains("in namespace elsewhere: HTTP status 403");
        assert_eq!(refused, publishes, "{command}: {outcome:?}");
    }
}
