//! Objects of a custom kind against the schema of its definition.

use serde_json::Value;

use super::answer::{self, Answer};
use super::kinds::Kind;
use super::request::Target;

/// What is applied, before it is merged: types and names of fields. The answer is the one that the
/// API server has for a patch that it cannot type.
pub(super) fn check_types(target: &Target, wanted: &Value, schema: &Value) -> Result<(), Answer> {
    if let Some(what) = merges_otherwise(schema) {
        return Err(answer::unknown(&format!("a schema with {what}")));
    }
    let mut errors = Vec::new();
    for (name, value) in wanted.as_object().into_iter().flatten() {
        if !matches!(name.as_str(), "apiVersion" | "kind" | "metadata") {
            types(&format!(".{name}"), value, &schema["properties"][name], &mut errors);
        }
    }
    let list = match errors.as_slice() {
        [] => return Ok(()),
        [only] => only.clone(),
        more => format!("errors:\n  {}", more.join("\n  ")),
    };
    let namespace = wanted["metadata"]["namespace"].as_str().unwrap_or_default();
    let kind = &target.kind;
    let message = format!(
        "failed to create typed patch object ({namespace}/{}; {}, Kind={}): {list}",
        target.name,
        kind.api_version(),
        kind.kind
    );
    Err(Answer::failure(500, "", &message, Value::Null))
}

/// What makes lists or maps of a schema merge in another way than is known here.
fn merges_otherwise(schema: &Value) -> Option<String> {
    let fields = schema.as_object()?;
    let other = |(name, value): (&String, &Value)| match name.as_str() {
        "x-kubernetes-list-type" => value != "atomic",
        "x-kubernetes-map-type" => value != "granular",
        _ => false,
    };
    match fields.iter().find(|field| other(*field)) {
        Some((name, value)) => Some(format!("{name}: {value}")),
        None => fields.values().find_map(merges_otherwise),
    }
}

fn types(path: &str, value: &Value, schema: &Value, errors: &mut Vec<String>) {
    if schema.is_null() {
        errors.push(format!("{path}: field not declared in schema"));
        return;
    }
    let mut expect =
        |what: &str| errors.push(format!("{path}: expected {what}, got {}", go(value)));
    match (schema["type"].as_str().unwrap_or_default(), value) {
        (_, Value::Null) | ("", _) => {}
        ("boolean", Value::Bool(_)) | ("string", Value::String(_)) => {}
        ("integer" | "number", Value::Number(_)) => {}
        ("object", Value::Object(fields)) => {
            let open = schema["x-kubernetes-preserve-unknown-fields"] == true;
            for (name, value) in fields {
                let inner = [&schema["properties"][name], &schema["additionalProperties"]];
                let inner = inner.into_iter().find(|schema| schema.is_object());
                if inner.is_some() || !open {
                    types(&format!("{path}.{name}"), value, inner.unwrap_or(&Value::Null), errors);
                }
            }
        }
        ("array", Value::Array(items)) => {
            for (at, item) in items.iter().enumerate() {
                types(&format!("{path}[{at}]"), item, &schema["items"], errors);
            }
        }
        ("integer" | "number", _) => expect("numeric (int or float)"),
        ("object", _) => expect("map"),
        ("array", _) => expect("list"),
        (other, _) => expect(other),
    }
}

/// A value as Go prints it in that message.
fn go(value: &Value) -> String {
    match value {
        Value::String(text) => format!("&{{{text}}}"),
        other => format!("&{{{other}}}"),
    }
}

/// What is to be stored: fields that are required, nulls, integers, enumerations.
pub(super) fn validate(
    kind: &Kind,
    name: &str,
    object: &Value,
    schema: &Value,
) -> Result<(), Answer> {
    rules("", object, schema)
        .map_err(|(field, reason, rule)| answer::invalid(kind, name, &field, reason, &rule))
}

type Broken = (String, &'static str, String);

fn rules(path: &str, value: &Value, schema: &Value) -> Result<(), Broken> {
    let below = |name: &str| match path {
        "" => name.to_owned(),
        path => format!("{path}.{name}"),
    };
    let wrong = |shown: &str, rule: String| {
        let rule = format!("Invalid value: {shown}: {path} in body {rule}");
        (path.to_owned(), "FieldValueInvalid", rule)
    };
    let kind = schema["type"].as_str().unwrap_or_default();
    match value {
        Value::Null if schema["nullable"] != true && !kind.is_empty() => {
            return Err(wrong("\"null\"", format!("must be of type {kind}: \"null\"")));
        }
        Value::Number(number) if kind == "integer" && number.is_f64() => {
            return Err(wrong("\"number\"", "must be of type integer: \"number\"".into()));
        }
        Value::Object(fields) => {
            for required in schema["required"].as_array().into_iter().flatten() {
                let required = required.as_str().unwrap_or_default();
                if !fields.contains_key(required) {
                    return Err((below(required), "FieldValueRequired", "Required value".into()));
                }
            }
            for (name, value) in fields {
                let inner = [&schema["properties"][name], &schema["additionalProperties"]];
                if let Some(inner) = inner.into_iter().find(|schema| schema.is_object()) {
                    rules(&below(name), value, inner)?;
                }
            }
        }
        Value::Array(items) => {
            for (at, item) in items.iter().enumerate() {
                rules(&format!("{path}[{at}]"), item, &schema["items"])?;
            }
        }
        _ => {}
    }
    Ok(())
}
