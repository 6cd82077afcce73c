//! The kinds of objects that are served, and what may be done with each: what was recorded, and
//! what the issue lists beside it. Anything else is answered 501.

use serde_json::Value;

use super::request::Parts;

/// A kind of object: how URLs and how manifests name it.
#[derive(Clone, Debug)]
pub(super) struct Kind {
    pub(super) group: String,
    pub(super) version: String,
    pub(super) resource: String,
    pub(super) kind: String,
    pub(super) namespaced: bool,
    operations: String,
}

/// Group, resource, kind, whether it is namespaced, and its operations. `merge`, `json` and `apply`
/// are the three kinds of PATCH; a subresource has its own, after a slash.
const SERVED: [(&str, &str, &str, bool, &str); 15] = [
    ("", "nodes", "Node", false, "get list watch merge json apply status/merge status/json"),
    ("", "pods", "Pod", true, "get list watch create delete log/get"),
    ("", "serviceaccounts", "ServiceAccount", true, "get list create apply token/create"),
    ("", "configmaps", "ConfigMap", true, "get create"),
    ("apps", "daemonsets", "DaemonSet", true, "get apply delete"),
    (RBAC, "roles", "Role", true, "get list apply"),
    (RBAC, "rolebindings", "RoleBinding", true, "get list apply"),
    (RBAC, "clusterroles", "ClusterRole", false, "get list apply"),
    (RBAC, "clusterrolebindings", "ClusterRoleBinding", false, "get list apply"),
    (CRDS, "customresourcedefinitions", "CustomResourceDefinition", false, "get list create apply"),
    ("node.k8s.io", "runtimeclasses", "RuntimeClass", false, "get create"),
    (ADMISSION, "validatingadmissionpolicies", "ValidatingAdmissionPolicy", false, "create"),
    (
        ADMISSION,
        "validatingadmissionpolicybindings",
        "ValidatingAdmissionPolicyBinding",
        false,
        "create",
    ),
    (ADMISSION, "mutatingadmissionpolicies", "MutatingAdmissionPolicy", false, "create"),
    (
        ADMISSION,
        "mutatingadmissionpolicybindings",
        "MutatingAdmissionPolicyBinding",
        false,
        "create",
    ),
];
pub(super) const RBAC: &str = "rbac.authorization.k8s.io";
pub(super) const CRDS: &str = "apiextensions.k8s.io";
pub(super) const ADMISSION: &str = "admissionregistration.k8s.io";
/// The group whose kinds are there once their definitions are.
pub(super) const OURS: &str = "kcm.intel.com";

/// Kinds that count the changes of their specification in `metadata.generation`.
const GENERATIONS: [&str; 3] = ["Pod", "DaemonSet", "CustomResourceDefinition"];

impl Kind {
    /// A kind that the server has from the start.
    pub(super) fn built_in(group: &str, resource: &str) -> Option<Self> {
        let (group, resource, kind, namespaced, operations) =
            SERVED.into_iter().find(|served| served.0 == group && served.1 == resource)?;
        Some(Self {
            group: group.into(),
            version: "v1".into(),
            resource: resource.into(),
            kind: kind.into(),
            namespaced,
            operations: operations.into(),
        })
    }

    /// The kind that an established definition serves.
    pub(super) fn custom(definition: &Value) -> Self {
        let text = |pointer: &str| {
            definition.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned()
        };
        Self {
            group: text("/spec/group"),
            version: text("/spec/versions/0/name"),
            resource: text("/spec/names/plural"),
            kind: text("/spec/names/kind"),
            namespaced: text("/spec/scope") == "Namespaced",
            operations: "get list watch apply".into(),
        }
    }

    /// A kind of which only a path is known.
    pub(super) fn undefined(parts: &Parts) -> Self {
        Self {
            group: parts.group.clone(),
            version: parts.version.clone(),
            resource: parts.resource.clone(),
            kind: String::new(),
            namespaced: !parts.namespace.is_empty(),
            operations: String::new(),
        }
    }

    /// Whether an operation is known: `merge` on the object, `status/merge` on its subresource.
    pub(super) fn serves(&self, operation: &str) -> bool {
        self.operations.split(' ').any(|served| served == operation)
    }

    /// Whether it comes from a definition.
    pub(super) fn is_custom(&self) -> bool {
        self.group == OURS
    }

    /// Whether `metadata.generation` counts its changes.
    pub(super) fn has_generation(&self) -> bool {
        self.is_custom() || GENERATIONS.contains(&self.kind.as_str()) || self.group == ADMISSION
    }

    /// Whether its status is a subresource.
    pub(super) fn has_status(&self) -> bool {
        ["Node", "Pod", "DaemonSet", "CustomResourceDefinition"].contains(&self.kind.as_str())
    }

    /// `v1`, `apps/v1`.
    pub(super) fn api_version(&self) -> String {
        match self.group.as_str() {
            "" => self.version.clone(),
            group => format!("{group}/{}", self.version),
        }
    }

    /// `nodes`, `nodereports.kcm.intel.com`: as messages name it.
    pub(super) fn qualified_resource(&self) -> String {
        match self.group.as_str() {
            "" => self.resource.clone(),
            group => format!("{}.{group}", self.resource),
        }
    }

    /// `Pod`, `NodeReport.kcm.intel.com`: as messages of invalid objects name it.
    pub(super) fn qualified_kind(&self) -> String {
        match self.group.as_str() {
            "" => self.kind.clone(),
            group => format!("{}.{group}", self.kind),
        }
    }
}
