//! Others change the node at the same time: nothing of theirs is lost.

use kcm_tests::api_server::{Fault, Seen};
use kcm_tests::kcm::run;
use serde_json::json;

use super::node::{DATAPLANE, NODE, capacity, cluster, discover, our_taint, pools, taints};

fn is_patch_of_the_node(seen: &Seen) -> bool {
    seen.verb == "patch" && seen.resource == "nodes" && seen.subresource.is_empty()
}

#[test]
fn a_taint_that_comes_between_reading_and_writing_stays() {
    let (api, conf) = (cluster(), pools());
    let theirs = json!({"key": "maintenance", "effect": "NoExecute"});
    let taint = theirs.clone();
    api.before(is_patch_of_the_node, move |cluster| {
        cluster.edit(NODE, |node| node["spec"]["taints"] = json!([taint]));
    });
    run(&mut discover(&api, &conf, &[])).succeeded();
    assert_eq!(taints(&api), json!([theirs, our_taint()]));
    let statuses: Vec<u16> =
        api.writes().into_iter().filter(is_patch_of_the_node).map(|seen| seen.status).collect();
    assert_eq!(statuses, [409, 200]);
}

#[test]
fn it_goes_on_through_several_conflicts() {
    for code in [409, 422] {
        let (api, conf) = (cluster(), pools());
        api.inject(Fault::status(code).times(4).on(is_patch_of_the_node));
        run(&mut discover(&api, &conf, &[])).succeeded();
        assert_eq!((api.injected(), taints(&api)), (4, json!([our_taint()])));
        assert_eq!(capacity(&api, DATAPLANE), "2");
    }
}

#[test]
fn a_node_that_is_never_left_in_peace_is_an_error() {
    let (api, conf) = (cluster(), pools());
    api.inject(Fault::conflict().times(100).on(is_patch_of_the_node));
    run(&mut discover(&api, &conf, &[]))
        .failed_with(&["cannot patch nodes worker-1: HTTP status 409: "]);
    assert_eq!(api.injected(), 10);
}
