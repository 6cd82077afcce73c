//! The policies on pods accept and refuse what they are to.

use kcm_tests::admission::{Review, ValidatingPolicy, defaulted};
use serde_json::{Value, json};

use super::cases::{Case, created, pod};
use super::overlay::{examples, overlay};
use super::running_cases::changed;

#[track_caller]
fn check(policy: &ValidatingPolicy, params: &Value, cases: Vec<Case>) {
    for mut case in cases {
        case.review.params = Some(params.clone());
        let outcome = policy.review(&case.review);
        match (&outcome, case.verdict) {
            (Ok(()), Ok(())) => {}
            (Err(message), Err(part)) => {
                assert!(message.contains(part), "{}: {message}", case.about);
                // Else it is not one line that says what to do, but what could not be evaluated.
                assert!(!message.contains("resulted in error"), "{}: {message}", case.about);
            }
            _ => panic!("{}: {outcome:?}", case.about),
        }
    }
}

#[test]
fn a_pod_is_accepted_or_refused_when_it_is_created() {
    let overlay = overlay("containerd");
    check(&overlay.validating("kcm-pools"), &overlay.params(), created());
}

#[test]
fn a_pod_is_accepted_or_refused_when_it_is_changed() {
    let overlay = overlay("containerd");
    check(&overlay.validating("kcm-running-pods"), &overlay.params(), changed());
}

#[test]
fn cri_o_needs_no_runtime_class_and_else_the_same() {
    let overlay = overlay("crio");
    let about_runtime_class =
        |case: &Case| case.verdict.is_err_and(|part| part.contains("runtimeClassName"));
    let (missing, others): (Vec<_>, Vec<_>) = created().into_iter().partition(about_runtime_class);
    assert_eq!(missing.len(), 3);
    let missing = missing.into_iter().map(|case| Case { verdict: Ok(()), ..case }).collect();
    let policy = overlay.validating("kcm-pools");
    check(&policy, &overlay.params(), missing);
    check(&policy, &overlay.params(), others);
}

#[test]
fn the_example_pods_are_accepted_where_they_are_for() {
    let names = ["containerd", "crio", "isolate", "two-containers"];
    assert_eq!(examples().into_iter().map(|(name, _)| name).collect::<Vec<_>>(), names);
    for (name, pod) in examples() {
        for engine in ["containerd", "crio"] {
            let overlay = overlay(engine);
            let mut review = Review::create("pods", defaulted(&pod));
            review.params = Some(overlay.params());
            let accepted = overlay.validating("kcm-pools").review(&review).is_ok();
            assert_eq!(
                accepted,
                (name.as_str(), engine) != ("crio", "containerd"),
                "{name} {engine}"
            );
        }
    }
}

#[test]
fn the_pools_are_those_that_the_parameters_name() {
    let policy = overlay("containerd").validating("kcm-pools");
    let with = |pools: &str, pod: Value| {
        let mut review = Review::create("pods", defaulted(&pod));
        review.params = Some(json!({"data": {"exclusivePools": pools, "runtimeClass": "kcm"}}));
        policy.review(&review)
    };
    let fast = pod(&[("pool", "fast")], &["c"]);
    assert_eq!(with("dataplane", fast.clone()), Ok(()));
    let message = with("dataplane,fast", fast.clone()).unwrap_err();
    assert!(message.ends_with("must both have kcm.intel.com/fast-cores: \"1\""), "{message}");
    for pools in ["dataplane, fast", "", ",", "dataplane,", " dataplane"] {
        let message = with(pools, fast.clone()).unwrap_err();
        assert!(message.starts_with("ConfigMap kcm-policy: exclusivePools must be"), "{message}");
    }
    for params in [json!({}), json!({"data": {"exclusivePools": "dataplane"}})] {
        let mut review = Review::create("pods", defaulted(&fast));
        review.params = Some(params);
        assert!(policy.review(&review).unwrap_err().contains("No such key"));
    }
}
