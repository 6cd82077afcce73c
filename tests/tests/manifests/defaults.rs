//! A pod that only requests cores comes out as one that kcm-pools accepts.

use kcm_tests::admission::{Review, defaulted};
use serde_json::{Value, json};

use super::cases::pod;
use super::overlay::overlay;

const OVERLAYS: [&str; 2] = ["containerd-defaults", "crio-defaults"];

fn requesting(containers: &[&str]) -> Value {
    let mut pod = pod(&[], containers);
    pod["spec"].as_object_mut().unwrap().remove("runtimeClassName");
    pod
}

/// What is made of the pod; the policy on pods accepts it.
#[track_caller]
fn made_of(overlay_name: &str, pod: &Value) -> Value {
    let overlay = overlay(overlay_name);
    let mut review = Review::create("pods", defaulted(pod));
    review.object = overlay.mutating("kcm-defaults").mutate(&review).unwrap();
    review.params = Some(overlay.params());
    assert_eq!(overlay.validating("kcm-pools").review(&review), Ok(()), "{overlay_name}");
    review.object
}

#[test]
fn requesting_cores_is_enough() {
    for (containers, annotations) in [
        (["c 1"].as_slice(), json!({"kcm.intel.com/pool.c": "dataplane"})),
        (&["c 2"], json!({"kcm.intel.com/pool.c": "dataplane", "kcm.intel.com/cores.c": "2"})),
        (&["c 1", "d"], json!({"kcm.intel.com/pool.c": "dataplane"})),
        (
            &["c 1", "d 12", "init:i"],
            json!({
                "kcm.intel.com/pool.c": "dataplane", "kcm.intel.com/pool.d": "dataplane",
                "kcm.intel.com/cores.d": "12",
            }),
        ),
    ] {
        let pod = requesting(containers);
        for overlay in OVERLAYS {
            let made = made_of(overlay, &pod);
            assert_eq!(made["metadata"]["annotations"], annotations, "{overlay}");
            let class = if overlay.starts_with("crio") { Value::Null } else { json!("kcm") };
            assert_eq!(made["spec"]["runtimeClassName"], class, "{overlay}");
            // A second look changes nothing.
            assert_eq!(made_of(overlay, &made), made);
        }
    }
}

#[test]
fn annotations_of_others_stay() {
    let mut pod = requesting(&["c 1"]);
    pod["metadata"]["annotations"] = json!({"example.com/note": "x"});
    let made = made_of("containerd-defaults", &pod);
    let expected = json!({"example.com/note": "x", "kcm.intel.com/pool.c": "dataplane"});
    assert_eq!(made["metadata"]["annotations"], expected);
}

#[test]
fn what_says_itself_what_it_wants_is_left_alone() {
    let mut isolating = pod(&[("pool", "none")], &["c 1"]);
    isolating["spec"].as_object_mut().unwrap().remove("runtimeClassName");
    // Whoever chooses a partition names the pool, too: the policy on pods says so.
    let choosing = pod(&[("partition", "isolated")], &["c 1"]);
    for pod in [isolating, choosing, pod(&[("pool", "dataplane")], &["c 1"]), requesting(&["c"])] {
        for name in OVERLAYS {
            let review = Review::create("pods", defaulted(&pod));
            assert_eq!(overlay(name).mutating("kcm-defaults").mutate(&review), Ok(review.object));
        }
    }
}

#[test]
fn a_pod_of_another_runtime_is_left_alone_on_containerd_and_annotated_on_cri_o() {
    let mut pod = requesting(&["c 1"]);
    pod["spec"]["runtimeClassName"] = json!("other");
    let made = made_of("containerd-defaults", &pod);
    assert_eq!(made, defaulted(&pod));
    let made = made_of("crio-defaults", &pod);
    assert_eq!(made["metadata"]["annotations"]["kcm.intel.com/pool.c"], "dataplane");
    assert_eq!(made["spec"]["runtimeClassName"], "other");
}
