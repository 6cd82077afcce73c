//! Answers, and the `Status` objects by which the API server says no, worded as recorded.

use serde_json::{Value, json};

use super::kinds::Kind;

/// What a request is answered with.
#[derive(Clone, Debug)]
pub(super) struct Answer {
    pub(super) code: u16,
    pub(super) body: Content,
    /// Seconds, for the header `Retry-After`.
    pub(super) retry_after: Option<u64>,
}

/// The body of an answer.
#[derive(Clone, Debug)]
pub(super) enum Content {
    Json(Value),
    Text(String),
}

impl Answer {
    pub(super) fn json(code: u16, body: Value) -> Self {
        Self { code, body: Content::Json(body), retry_after: None }
    }

    pub(super) fn text(code: u16, body: &str) -> Self {
        Self { code, body: Content::Text(body.into()), retry_after: None }
    }

    /// A `Status` that says no. Without a reason or details it has no such field.
    pub(super) fn failure(code: u16, reason: &str, message: &str, details: Value) -> Self {
        let mut body = json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {},
            "status": "Failure", "message": message, "code": code,
        });
        if !reason.is_empty() {
            body["reason"] = reason.into();
        }
        if !details.is_null() {
            body["details"] = details;
        }
        Self::json(code, body)
    }
}

/// `details` of a Status about an object.
pub(super) fn details(kind: &Kind, name: &str) -> Value {
    let mut details = json!({"kind": kind.resource});
    if !name.is_empty() {
        details["name"] = name.into();
    }
    if !kind.group.is_empty() {
        details["group"] = kind.group.as_str().into();
    }
    details
}

pub(super) fn not_found(kind: &Kind, name: &str) -> Answer {
    let message = format!("{} \"{name}\" not found", kind.qualified_resource());
    Answer::failure(404, "NotFound", &message, details(kind, name))
}

pub(super) fn already_exists(kind: &Kind, name: &str) -> Answer {
    let message = format!("{} \"{name}\" already exists", kind.qualified_resource());
    Answer::failure(409, "AlreadyExists", &message, details(kind, name))
}

/// Somebody else has changed the object in between.
pub(super) fn conflict(kind: &Kind, name: &str) -> Answer {
    let message = format!(
        "Operation cannot be fulfilled on {} \"{name}\": the object has been modified; please apply \
         your changes to the latest version and try again",
        kind.qualified_resource()
    );
    Answer::failure(409, "Conflict", &message, details(kind, name))
}

/// A JSON patch whose `test` failed, or which names what is not there.
pub(super) fn patch_rejected() -> Answer {
    let message = "the server rejected our request due to an error in our request";
    Answer::failure(422, "Invalid", message, json!({}))
}

/// An object that breaks a rule: the field, the reason as a word, the rule.
pub(super) fn invalid(kind: &Kind, name: &str, field: &str, reason: &str, rule: &str) -> Answer {
    let message = format!("{} \"{name}\" is invalid: {field}: {rule}", kind.qualified_kind());
    let mut details = json!({
        "name": name, "kind": kind.kind,
        "causes": [{"reason": reason, "message": rule, "field": field}],
    });
    if !kind.group.is_empty() {
        details["group"] = kind.group.as_str().into();
    }
    Answer::failure(422, "Invalid", &message, details)
}

/// An object that admission forbids.
pub(super) fn forbidden(kind: &Kind, name: &str, why: &str) -> Answer {
    let message = format!("{} \"{name}\" is forbidden: {why}", kind.qualified_resource());
    Answer::failure(403, "Forbidden", &message, details(kind, name))
}

/// An object that a policy denies. The API server says `Invalid` here, not `Forbidden`.
pub(super) fn denied(kind: &Kind, name: &str, why: &str) -> Answer {
    let message = format!("{} \"{name}\" is forbidden: {why}", kind.qualified_resource());
    let mut details = details(kind, name);
    details["causes"] = json!([{"message": why}]);
    Answer::failure(422, "Invalid", &message, details)
}

pub(super) fn bad_request(message: &str) -> Answer {
    Answer::failure(400, "BadRequest", message, Value::Null)
}

pub(super) fn unauthorized() -> Answer {
    Answer::failure(401, "Unauthorized", "Unauthorized", Value::Null)
}

/// A resourceVersion whose history is gone.
pub(super) fn expired() -> Answer {
    let message = "too old resource version: 1 (2)";
    Answer::failure(410, "Expired", message, Value::Null)
}

/// What neither the recordings nor the issue have: never an answer that a test could pass over.
pub(super) fn unknown(why: &str) -> Answer {
    let message = format!("the test double does not know this: {why}");
    Answer::failure(501, "NotImplemented", &message, Value::Null)
}
