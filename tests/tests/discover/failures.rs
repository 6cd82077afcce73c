//! What goes wrong is said once, with what to do, and nothing is half done.

use std::net::TcpListener;

use kcm_tests::api_server::{ApiServer, Fault, Rule, User};
use kcm_tests::conf_dir::ConfDir;
use kcm_tests::kcm::{kcm, run};

use super::node::{DATAPLANE, capacity, cluster, discover, pools};

#[test]
fn a_pool_that_cannot_be_counted_is_an_error_before_anything_is_asked() {
    let broken = pools();
    let exclusive = broken.path().join("pools/rt/exclusive");
    std::fs::remove_file(&exclusive).unwrap();
    std::fs::create_dir(&exclusive).unwrap();
    for (conf, part) in [
        (ConfDir::new(&[("infra", false, &["0"])]), "Dataplane pool does not exist"),
        (ConfDir::new(&[("dataplane", true, &[])]), "No CPU list in dataplane pool"),
        (ConfDir::new(&[("dataplane", false, &["0"])]), "pool dataplane of"),
        (broken, "rt/exclusive"),
    ] {
        let api = cluster();
        run(&mut discover(&api, &conf, &[])).failed_with(&[part]);
        assert!(api.requests().is_empty());
    }
}

#[test]
fn a_node_that_is_not_there_is_named_with_where_names_come_from() {
    let (api, conf) = (cluster(), pools());
    run(&mut discover(&api, &conf, &["--node-name=nosuch"])).failed_with(&[
        "cannot get nodes nosuch: HTTP status 404: nodes \"nosuch\" not found",
        "kubectl get nodes",
    ]);
}

#[test]
fn without_a_node_name_it_says_where_to_get_it() {
    let (api, conf) = (cluster(), pools());
    for name in [None, Some("")] {
        let mut command = discover(&api, &conf, &[]);
        command.env_remove("NODE_NAME");
        command.envs(name.map(|name| ("NODE_NAME", name)));
        run(&mut command).failed_with(&["--node-name", "NODE_NAME", "spec.nodeName"]);
    }
    assert!(api.requests().is_empty());
}

#[test]
fn a_right_that_is_missing_is_told_as_the_rule_to_add() {
    let get = Rule::new("", "nodes", "get", None);
    let patch = Rule::new("", "nodes", "get patch", None);
    for (rules, parts) in [
        (vec![], ["cannot get nodes worker-1: HTTP status 403: ", r#""verbs":["get"]"#]),
        (vec![get], ["cannot patch nodes worker-1: HTTP status 403: ", r#""verbs":["patch"]"#]),
        (
            vec![patch],
            [
                "cannot patch nodes/status worker-1: HTTP status 403: ",
                r#""resources":["nodes/status"]"#,
            ],
        ),
    ] {
        let (api, conf) = (cluster(), pools());
        let name = "system:serviceaccount:default:weak".to_owned();
        let user = User { name, rules: Some(rules), node: None };
        let mut command = discover(&api, &conf, &[]);
        command.env("KUBECONFIG", api.kubeconfig_of(&user));
        let outcome = run(&mut command).failed_with(&parts);
        assert!(outcome.err.contains("system:serviceaccount:default:weak"), "{outcome:?}");
        assert!(outcome.err.contains("packaging/kubernetes/base/rbac.yaml"), "{outcome:?}");
    }
}

#[test]
fn a_token_that_is_not_valid_is_said_to_be_none() {
    let (api, conf) = (cluster(), pools());
    let config = std::fs::read_to_string(api.kubeconfig()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("config");
    let mut config: serde_json::Value = serde_json::from_str(&config).unwrap();
    config["users"][0]["user"]["token"] = "wrong".into();
    std::fs::write(&file, config.to_string()).unwrap();
    run(discover(&api, &conf, &[]).env("KUBECONFIG", &file))
        .failed_with(&["HTTP status 401: Unauthorized", "token"]);
}

#[test]
fn what_may_pass_is_tried_again() {
    for fault in [
        Fault::status(500).times(2),
        Fault::status(502).times(1),
        Fault::status(503).times(2),
        Fault::too_many_requests(1).times(1),
        Fault::reset().times(2),
    ] {
        let (api, conf) = (cluster(), pools());
        api.inject(fault);
        run(&mut discover(&api, &conf, &[])).succeeded();
        assert_eq!(capacity(&api, DATAPLANE), "2");
    }
}

#[test]
fn a_server_that_stays_broken_is_an_error_that_has_its_status() {
    let (api, conf) = (cluster(), pools());
    api.inject(Fault::status(500).times(1000));
    run(&mut discover(&api, &conf, &[]))
        .failed_with(&["cannot get nodes worker-1: HTTP status 500: "]);
    assert!(api.injected() > 1);
}

#[test]
fn a_server_that_is_away_is_an_error_that_says_so() {
    let (api, conf) = (ApiServer::start(), pools());
    // A port at which nobody is.
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let config = std::fs::read_to_string(api.kubeconfig()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("config");
    let away = config.replace(&format!(":{}", api.port()), &format!(":{port}"));
    std::fs::write(&file, away).unwrap();
    run(discover(&api, &conf, &[]).env("KUBECONFIG", &file)).failed_with(&[
        "cannot get nodes worker-1: ",
        "Connection refused",
        "is the API server up",
    ]);
    assert!(api.requests().is_empty());
}

#[test]
fn without_a_cluster_it_says_what_to_set() {
    let conf = pools();
    let mut command = kcm();
    command.args(["discover", "--node-name=worker-1"]).env("KCM_CONF_DIR", conf.path());
    command.env("HOME", "/nonexistent");
    run(&mut command).failed_with(&["no cluster is known here: ", "KUBECONFIG", "service account"]);
}

#[test]
fn wrong_usage_is_told_before_anything_is_done() {
    let (api, conf) = (cluster(), pools());
    for (flags, part) in [
        (vec!["--resource=cores"], "domain/name"),
        (vec!["--resource=kubernetes.io/x"], "Kubernetes' own"),
        (vec!["--resource=Kcm.io/x"], "domain/name"),
        (vec!["--resource=a.b/x y"], "domain/name"),
        (vec!["--remove", "--no-taint"], "cannot be used with"),
        (vec!["--remove", "--interval=5"], "cannot be used with"),
        (vec!["--interval=-1"], "give seconds"),
    ] {
        let outcome = run(&mut discover(&api, &conf, &flags));
        assert_eq!(outcome.code, Some(2), "{flags:?}: {outcome:?}");
        assert!(outcome.err.contains(part), "{flags:?}: {outcome:?}");
    }
    assert!(api.requests().is_empty());
}
