//! What the pods need in the cluster: their service account, its rights, and the kinds of the
//! reports. All by server-side apply, so that a second time changes nothing.

use anyhow::Context;
use kube::api::{Api, ApiResource, DynamicObject, Patch, PatchParams};
use serde_json::{Value, json};

use crate::cluster::crds::definitions;
use crate::cluster::{Cluster, FIELD_MANAGER, Object, Verb, call};

/// The very file that `kubectl apply -k` takes.
const RBAC: &str = include_str!("../../../../packaging/kubernetes/base/rbac.yaml");

/// The kinds that are applied, with their plurals.
const KINDS: [(&str, &str, &str); 6] = [
    ("", "ServiceAccount", "serviceaccounts"),
    ("rbac.authorization.k8s.io", "ClusterRole", "clusterroles"),
    ("rbac.authorization.k8s.io", "ClusterRoleBinding", "clusterrolebindings"),
    ("rbac.authorization.k8s.io", "Role", "roles"),
    ("rbac.authorization.k8s.io", "RoleBinding", "rolebindings"),
    ("apiextensions.k8s.io", "CustomResourceDefinition", "customresourcedefinitions"),
];

/// Applies them.
pub(super) async fn apply(cluster: &Cluster, namespace: &str) -> anyhow::Result<()> {
    for object in rights(namespace)?.into_iter().chain(definitions()) {
        apply_one(cluster, &object).await?;
    }
    log::info!("service account kcm, its rights in namespace {namespace}, and the kinds are there");
    Ok(())
}

async fn apply_one(cluster: &Cluster, object: &Value) -> anyhow::Result<()> {
    let text = |at: &str| object.pointer(at).and_then(Value::as_str).unwrap_or_default();
    let (kind, name) = (text("/kind"), text("/metadata/name"));
    let known = KINDS.into_iter().find(|(_, known, _)| *known == kind);
    let (group, _, plural) = known.with_context(|| format!("no plural is known of {kind}"))?;
    let api_version = text("/apiVersion").to_owned();
    let version = api_version.rsplit('/').next().unwrap_or_default().to_owned();
    let resource = ApiResource {
        group: group.to_owned(),
        version,
        api_version,
        kind: kind.to_owned(),
        plural: plural.to_owned(),
    };
    let mut about = Object::of(group, plural, name);
    let client = cluster.client.clone();
    let api: Api<DynamicObject> = match text("/metadata/namespace") {
        "" => Api::all_with(client, &resource),
        namespace => {
            about = about.inside(namespace);
            Api::namespaced_with(client, namespace, &resource)
        }
    };
    let (params, patch) = (PatchParams::apply(FIELD_MANAGER), Patch::Apply(object));
    call(Verb::Apply, &about, || api.patch(name, &params, &patch)).await?;
    Ok(())
}

/// The service account and its rights, in this namespace.
fn rights(namespace: &str) -> anyhow::Result<Vec<Value>> {
    let objects: Vec<Value> =
        serde_saphyr::from_multiple(RBAC).context("packaging/kubernetes/base/rbac.yaml")?;
    Ok(objects.into_iter().map(|object| inside(object, namespace)).collect())
}

fn inside(mut object: Value, namespace: &str) -> Value {
    if let Some(place) = object.pointer_mut("/metadata/namespace") {
        *place = json!(namespace);
    }
    if let Some(place) = object.pointer_mut("/subjects/0/namespace") {
        *place = json!(namespace);
    }
    // The list of subjects is one value: one binding for each namespace that has a service account.
    if object["kind"] == "ClusterRoleBinding" {
        object["metadata"]["name"] = json!(format!("kcm-{namespace}"));
    }
    object
}
