//! The patches, written by hand from the specification.

use serde_json::{Value, json};

use super::{Changes, ORIGINAL_RESOURCE, Wanted, plan};

fn pools(resources: &[(&str, usize)], taint: bool) -> Wanted {
    let resources = resources.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect();
    Wanted::Pools { resources, taint }
}

const DATAPLANE: &str = "kcm.intel.com/dataplane-cores";

fn nothing() -> Wanted {
    Wanted::Nothing { resource: DATAPLANE.to_owned() }
}

fn changes(labels: Value, node: Value, wanted: &Wanted) -> Changes {
    plan(&labels, &node, "7", wanted)
}

#[test]
fn a_fresh_node_gets_all_of_it() {
    let node = json!({"spec": {}, "status": {"capacity": {"cpu": "2"}}});
    let got = changes(json!({"os": "linux"}), node, &pools(&[(DATAPLANE, 4)], true));
    assert_eq!(
        got.node,
        Some(json!({
            "metadata": {"resourceVersion": "7", "labels": {"kcm.intel.com/kcm-node": "true"}},
            "spec": {"taints": [{"key": "kcm", "value": "true", "effect": "NoSchedule"}]},
        }))
    );
    assert_eq!(got.status, Some(json!({"status": {"capacity": {DATAPLANE: "4"}}})));
}

#[test]
fn a_node_that_shows_it_is_left_alone() {
    let labels = json!({"kcm.intel.com/kcm-node": "true"});
    let node = json!({
        "spec": {"taints": [{"key": "kcm", "value": "true", "effect": "NoSchedule", "timeAdded": "t"}]},
        "status": {"capacity": {"cpu": "2", DATAPLANE: "4", "kcm.intel.com/big-cores": "2k"}},
    });
    let wanted = pools(&[(DATAPLANE, 4), ("kcm.intel.com/big-cores", 2000)], true);
    assert_eq!(changes(labels, node, &wanted), Changes::default());
}

#[test]
fn other_taints_stay_with_all_their_fields() {
    let other = json!({"key": "gpu", "effect": "NoExecute", "timeAdded": "t", "new": 1});
    let weak = json!({"key": "kcm", "value": "true", "effect": "PreferNoSchedule"});
    let old = json!({"key": "kcm", "value": "1", "effect": "NoSchedule"});
    let ours = json!({"key": "kcm", "value": "true", "effect": "NoSchedule"});
    let node = |taints: &[&Value]| json!({"spec": {"taints": taints}});
    for (before, wanted, after) in [
        (vec![&other], pools(&[], true), Some(vec![&other, &ours])),
        (vec![&other, &weak], pools(&[], true), Some(vec![&other, &weak, &ours])),
        (vec![&old, &other], pools(&[], true), Some(vec![&other, &ours])),
        (vec![&other], pools(&[], false), None),
        (vec![&ours, &other], pools(&[], false), None),
        (vec![&other, &ours, &weak], nothing(), Some(vec![&other, &weak])),
        (vec![&ours], nothing(), Some(vec![])),
        (vec![&other], nothing(), None),
    ] {
        // The label is right in each.
        let labels = match wanted {
            Wanted::Pools { .. } => json!({"kcm.intel.com/kcm-node": "true"}),
            Wanted::Nothing { .. } => json!({}),
        };
        let got = changes(labels, node(&before), &wanted).node;
        let patch = after.map(
            |taints| json!({"metadata": {"resourceVersion": "7"}, "spec": {"taints": taints}}),
        );
        assert_eq!(got, patch, "{before:?} {wanted:?}");
    }
}

#[test]
fn resources_of_pools_that_are_gone_go() {
    for (before, wanted, patch) in [
        (json!({DATAPLANE: "4"}), pools(&[(DATAPLANE, 3)], true), json!({DATAPLANE: "3"})),
        (json!({DATAPLANE: "0"}), pools(&[(DATAPLANE, 4)], true), json!({DATAPLANE: "4"})),
        (
            json!({DATAPLANE: "4", "kcm.intel.com/rt-cores": "2", "other.com/rt-cores": "2"}),
            pools(&[(DATAPLANE, 4)], true),
            json!({"kcm.intel.com/rt-cores": null}),
        ),
        // Never both names for one pool.
        (
            json!({DATAPLANE: "4"}),
            pools(&[(ORIGINAL_RESOURCE, 4)], true),
            json!({DATAPLANE: null, ORIGINAL_RESOURCE: "4"}),
        ),
        (
            json!({ORIGINAL_RESOURCE: "4"}),
            pools(&[(DATAPLANE, 4)], true),
            json!({DATAPLANE: "4", ORIGINAL_RESOURCE: null}),
        ),
        (
            json!({"cpu": "2", DATAPLANE: "4", ORIGINAL_RESOURCE: "4", "mine.com/x": "1"}),
            Wanted::Nothing { resource: "mine.com/x".to_owned() },
            json!({DATAPLANE: null, ORIGINAL_RESOURCE: null, "mine.com/x": null}),
        ),
    ] {
        let got = changes(json!({}), json!({"status": {"capacity": before}}), &wanted).status;
        assert_eq!(got, Some(json!({"status": {"capacity": patch}})), "{before} {wanted:?}");
    }
}
