//! A user with rules may do what they say, and no more.

use std::fs;

use kcm_tests::api_server::{ApiServer, Ask, Rule, User};
use serde_json::{Value, json};

use crate::{APPLY, MERGE, PODS, message, patch};

fn user(rules: Vec<Rule>) -> User {
    User { name: "system:serviceaccount:default:kcm".into(), rules: Some(rules), node: None }
}

#[test]
fn each_verb_and_each_subresource_needs_a_rule_of_its_own() {
    let api = ApiServer::start();
    api.add_node("n");
    let token = api.token_of(user(vec![
        Rule::new("", "nodes", "get", None),
        Rule::new("", "pods", "get list", Some("default")),
    ]));
    let status = patch("/api/v1/nodes/n/status", MERGE, json!({}));
    let may_not =
        |what: &str| format!("forbidden: User \"system:serviceaccount:default:kcm\" cannot {what}");
    let cluster = "in API group \"\" at the cluster scope";
    let cases = [
        (Ask::get("/api/v1/nodes/n"), None),
        (Ask::get("/api/v1/nodes"), Some(format!("list resource \"nodes\" {cluster}"))),
        (status, Some(format!("patch resource \"nodes/status\" {cluster}"))),
        (Ask::get(PODS), None),
        (
            Ask::get(&format!("{PODS}?watch=1&timeoutSeconds=1")),
            Some("watch resource \"pods\" in API group \"\" in the namespace \"default\"".into()),
        ),
        (
            Ask::get("/api/v1/namespaces/other/pods"),
            Some("list resource \"pods\" in API group \"\" in the namespace \"other\"".into()),
        ),
        (
            Ask::get(&format!("{PODS}/a/log")),
            Some("get resource \"pods/log\" in API group \"\" in the namespace \"default\"".into()),
        ),
    ];
    for (ask, refused) in cases {
        let reply = api.send(&ask.clone().by(&token)).unwrap();
        match refused {
            None => assert_eq!(reply.status, 200, "{}", ask.path),
            Some(what) => {
                assert_eq!(reply.status, 403, "{}", ask.path);
                let message = message(&reply);
                assert!(message.ends_with(&may_not(&what)), "{message}");
            }
        }
    }
}

#[test]
fn an_apply_that_creates_needs_the_verb_create_too() {
    let api = ApiServer::start();
    let path = "/api/v1/namespaces/default/serviceaccounts/kcm?fieldManager=kcm";
    let account =
        json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "kcm"}});
    let apply = patch(path, APPLY, account);
    for (verbs, status) in [("patch", 403), ("patch create", 201), ("patch", 200)] {
        let token = api.token_of(user(vec![Rule::new("", "serviceaccounts", verbs, None)]));
        assert_eq!(api.send(&apply.clone().by(&token)).unwrap().status, status, "{verbs}");
    }
}

#[test]
fn rights_come_before_whether_there_is_such_a_kind() {
    let api = ApiServer::start();
    let path = "/apis/kcm.intel.com/v1/namespaces/default/nodereports/n";
    let token = api.token_of(user(Vec::new()));
    assert_eq!(api.send(&Ask::get(path).by(&token)).unwrap().status, 403);
    assert_eq!(api.send(&Ask::get(path)).unwrap().text, "404 page not found\n");
    assert_eq!(api.send(&Ask::get(path).by("made-up")).unwrap().status, 401);
}

#[test]
fn a_service_account_may_do_what_the_roles_bound_to_it_allow_where_they_are_bound() {
    let api = ApiServer::start();
    let group = "rbac.authorization.k8s.io";
    let apply = |plural: &str, kind: &str, rest: Value| {
        let path = format!("/apis/{group}/v1/namespaces/default/{plural}/kcm?fieldManager=kcm");
        let mut body = json!({"apiVersion": format!("{group}/v1"), "kind": kind,
            "metadata": {"name": "kcm"}});
        body.as_object_mut().unwrap().extend(rest.as_object().unwrap().clone());
        assert_eq!(api.send(&patch(&path, APPLY, body)).unwrap().status, 201, "{plural}");
    };
    let rule = json!({"apiGroups": [""], "resources": ["pods"], "verbs": ["list"]});
    apply("roles", "Role", json!({"rules": [rule]}));
    let subject = json!({"kind": "ServiceAccount", "name": "kcm", "namespace": "default"});
    let role = json!({"apiGroup": group, "kind": "Role", "name": "kcm"});
    apply("rolebindings", "RoleBinding", json!({"subjects": [subject], "roleRef": role}));

    let token = |account: &str| {
        let file =
            api.kubeconfig_by_rbac(&format!("system:serviceaccount:default:{account}"), None);
        let config: Value = serde_json::from_slice(&fs::read(file).unwrap()).unwrap();
        config["users"][0]["user"]["token"].as_str().unwrap().to_owned()
    };
    let cases = [
        ("kcm", PODS.to_owned(), 200),
        ("kcm", format!("{PODS}/a"), 403),
        ("kcm", "/api/v1/namespaces/other/pods".to_owned(), 403),
        ("other", PODS.to_owned(), 403),
    ];
    for (account, path, status) in cases {
        let reply = api.send(&Ask::get(&path).by(&token(account))).unwrap();
        assert_eq!(reply.status, status, "{account} {path}");
    }
}
