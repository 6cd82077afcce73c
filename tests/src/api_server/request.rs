//! A request as it came in, taken apart.

use serde_json::Value;

use super::kinds::Kind;

/// A request that the server has seen, for tests to look at.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// `GET`, `POST`, `PATCH`, `DELETE`.
    pub method: String,
    /// The path, without the query.
    pub path: String,
    /// The query, decoded, in the order of the URL.
    pub query: Vec<(String, String)>,
    /// The content type, empty if there is none.
    pub content_type: String,
    /// The body; null if there is none, or if it is neither JSON nor YAML.
    pub body: Value,
    /// Who asked; empty for a token that is not known.
    pub user: String,
    /// The status of the answer; 0 as long as there is none, and if the connection was closed instead.
    pub status: u16,
    /// The verb as RBAC has it: `get`, `list`, `watch`, `create`, `patch`, `delete`.
    pub verb: String,
    /// The API group, empty for the core one.
    pub group: String,
    /// The plural, `nodes`; empty if the path names no kind that is known.
    pub resource: String,
    /// `status`, `log`, `token`, or empty.
    pub subresource: String,
    /// The namespace, or empty.
    pub namespace: String,
    /// The object's name, empty for a collection.
    pub name: String,
}

/// What a path names.
#[derive(Clone, Debug)]
pub(super) struct Target {
    pub(super) kind: Kind,
    pub(super) namespace: String,
    pub(super) name: String,
    pub(super) subresource: String,
}

/// The parts of a path below `/api/v1` or `/apis/GROUP/VERSION`, before it is known whether there is
/// such a kind.
#[derive(Debug, Default)]
pub(super) struct Parts {
    pub(super) group: String,
    pub(super) version: String,
    pub(super) namespace: String,
    pub(super) resource: String,
    pub(super) name: String,
    pub(super) subresource: String,
}

impl Seen {
    /// A parameter of the query.
    pub fn parameter(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// Whether a parameter of the query says yes.
    pub(super) fn is_set(&self, name: &str) -> bool {
        self.parameter(name).is_some_and(|value| value == "true" || value == "1")
    }

    /// The verb that RBAC has for a method.
    pub(super) fn verb_of(method: &str, has_name: bool, watches: bool) -> &'static str {
        match (method, has_name) {
            ("GET", _) if watches => "watch",
            ("GET", true) => "get",
            ("GET", false) => "list",
            ("POST", _) => "create",
            ("PATCH", _) => "patch",
            ("PUT", _) => "update",
            ("DELETE", true) => "delete",
            ("DELETE", false) => "deletecollection",
            _ => "",
        }
    }

    /// What of `merge`, `json`, `apply`, `get`, … it is, with its subresource in front.
    pub(super) fn operation(&self) -> String {
        let operation = match (self.verb.as_str(), self.content_type.as_str()) {
            ("patch", "application/merge-patch+json") => "merge",
            ("patch", "application/json-patch+json") => "json",
            ("patch", "application/apply-patch+yaml") => "apply",
            ("patch", other) => other,
            (verb, _) => verb,
        };
        match self.subresource.as_str() {
            "" => operation.to_owned(),
            subresource => format!("{subresource}/{operation}"),
        }
    }
}

impl Parts {
    /// Takes a path apart; nothing if it is none of an object or a collection.
    pub(super) fn of(path: &str) -> Option<Self> {
        let mut rest: Vec<String> = path.trim_start_matches('/').split('/').map(decoded).collect();
        let mut parts = Self::default();
        match rest.first()?.as_str() {
            "api" if rest.len() > 2 => {
                parts.version = rest[1].clone();
                rest.drain(..2);
            }
            "apis" if rest.len() > 3 => {
                parts.group = rest[1].clone();
                parts.version = rest[2].clone();
                rest.drain(..3);
            }
            _ => return None,
        }
        if rest[0] == "namespaces" && rest.len() > 2 {
            parts.namespace = rest[1].clone();
            rest.drain(..2);
        }
        let mut rest = rest.into_iter();
        parts.resource = rest.next()?;
        parts.name = rest.next().unwrap_or_default();
        parts.subresource = rest.next().unwrap_or_default();
        rest.next().is_none().then_some(parts)
    }
}

/// The query of a URL, decoded.
pub(super) fn query(text: &str) -> Vec<(String, String)> {
    let pairs = text.split('&').filter(|pair| !pair.is_empty());
    pairs
        .map(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decoded(key), decoded(value))
        })
        .collect()
}

/// A part of a URL with its percent signs resolved.
fn decoded(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => {
                let digits = [rest.next().unwrap_or(b'0'), rest.next().unwrap_or(b'0')];
                let digits = String::from_utf8_lossy(&digits);
                u8::from_str_radix(&digits, 16).unwrap_or(b'?')
            }
            byte => byte,
        });
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
