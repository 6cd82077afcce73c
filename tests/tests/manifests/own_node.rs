//! kcm's service account changes the node that it runs on, and no other.

use kcm_tests::admission::{Resource, Review, User};
use serde_json::{Value, json};

use super::overlay::overlays;

pub(crate) const KCM: &str = "system:serviceaccount:kcm-system:kcm";
const NODE: &str = "authentication.kubernetes.io/node-name";

fn user(name: &str, extra: &[(&str, &[&str])]) -> User {
    let owned = |values: &[&str]| values.iter().map(|value| (*value).to_owned()).collect();
    let extra = extra.iter().map(|(key, values)| ((*key).to_owned(), owned(values)));
    User { name: name.into(), groups: vec!["system:authenticated".into()], extra: extra.collect() }
}

/// `user` changes the node n1, or its status; whether that is accepted.
pub(crate) fn cases() -> Vec<(Review, bool)> {
    let node = json!({"metadata": {"name": "n1"}});
    let others = "system:serviceaccount:default:web";
    let by_cluster_init = "system:serviceaccount:default:kcm";
    let users: Vec<(User, bool)> = vec![
        (user(KCM, &[(NODE, &["n1"])]), true),
        (user(KCM, &[(NODE, &["n2"])]), false),
        (user(KCM, &[(NODE, &["n1", "n2"])]), false),
        (user(KCM, &[(NODE, &[""])]), false),
        // A token that is bound to no node, or one from before Kubernetes 1.30.
        (user(KCM, &[("authentication.kubernetes.io/pod-name", &["p"])]), false),
        (user(KCM, &[]), false),
        (user(by_cluster_init, &[(NODE, &["n1"])]), true),
        (user(by_cluster_init, &[(NODE, &["n2"])]), false),
        (user(others, &[]), true),
        (user(others, &[(NODE, &["n2"])]), true),
        (user("system:node:n2", &[]), true),
        (user("system:serviceaccount:kcm-system:kcm2", &[]), true),
    ];
    let mut cases = Vec::new();
    for (user, accepted) in users {
        for resource in ["nodes", "nodes/status"] {
            let review = Review::update(resource, node.clone(), node.clone());
            cases.push((Review { user: user.clone(), ..review }, accepted));
        }
    }
    cases
}

#[test]
fn a_node_is_changed_by_the_kcm_that_runs_on_it_alone() {
    for overlay in overlays() {
        let policy = overlay.validating("kcm-own-node");
        for (review, accepted) in cases() {
            let outcome = policy.review(&review);
            assert_eq!(outcome.is_ok(), accepted, "{:?}: {outcome:?}", review.user);
            // Without any claim the server has no `extra`: refused, since that cannot be evaluated.
            let message = outcome.err().unwrap_or_default();
            if !accepted && !review.user.extra.is_empty() {
                assert_eq!(message, "kcm may change only the node that it runs on");
            } else if !accepted {
                assert!(message.ends_with("No such key: extra"), "{message}");
            }
        }
    }
}

#[test]
fn the_policy_is_about_nodes_alone() {
    let policy = overlays()[0].validating("kcm-own-node");
    let kcm = user(KCM, &[]);
    let review = |resource, object: Value| Review {
        user: kcm.clone(),
        ..Review::update(resource, object.clone(), object)
    };
    let object = json!({"metadata": {"name": "n1"}});
    assert!(policy.matches(&review("nodes", object.clone())));
    assert!(!policy.matches(&review("pods", object.clone())));
    let report = Resource {
        group: "kcm.intel.com".into(),
        version: "v1".into(),
        resource: "nodereports".into(),
    };
    assert!(!policy.matches(&Review { resource: report, ..review("nodes", object) }));
}
