//! Pods as the API server completes them and admits them.

use serde_json::{Value, json};

use super::answer::{self, Answer};
use super::defaults::{default, items};
use super::kinds::Kind;

/// Fills in what the API server fills in when a pod is created.
pub(super) fn complete(pod: &mut Value) {
    let spec = &mut pod["spec"];
    complete_template(spec);
    let account = spec["serviceAccountName"].as_str().unwrap_or("default").to_owned();
    spec["serviceAccountName"] = account.as_str().into();
    spec["serviceAccount"] = account.into();
    default(spec, "priority", json!(0));
    default(spec, "enableServiceLinks", json!(true));
    default(spec, "preemptionPolicy", json!("PreemptLowerPriority"));
    tolerations(spec);
    if spec["automountServiceAccountToken"] != false {
        mount_token(spec);
    }
    let class = quality(spec);
    default(pod, "status", json!({"phase": "Pending", "qosClass": class}));
}

/// Fills in what is filled in already in the template of a DaemonSet.
pub(super) fn complete_template(spec: &mut Value) {
    default(spec, "restartPolicy", json!("Always"));
    default(spec, "terminationGracePeriodSeconds", json!(30));
    default(spec, "dnsPolicy", json!("ClusterFirst"));
    default(spec, "securityContext", json!({}));
    default(spec, "schedulerName", json!("default-scheduler"));
    for list in ["initContainers", "containers"] {
        items(spec, list).for_each(complete_container);
    }
    for volume in items(spec, "volumes") {
        if volume["hostPath"].is_object() {
            default(&mut volume["hostPath"], "type", json!(""));
        }
        for kind in ["configMap", "secret", "projected", "downwardAPI"] {
            if volume.get(kind).is_some() {
                default(&mut volume[kind], "defaultMode", json!(420));
            }
        }
    }
}

fn complete_container(container: &mut Value) {
    let image = container["image"].as_str().unwrap_or_default();
    let name = image.rsplit('/').next().unwrap_or_default();
    let latest = !name.contains([':', '@']) || name.ends_with(":latest");
    let policy = if latest { "Always" } else { "IfNotPresent" };
    default(container, "imagePullPolicy", json!(policy));
    default(container, "terminationMessagePath", json!("/dev/termination-log"));
    default(container, "terminationMessagePolicy", json!("File"));
    default(container, "resources", json!({}));
    let limits = container["resources"]["limits"].as_object().cloned().unwrap_or_default();
    for (resource, quantity) in limits {
        default(&mut container["resources"]["requests"], &resource, quantity);
    }
    for variable in items(container, "env") {
        if variable["valueFrom"]["fieldRef"].is_object() {
            default(&mut variable["valueFrom"]["fieldRef"], "apiVersion", json!("v1"));
        }
    }
    for port in items(container, "ports") {
        default(port, "protocol", json!("TCP"));
    }
}

/// A pod may stay five minutes on a node that is lost.
fn tolerations(spec: &mut Value) {
    for key in ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"] {
        let tolerates = |toleration: &Value| {
            (toleration["key"] == key || toleration["key"].is_null())
                && (toleration["effect"] == "NoExecute" || toleration["effect"].is_null())
        };
        default(spec, "tolerations", json!([]));
        let list = spec["tolerations"].as_array_mut().unwrap();
        if !list.iter().any(tolerates) {
            list.push(json!({"key": key, "operator": "Exists", "effect": "NoExecute",
                "tolerationSeconds": 300}));
        }
    }
}

/// Every container gets the token of the pod's service account.
fn mount_token(spec: &mut Value) {
    const PLACE: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
    let name = "kube-api-access-dbl00";
    default(spec, "volumes", json!([]));
    let volumes = spec["volumes"].as_array_mut().unwrap();
    if volumes.iter().any(|volume| volume["name"] == name) {
        return;
    }
    volumes.push(json!({"name": name, "projected": {"defaultMode": 420, "sources": [
        {"serviceAccountToken": {"expirationSeconds": 3607, "path": "token"}},
        {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
        {"downwardAPI": {"items": [{"path": "namespace",
            "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"}}]}},
    ]}}));
    for list in ["initContainers", "containers"] {
        for container in items(spec, list) {
            default(container, "volumeMounts", json!([]));
            let mounts = container["volumeMounts"].as_array_mut().unwrap();
            if !mounts.iter().any(|mount| mount["mountPath"] == PLACE) {
                mounts.push(json!({"name": name, "readOnly": true, "mountPath": PLACE}));
            }
        }
    }
}

/// The quality of service, which only CPU and memory decide.
fn quality(spec: &Value) -> &'static str {
    let containers = spec["containers"].as_array().into_iter().flatten();
    let amounts = |kind: &'static str| {
        containers.clone().flat_map(move |container| {
            let resources = &container["resources"][kind];
            [resources["cpu"].clone(), resources["memory"].clone()]
        })
    };
    let (limits, requests): (Vec<_>, Vec<_>) =
        (amounts("limits").collect(), amounts("requests").collect());
    if limits.iter().chain(&requests).all(Value::is_null) {
        "BestEffort"
    } else if limits == requests && !limits.iter().any(Value::is_null) {
        "Guaranteed"
    } else {
        "Burstable"
    }
}

/// What a RuntimeClass adds to the pods that name it.
pub(super) fn add_scheduling(pod: &mut Value, class: &Value) {
    let scheduling = &class["scheduling"];
    for (label, value) in scheduling["nodeSelector"].as_object().into_iter().flatten() {
        pod["spec"]["nodeSelector"][label] = value.clone();
    }
    for toleration in scheduling["tolerations"].as_array().into_iter().flatten() {
        default(&mut pod["spec"], "tolerations", json!([]));
        let tolerations = pod["spec"]["tolerations"].as_array_mut().unwrap();
        if !tolerations.contains(toleration) {
            tolerations.push(toleration.clone());
        }
    }
}

/// Refuses a pod that breaks a rule that was recorded.
pub(super) fn validate(kind: &Kind, pod: &Value) -> Result<(), Answer> {
    let name = pod["metadata"]["name"].as_str().unwrap_or_default();
    if !is_subdomain(name) {
        let rule = format!("Invalid value: {name:?}: {SUBDOMAIN}");
        return Err(answer::invalid(kind, name, "metadata.name", "FieldValueInvalid", &rule));
    }
    if pod["spec"]["containers"].as_array().is_none_or(Vec::is_empty) {
        let (field, reason) = ("spec.containers", "FieldValueRequired");
        return Err(answer::invalid(kind, name, field, reason, "Required value"));
    }
    Ok(())
}

const SUBDOMAIN: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric \
    characters, '-' or '.', and must start and end with an alphanumeric character (e.g. \
    'example.com', regex used for validation is \
    '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";

fn is_subdomain(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    !name.is_empty()
        && name.len() <= 253
        && name.split('.').all(|label| {
            label.starts_with(plain)
                && label.ends_with(plain)
                && label.chars().all(|c| plain(c) || c == '-')
        })
}
