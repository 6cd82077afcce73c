//! What a node with pools shows the cluster: extended resources, a label and a taint. [`plan`] is
//! pure; [`advertise`] reads the node, plans, and patches.

use std::collections::BTreeMap;
use std::time::Duration;

use kube::api::{Api, ApiResource, DynamicObject, Patch, PatchParams};
use kube::core::GroupVersionKind;
use serde_json::{Map, Value, json};

use super::{
    CallError, Cluster, FIELD_MANAGER, GROUP, NODE_LABEL, Object, TAINT, Verb, call, once,
};

/// The name under which the original advertised the dataplane pool. API server, scheduler and
/// kubelet 1.36 still count it (measured).
pub(crate) const ORIGINAL_RESOURCE: &str = "pod.alpha.kubernetes.io/opaque-int-resource-kcm";

/// How often to read and patch anew, while others change the node in between.
const ATTEMPTS: u32 = 10;

/// What a node is to show.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// That it has pools.
    Pools {
        /// How many CPU lists, by the name of the resource.
        resources: BTreeMap<String, usize>,
        /// Whether to have a taint; if not, taints are left alone.
        taint: bool,
    },
    /// Nothing of kcm's any more.
    Nothing {
        /// A resource besides those with a name of kcm's own.
        resource: String,
    },
}

/// What to change in a node, as JSON merge patches (RFC 7386); none where it is as wanted.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Changes {
    /// Of the node: label and taint. It holds for the version that was read.
    pub(crate) node: Option<Value>,
    /// Of its status: resources. Each key is kcm's alone, so any version will do.
    pub(crate) status: Option<Value>,
    /// The same in words.
    pub(crate) said: Vec<String>,
}

/// Has the node show it; what was changed, in words.
pub(crate) async fn advertise(
    cluster: &Cluster,
    name: &str,
    wanted: &Wanted,
) -> Result<Vec<String>, CallError> {
    // As it is: a typed node would drop fields of taints that are newer than the type.
    let kind = ApiResource::from_gvk(&GroupVersionKind::gvk("", "v1", "Node"));
    let nodes: Api<DynamicObject> = Api::all_with(cluster.client.clone(), &kind);
    let (object, status) = (Object::core("nodes", name), Object::core("nodes/status", name));
    let params =
        PatchParams { field_manager: Some(FIELD_MANAGER.into()), ..PatchParams::default() };
    let mut attempt = 1;
    loop {
        let node = call(Verb::Get, &object, || nodes.get(name)).await?;
        let version = node.metadata.resource_version.clone().unwrap_or_default();
        let labels = json!(node.metadata.labels.unwrap_or_default());
        let changes = plan(&labels, &node.data, &version, wanted);
        if let Some(patch) = changes.node {
            let patch = Patch::Merge(&patch);
            let patched = nodes.patch(name, &params, &patch);
            match once(Verb::Patch, &object, patched).await {
                Err(error) if attempt < ATTEMPTS && may_pass_when_read_anew(&error) => {
                    log::debug!("{error}; reading it anew");
                    tokio::time::sleep(Duration::from_millis(50) * attempt).await;
                    attempt += 1;
                    continue;
                }
                patched => patched?,
            };
        }
        if let Some(patch) = changes.status {
            let patch = Patch::Merge(&patch);
            call(Verb::Patch, &status, || nodes.patch_status(name, &params, &patch)).await?;
        }
        return Ok(changes.said);
    }
}

/// Whether somebody else changed the node meanwhile (409, or 422 if by a JSON patch), or the
/// failure is a passing one.
fn may_pass_when_read_anew(error: &CallError) -> bool {
    error.cause.is_passing() || matches!(error.cause.status(), Some(409 | 422))
}

