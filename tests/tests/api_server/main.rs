//! The test double of the API server against the recorded answers of a real one, and what it promises
//! to the tests that use it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods)]

mod custom_kinds;
mod faults;
mod kubelet;
mod lists;
mod many;
mod ownership;
mod patches;
mod replay;
mod rights;
mod secured;
mod unknown;
mod watches;

use kcm_tests::api_server::{Ask, Reply};
use serde_json::{Value, json};

const MERGE: &str = "application/merge-patch+json";
const JSON: &str = "application/json-patch+json";
const APPLY: &str = "application/apply-patch+yaml";
const PODS: &str = "/api/v1/namespaces/default/pods";

/// A PATCH.
fn patch(path: &str, content_type: &str, body: Value) -> Ask {
    Ask::with("PATCH", path, content_type, body)
}

/// A POST of a pod of one container.
fn new_pod(name: &str) -> Ask {
    Ask::with("POST", PODS, "application/json", pod(name))
}

/// A pod of one container.
fn pod(name: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name},
        "spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "kcm:1"}]},
    })
}

/// What a Status says.
fn message(reply: &Reply) -> String {
    reply.json()["message"].as_str().unwrap_or_default().to_owned()
}
