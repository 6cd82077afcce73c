//! Each validation is needed: without it, something passes that is to be refused.

use kcm_tests::admission::{Review, ValidatingPolicy};
use serde_json::{Value, json};

use super::cases::{Case, created, pod};
use super::overlay::overlay;
use super::own_node;
use super::running_cases::changed;

fn refused(cases: Vec<Case>) -> Vec<Review> {
    cases.into_iter().filter(|case| case.verdict.is_err()).map(|case| case.review).collect()
}

/// The policy without one of its validations. The API server wants one, so another takes its place.
fn without(policy: &Value, index: usize) -> ValidatingPolicy {
    let mut policy = policy.clone();
    policy["spec"]["validations"][index] = json!({"expression": "true"});
    ValidatingPolicy::parse(&policy).unwrap()
}

#[test]
fn without_any_one_validation_something_passes() {
    let overlay = overlay("containerd");
    let mut about_pods = refused(created());
    let mut about_running = refused(changed());
    for review in about_pods.iter_mut().chain(&mut about_running) {
        review.params = Some(overlay.params());
    }
    let mut bad_params = Review::create("pods", pod(&[("pool", "infra")], &["c"]));
    bad_params.params = Some(json!({"data": {"exclusivePools": "a, b", "runtimeClass": "kcm"}}));
    about_pods.push(bad_params);
    let about_nodes = own_node::cases().into_iter().filter(|(_, accepted)| !accepted);
    let about_nodes = about_nodes.map(|(review, _)| review).collect();

    for (name, count, reviews) in [
        ("kcm-pools", 12, about_pods),
        ("kcm-running-pods", 2, about_running),
        ("kcm-own-node", 1, about_nodes),
    ] {
        let policy = overlay.object("ValidatingAdmissionPolicy", name);
        assert_eq!(policy["spec"]["validations"].as_array().unwrap().len(), count, "{name}");
        let whole = ValidatingPolicy::parse(policy).unwrap();
        assert!(reviews.iter().all(|review| whole.review(review).is_err()));
        for index in 0..count {
            let policy = without(policy, index);
            let passed = reviews.iter().filter(|review| policy.review(review).is_ok()).count();
            assert!(passed > 0, "{name}: nothing shows that validation {index} is needed");
        }
    }
}

#[test]
fn without_its_condition_the_policy_on_nodes_stops_others() {
    let mut policy =
        overlay("containerd").object("ValidatingAdmissionPolicy", "kcm-own-node").clone();
    policy["spec"]["matchConditions"] = json!([]);
    let policy = ValidatingPolicy::parse(&policy).unwrap();
    let accepted = own_node::cases().into_iter().filter(|(_, accepted)| *accepted);
    assert!(accepted.filter(|(review, _)| policy.review(review).is_err()).count() > 0);
}