/// What to change in a node of these labels, this `spec` and `status`, at this version.
pub(crate) fn plan(labels: &Value, node: &Value, version: &str, wanted: &Wanted) -> Changes {
    let mut changes = Changes::default();
    let capacity = node.pointer("/status/capacity").and_then(Value::as_object);
    let patch = resources(capacity, wanted, &mut changes.said);
    if !patch.is_empty() {
        changes.status = Some(json!({"status": {"capacity": patch}}));
    }
    let mut patch = json!({"metadata": {"resourceVersion": version}});
    if let Some(label) = label(labels, wanted, &mut changes.said) {
        patch["metadata"]["labels"] = label;
        changes.node = Some(Value::Null);
    }
    let taints = node.pointer("/spec/taints").and_then(Value::as_array);
    if let Some(taints) = taint(taints, wanted, &mut changes.said) {
        patch["spec"] = json!({"taints": taints});
        changes.node = Some(Value::Null);
    }
    changes.node = changes.node.map(|_| patch);
    changes
}

/// The resources to set, and those of kcm's to take away.
fn resources(
    capacity: Option<&Map<String, Value>>,
    wanted: &Wanted,
    said: &mut Vec<String>,
) -> Map<String, Value> {
    let none = Map::new();
    let capacity = capacity.unwrap_or(&none);
    let mut patch = Map::new();
    if let Wanted::Pools { resources, .. } = wanted {
        for (name, count) in resources {
            // The API server writes quantities as strings, in their shortest form (quantity.go).
            let is_there = |value: &Value| value.as_str().and_then(quantity) == Some(*count as u64);
            if !capacity.get(name).is_some_and(is_there) {
                said.push(format!("{name}: {count}"));
                patch.insert(name.clone(), json!(count.to_string()));
            }
        }
    }
    for name in capacity.keys().filter(|name| is_stale(name, wanted)) {
        said.push(format!("no {name} any more"));
        patch.insert(name.clone(), Value::Null);
    }
    patch
}

/// A whole number as the API server writes it: `4`, and from a thousand on also `2k`.
fn quantity(text: &str) -> Option<u64> {
    match text.strip_suffix('k') {
        Some(thousands) => thousands.parse::<u64>().ok()?.checked_mul(1000),
        None => text.parse().ok(),
    }
}

/// Whether a resource is one of kcm's that is not wanted: that of a pool that is gone, or of the
/// same pool under its other name, for both would be counted.
fn is_stale(name: &str, wanted: &Wanted) -> bool {
    let of_a_pool = name.strip_prefix(GROUP).is_some_and(|rest| rest.ends_with("-cores"));
    let ours = of_a_pool || name == ORIGINAL_RESOURCE;
    match wanted {
        Wanted::Pools { resources, .. } => ours && !resources.contains_key(name),
        Wanted::Nothing { resource } => ours || name == resource,
    }
}

fn label(labels: &Value, wanted: &Wanted, said: &mut Vec<String>) -> Option<Value> {
    match (labels.get(NODE_LABEL), wanted) {
        (Some(Value::String(value)), Wanted::Pools { .. }) if value == "true" => None,
        (_, Wanted::Pools { .. }) => {
            said.push(format!("label {NODE_LABEL}=true"));
            Some(json!({NODE_LABEL: "true"}))
        }
        (None, Wanted::Nothing { .. }) => None,
        (Some(_), Wanted::Nothing { .. }) => {
            said.push(format!("no label {NODE_LABEL} any more"));
            Some(json!({NODE_LABEL: null}))
        }
    }
}

/// All the node's taints, with ours or without; none where they are right. Key and effect make a
/// taint; the list is one value to the API server.
fn taint(
    taints: Option<&Vec<Value>>,
    wanted: &Wanted,
    said: &mut Vec<String>,
) -> Option<Vec<Value>> {
    let is_ours = |taint: &&Value| taint["key"] == TAINT && taint["effect"] == "NoSchedule";
    let mut taints = taints.cloned().unwrap_or_default();
    let ours = taints.iter().find(is_ours);
    match wanted {
        Wanted::Pools { taint: true, .. } if ours.is_none_or(|taint| taint["value"] != "true") => {
            said.push(format!("taint {TAINT}=true:NoSchedule"));
            taints.retain(|taint| !is_ours(&taint));
            taints.push(json!({"key": TAINT, "value": "true", "effect": "NoSchedule"}));
            Some(taints)
        }
        Wanted::Nothing { .. } if ours.is_some() => {
            said.push(format!("no taint {TAINT} any more"));
            taints.retain(|taint| !is_ours(&taint));
            Some(taints)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests;
