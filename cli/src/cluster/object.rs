//! What a call to the API server is about, in the words of its own messages and of RBAC.

use std::fmt;

use serde_json::json;

use super::GROUP;

/// What is done, by the verb of RBAC that it needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verb {
    /// Reads one object.
    Get,
    /// Reads all.
    List,
    /// Is told of changes.
    Watch,
    /// Makes a new one.
    Create,
    /// Changes one.
    Patch,
    /// Changes one by server-side apply, which also makes it: for that `create` is needed, too.
    Apply,
}

impl Verb {
    fn name(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::List => "list",
            Self::Watch => "watch",
            Self::Create => "create",
            Self::Patch | Self::Apply => "patch",
        }
    }
}

impl fmt::Display for Verb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// An object, or all of a kind, as RBAC names them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Object {
    /// The API group; empty for the core.
    pub(crate) group: &'static str,
    /// The plural, with the subresource: `nodes/status`.
    pub(crate) resource: &'static str,
    /// Where it is, if it is in a namespace.
    pub(crate) namespace: Option<String>,
    /// Its name; none for all of them.
    pub(crate) name: Option<String>,
}

impl Object {
    /// An object of the core group.
    pub(crate) fn core(resource: &'static str, name: &str) -> Self {
        Self { group: "", resource, namespace: None, name: Some(name.to_owned()) }
    }

    /// All objects of a kind of the core group.
    pub(crate) fn all(resource: &'static str) -> Self {
        Self { group: "", resource, namespace: None, name: None }
    }

    /// An object of another group.
    pub(crate) fn of(group: &'static str, resource: &'static str, name: &str) -> Self {
        Self { group, resource, namespace: None, name: Some(name.to_owned()) }
    }

    /// The same in this namespace.
    pub(crate) fn inside(mut self, namespace: &str) -> Self {
        self.namespace = Some(namespace.to_owned());
        self
    }

    /// Whether kcm's commands on nodes do this, so that the manifest has its rule. What `cluster-init`
    /// does besides is up to whoever runs it.
    pub(crate) fn is_done_on_nodes(&self, verb: Verb) -> bool {
        let is_of_nodes = self.resource == "nodes" || self.resource == "nodes/status";
        self.group == GROUP || (is_of_nodes && verb != Verb::List)
    }

    /// The rule of a role that allows it, as one would write it into a manifest.
    pub(crate) fn rule(&self, verb: Verb) -> String {
        let verbs = match verb {
            Verb::Apply => vec!["create", "patch"],
            verb => vec![verb.name()],
        };
        let rule = json!({"apiGroups": [self.group], "resources": [self.resource], "verbs": verbs});
        let kind = if self.namespace.is_some() { "Role or ClusterRole" } else { "ClusterRole" };
        format!("{rule} in a {kind}")
    }
}

impl fmt::Display for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.resource)?;
        if let Some(name) = &self.name {
            write!(f, " {name}")?;
        }
        if let Some(namespace) = &self.namespace {
            write!(f, " in namespace {namespace}")?;
        }
        Ok(())
    }
}
