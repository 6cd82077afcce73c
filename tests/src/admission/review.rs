//! A request as admission sees it.

use std::collections::BTreeMap;

use serde_json::{Value, json};

/// A request that is to be admitted.
#[derive(Clone, Debug, Default)]
pub struct Review {
    /// `CREATE`, `UPDATE`, `DELETE` or `CONNECT`.
    pub operation: String,
    /// What kind of object it is about.
    pub resource: Resource,
    /// `status`, `ephemeralcontainers`, …
    pub subresource: Option<String>,
    /// The object as it is to be; null on DELETE.
    pub object: Value,
    /// The object as it is; null on CREATE.
    pub old_object: Value,
    /// Who asks.
    pub user: User,
    /// The object that the policy's binding names as parameters.
    pub params: Option<Value>,
}

/// A kind of object, as in a URL.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resource {
    /// The API group; empty for the core one.
    pub group: String,
    /// The version, `v1`.
    pub version: String,
    /// The plural, `pods`.
    pub resource: String,
}

/// Who asks, as the API server has authenticated them.
#[derive(Clone, Debug, Default)]
pub struct User {
    /// `system:serviceaccount:NAMESPACE:NAME` for a pod.
    pub name: String,
    /// Its groups.
    pub groups: Vec<String>,
    /// What the token tells besides, such as the node that it is bound to.
    pub extra: BTreeMap<String, Vec<String>>,
}

impl Resource {
    /// A resource of the core group, version `v1`.
    pub fn core(resource: &str) -> Self {
        Self { group: String::new(), version: "v1".into(), resource: resource.into() }
    }
}

impl Review {
    /// The creation of an object of the core group.
    pub fn create(resource: &str, object: Value) -> Self {
        let resource = Resource::core(resource);
        Self { operation: "CREATE".into(), resource, object, ..Self::default() }
    }

    /// The change of an object of the core group. `resource` may have a subresource: `nodes/status`.
    pub fn update(resource: &str, old_object: Value, object: Value) -> Self {
        let (resource, subresource) = match resource.split_once('/') {
            Some((resource, subresource)) => (resource, Some(subresource.to_owned())),
            None => (resource, None),
        };
        Self {
            operation: "UPDATE".into(),
            subresource,
            old_object,
            ..Self::create(resource, object)
        }
    }

    /// What expressions know as `request`. As from the API server, fields that are empty are absent.
    pub(super) fn request(&self) -> Value {
        let text = |pointer: &str| self.object.pointer(pointer).cloned();
        let mut user = json!({"username": self.user.name});
        if !self.user.groups.is_empty() {
            user["groups"] = json!(self.user.groups);
        }
        if !self.user.extra.is_empty() {
            user["extra"] = json!(self.user.extra);
        }
        let Resource { group, version, resource } = &self.resource;
        let mut request = json!({
            "operation": self.operation,
            "resource": {"group": group, "version": version, "resource": resource},
            "userInfo": user,
        });
        let optional = [
            ("subResource", self.subresource.clone().map(Value::from)),
            ("name", text("/metadata/name")),
            ("namespace", text("/metadata/namespace")),
        ];
        for (key, value) in optional {
            if let Some(value) = value {
                request[key] = value;
            }
        }
        request
    }
}
