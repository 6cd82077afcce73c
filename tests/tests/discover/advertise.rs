//! What a node shows: resources, label and taint, and nothing that is there already.

use kcm_tests::conf_dir::ConfDir;
use kcm_tests::kcm::run;
use serde_json::{Value, json};

use super::node::{DATAPLANE, NODE, capacity, cluster, discover, node, our_taint, pools, taints};

#[test]
fn a_fresh_node_shows_each_exclusive_pool_a_label_and_a_taint() {
    let (api, conf) = (cluster(), pools());
    let outcome = run(&mut discover(&api, &conf, &[])).succeeded();
    assert_eq!(outcome.out, "");
    assert_eq!(
        outcome.lines("INFO"),
        ["node worker-1 now shows kcm.intel.com/dataplane-cores: 2, kcm.intel.com/rt-cores: 1, \
             label kcm.intel.com/kcm-node=true, taint kcm=true:NoSchedule"]
    );
    assert_eq!(capacity(&api, DATAPLANE), "2");
    assert_eq!(capacity(&api, "kcm.intel.com/rt-cores"), "1");
    assert_eq!(capacity(&api, "kcm.intel.com/infra-cores"), Value::Null);
    assert_eq!(capacity(&api, "cpu"), "2");
    assert_eq!(node(&api)["metadata"]["labels"]["kcm.intel.com/kcm-node"], "true");
    assert_eq!(node(&api)["metadata"]["labels"]["kubernetes.io/os"], "linux");
    assert_eq!(taints(&api), json!([our_taint()]));
    // Each part by one request, to what it belongs to: first keep others out, then let pods come.
    let writes: Vec<String> = api.writes().iter().map(|seen| seen.path.clone()).collect();
    assert_eq!(writes, [NODE.to_owned(), format!("{NODE}/status")]);
    // The kubelet copies it: then the scheduler counts it.
    api.settle();
    assert_eq!(node(&api)["status"]["allocatable"][DATAPLANE], "2");
}

#[test]
fn a_second_time_nothing_is_written() {
    let (api, conf) = (cluster(), pools());
    run(&mut discover(&api, &conf, &[])).succeeded();
    let (before, writes) = (node(&api), api.writes().len());
    let outcome = run(&mut discover(&api, &conf, &[])).succeeded();
    assert_eq!(outcome.lines("INFO"), ["node worker-1 shows what it should already"]);
    assert_eq!(api.writes().len(), writes);
    assert_eq!(taints(&api), before["spec"]["taints"]);
}

#[test]
fn other_taints_stay_as_they_are() {
    let (api, conf) = (cluster(), pools());
    let gpu = json!({"key": "gpu", "effect": "NoExecute", "timeAdded": "2026-11-21T21:38:45Z"});
    let weak = json!({"key": "kcm", "value": "true", "effect": "PreferNoSchedule"});
    api.edit(NODE, |node| node["spec"]["taints"] = json!([gpu, weak]));
    run(&mut discover(&api, &conf, &[])).succeeded();
    assert_eq!(taints(&api), json!([gpu, weak, our_taint()]));
}

#[test]
fn no_taint_leaves_taints_alone() {
    let (api, conf) = (cluster(), pools());
    run(&mut discover(&api, &conf, &["--no-taint"])).succeeded();
    assert_eq!(taints(&api), Value::Null);
    assert_eq!(capacity(&api, DATAPLANE), "2");
    run(&mut discover(&api, &conf, &[])).succeeded();
    run(&mut discover(&api, &conf, &["--no-taint"])).succeeded();
    assert_eq!(taints(&api), json!([our_taint()]));
}

#[test]
fn the_resource_may_have_another_name_but_never_two() {
    let (api, conf) = (cluster(), pools());
    let original = "pod.alpha.kubernetes.io/opaque-int-resource-kcm";
    run(&mut discover(&api, &conf, &[&format!("--resource={original}")])).succeeded();
    assert_eq!(capacity(&api, original), "2");
    assert_eq!(capacity(&api, DATAPLANE), Value::Null);
    assert_eq!(capacity(&api, "kcm.intel.com/rt-cores"), "1");
    run(&mut discover(&api, &conf, &[])).succeeded();
    assert_eq!(capacity(&api, original), Value::Null);
    assert_eq!(capacity(&api, DATAPLANE), "2");
}

#[test]
fn what_is_held_counts_too() {
    let (api, conf) = (cluster(), pools());
    std::fs::write(conf.tasks_path("dataplane", "1"), "1").unwrap();
    run(&mut discover(&api, &conf, &[])).succeeded();
    assert_eq!(capacity(&api, DATAPLANE), "2");
}

#[test]
fn a_list_that_nobody_can_have_is_warned_of() {
    let (api, conf) = (cluster(), ConfDir::new(&[("dataplane", true, &["0", "4000"])]));
    let outcome = run(&mut discover(&api, &conf, &[])).succeeded();
    assert_eq!(
        outcome.lines("WARNING"),
        ["CPU list 4000 of pool dataplane is counted, but its CPUs 4000 are not online: no \
             container can have it"]
    );
    assert_eq!(capacity(&api, DATAPLANE), "2");
}
