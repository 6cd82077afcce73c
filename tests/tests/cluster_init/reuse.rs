//! A second run: pods that are there already are left as they are.

use std::collections::BTreeMap;

use kcm_tests::api_server::{ApiServer, Outcome};
use serde_json::{Value, json};

use super::cluster::{
    INIT_ONLY, INIT_POD, cluster, cluster_where_all, failure, first_pod, path, rows, run,
    second_pod,
};

/// The versions of all that `cluster-init` makes for one node.
fn versions(api: &ApiServer) -> BTreeMap<String, Value> {
    let rbac = "/apis/rbac.authorization.k8s.io/v1";
    let crds = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
    let paths = [
        "/api/v1/namespaces/default/serviceaccounts/kcm".to_owned(),
        format!("{rbac}/clusterroles/kcm"),
        format!("{rbac}/clusterrolebindings/kcm-default"),
        format!("{rbac}/namespaces/default/roles/kcm"),
        format!("{rbac}/namespaces/default/rolebindings/kcm"),
        format!("{crds}/nodereports.kcm.intel.com"),
        format!("{crds}/reconcilereports.kcm.intel.com"),
        path(&first_pod("worker-1")),
        path(&second_pod("worker-1")),
    ];
    let version = |path: String| {
        let object = api.get(&path).unwrap_or_else(|| panic!("{path} is not there"));
        (path, object["metadata"]["resourceVersion"].clone())
    };
    paths.into_iter().map(version).collect()
}

#[test]
fn a_second_run_changes_nothing_and_is_content() {
    let api = cluster(&["worker-1"]);
    run(&api, &["--all-hosts"]).succeeded();
    api.settle();
    let before = versions(&api);
    let outcome = run(&api, &["--all-hosts"]).succeeded();
    api.settle();
    assert_eq!(versions(&api), before);
    let info = outcome.lines("INFO");
    for pod in [first_pod("worker-1"), second_pod("worker-1")] {
        let line = format!("worker-1: {pod} is there already");
        assert!(info.contains(&line.as_str()), "{outcome:?}");
    }
}

/// A run with some flags after one without.
fn run_twice(api: &ApiServer, flags: &[&str]) -> kcm_tests::kcm::Outcome {
    run(api, &INIT_ONLY).succeeded();
    let mut all = INIT_ONLY.to_vec();
    all.extend(flags);
    run(api, &all)
}

#[test]
fn a_pod_that_differs_is_an_error_that_says_where() {
    for (flag, difference) in [
        (
            "--num-dp-cores=8",
            r#"spec.containers[init].args is ["init","--num-dp-cores=4","--num-cp-cores=1"], not ["init","--num-dp-cores=8","--num-cp-cores=1"]"#,
        ),
        ("--kcm-img=kcm:2", r#"spec.containers[init].image is "kcm:0.1.0", not "kcm:2""#),
        (
            "--conf-dir=/srv/kcm",
            r#"spec.volumes[kcm-conf-dir].hostPath.path is "/etc/kcm", not "/srv/kcm""#,
        ),
    ] {
        let api = cluster(&["worker-1"]);
        let outcome = run_twice(&api, &[flag]);
        assert_eq!(
            failure(&outcome),
            format!(
                "pod {INIT_POD}: there is another of this name already: {difference}; remove it: \
                 kubectl delete pod --namespace=default {INIT_POD}"
            )
        );
    }
}

#[test]
fn a_pod_that_is_somebody_elses_stops_its_node_alone() {
    let api = cluster(&["worker-1", "worker-2"]);
    let foreign = json!({"metadata": {"name": INIT_POD}, "spec": {"nodeName": "worker-1",
        "containers": [{"name": "c", "image": "busybox"}]}});
    api.create("/api/v1/namespaces/default/pods", foreign);
    api.settle();
    let before = api.get(&path(INIT_POD));
    let outcome = run(&api, &["--all-hosts", "--kcm-cmd-list=init"]);
    assert_eq!(outcome.code, Some(1));
    let rows = rows(&outcome.out);
    assert!(rows[0].2.contains("there is another of this name already: metadata.labels"));
    assert_eq!(rows[1], ("worker-2".into(), "ready".into(), String::new()));
    assert_eq!(api.get(&path(INIT_POD)), before);
}

#[test]
fn a_pod_that_failed_in_an_earlier_run_is_an_error_that_says_how_to_remove_it() {
    let api = cluster_where_all(Outcome::Fails {
        container: "init".into(),
        code: 1,
        log: "ERROR too few cores\n".into(),
    });
    run(&api, &INIT_ONLY);
    api.settle();
    let before = api.get(&path(INIT_POD));
    let outcome = run(&api, &INIT_ONLY);
    assert_eq!(
        failure(&outcome),
        format!(
            "pod {INIT_POD}: it is there already, from an earlier time, and has failed; remove it: \
             kubectl delete pod --namespace=default {INIT_POD}"
        )
    );
    assert_eq!(api.get(&path(INIT_POD)), before);
    // Then it can be made anew.
    api.delete(&path(INIT_POD));
    api.kubelet(|_| Outcome::Succeeds);
    run(&api, &INIT_ONLY).succeeded();
}

#[test]
fn a_pod_that_is_still_at_work_is_waited_for() {
    let api = cluster_where_all(Outcome::Hangs);
    let mut flags = INIT_ONLY.to_vec();
    flags.push("--timeout=1");
    failure(&run(&api, &flags));
    let edited = std::thread::spawn({
        let cluster = kcm_tests::api_server::Cluster::clone(&api);
        move || {
            std::thread::sleep(std::time::Duration::from_millis(500));
            cluster.edit(&path(INIT_POD), |pod| pod["status"]["phase"] = json!("Succeeded"));
        }
    });
    run(&api, &INIT_ONLY).succeeded();
    edited.join().unwrap();
}
