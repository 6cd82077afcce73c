//! Pods that are changed, and what the policy on them has to say.

use kcm_tests::admission::{Review, defaulted};
use serde_json::{Value, json};

use super::cases::{Case, pod};

/// The pod with these ephemeral containers.
fn debugged(pod: &Value, names: &[&str]) -> Value {
    let mut pod = pod.clone();
    let containers: Vec<Value> =
        names.iter().map(|name| json!({"name": name, "image": "x"})).collect();
    pod["spec"]["ephemeralContainers"] = json!(containers);
    pod
}

fn labelled(pod: &Value) -> Value {
    let mut pod = pod.clone();
    pod["metadata"]["labels"] = json!({"a": "b"});
    pod["metadata"]["annotations"]["example.com/note"] = json!("x");
    pod
}

/// The cases of the policy kcm-running-pods.
pub(crate) fn changed() -> Vec<Case> {
    let fixed = "annotations of kcm.intel.com cannot be changed";
    let plain = pod(&[], &["c"]);
    let pinned = pod(&[("pool", "dataplane")], &["c 1"]);
    let own = pod(&[("pool.c", "dataplane")], &["c 1"]);
    let shared = pod(&[("pool", "infra")], &["c"]);
    let foreseen = pod(&[("pool.c", "dataplane"), ("pool.debug", "dataplane")], &["c 1"]);
    let debug = "pods/ephemeralcontainers";
    let cases = vec![
        ("nothing of kcm's", "pods", plain.clone(), labelled(&plain), Ok(())),
        ("a label and a note", "pods", pinned.clone(), labelled(&pinned), Ok(())),
        (
            "a pod from before, wrong but unchanged",
            "pods",
            foreseen.clone(),
            labelled(&foreseen),
            Ok(()),
        ),
        ("annotated later", "pods", plain.clone(), pinned.clone(), Err(fixed)),
        ("another pool", "pods", pinned.clone(), shared.clone(), Err(fixed)),
        (
            "one more",
            "pods",
            pinned.clone(),
            pod(&[("pool", "dataplane"), ("cores", "2")], &["c 1"]),
            Err(fixed),
        ),
        (
            "a partition",
            "pods",
            pinned.clone(),
            pod(&[("pool", "dataplane"), ("partition", "none")], &["c 1"]),
            Err(fixed),
        ),
        ("one less", "pods", pinned.clone(), plain.clone(), Err(fixed)),
        ("debug beside a container's own", debug, own.clone(), debugged(&own, &["debug"]), Ok(())),
        ("debug in a shared pool", debug, shared.clone(), debugged(&shared, &["debug"]), Ok(())),
        ("debug with no annotation", debug, plain.clone(), debugged(&plain, &["debug"]), Ok(())),
        (
            "debug where the pool is the pod's",
            debug,
            pinned.clone(),
            debugged(&pinned, &["debug"]),
            Err(
                "ephemeral container debug would get CPUs of an exclusive pool, which it cannot request: name the containers that are to have them, kcm.intel.com/pool.<container>",
            ),
        ),
        (
            "debug with an entry of its own",
            debug,
            foreseen.clone(),
            debugged(&foreseen, &["debug"]),
            Err("ephemeral container debug"),
        ),
        (
            "one that was there",
            "pods",
            debugged(&pinned, &["debug"]),
            labelled(&debugged(&pinned, &["debug"])),
            Ok(()),
        ),
        (
            "a second one",
            debug,
            debugged(&pinned, &["debug"]),
            debugged(&pinned, &["debug", "more"]),
            Err("ephemeral container more"),
        ),
    ];
    let case =
        |(about, resource, before, after, verdict): (&'static str, _, Value, Value, _)| Case {
            about,
            review: Review::update(resource, defaulted(&before), defaulted(&after)),
            verdict,
        };
    cases.into_iter().map(case).collect()
}
