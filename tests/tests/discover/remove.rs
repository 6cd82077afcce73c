//! `--remove` takes off what kcm has put there, and nothing else.

use kcm_tests::conf_dir::ConfDir;
use kcm_tests::kcm::run;
use serde_json::{Value, json};

use super::node::{DATAPLANE, NODE, capacity, cluster, discover, node, pools, taints};

#[test]
fn all_of_it_goes_and_the_rest_stays() {
    let (api, conf) = (cluster(), pools());
    let theirs = json!({"key": "gpu", "effect": "NoSchedule"});
    api.edit(NODE, |node| node["spec"]["taints"] = json!([theirs]));
    let before = node(&api);
    run(&mut discover(&api, &conf, &[])).succeeded();
    assert_eq!(capacity(&api, DATAPLANE), "2");
    run(&mut discover(&api, &conf, &["--remove"])).succeeded();
    let after = node(&api);
    assert_eq!(after["spec"]["taints"], before["spec"]["taints"]);
    assert_eq!(after["metadata"]["labels"], before["metadata"]["labels"]);
    assert_eq!(after["status"]["capacity"], before["status"]["capacity"]);
}

#[test]
fn pools_need_not_be_there_any_more() {
    let (api, conf) = (cluster(), pools());
    run(&mut discover(&api, &conf, &["--resource=example.com/fast"])).succeeded();
    assert_eq!(capacity(&api, "example.com/fast"), "2");
    let empty = ConfDir::new(&[]);
    let flags = ["--remove", "--resource=example.com/fast"];
    run(&mut discover(&api, &empty, &flags)).succeeded();
    assert_eq!(capacity(&api, "example.com/fast"), Value::Null);
    assert_eq!(capacity(&api, "kcm.intel.com/rt-cores"), Value::Null);
    assert_eq!(taints(&api), Value::Null);
}

#[test]
fn where_there_is_nothing_nothing_is_written() {
    let (api, conf) = (cluster(), pools());
    run(&mut discover(&api, &conf, &["--remove"])).succeeded();
    assert!(api.writes().is_empty());
}
