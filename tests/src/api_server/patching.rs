//! The three kinds of PATCH that are known: merge, JSON, and server-side apply.

use serde_json::{Map, Value, json};

use super::admission;
use super::answer::{self, Answer};
use super::defaults;
use super::handling::Call;
use super::ownership::{Apply, Manager};
use super::schema;

/// A merge patch or a JSON patch, of the object or of its status.
pub(super) fn patch(call: &Call<'_>) -> Result<Answer, Answer> {
    let (key, kind) = (call.key(), &call.target.kind);
    let old = call.cluster.object(&key).ok_or_else(|| call.not_found())?;
    let patched = patched(call, &old)?;
    if patched["metadata"]["resourceVersion"] != old["metadata"]["resourceVersion"] {
        return Err(answer::conflict(kind, &key.name));
    }
    let mut new = only_part(&old, patched, &call.target.subresource);
    count_generation(call, &old, &mut new);
    admission::review(call, call.target, &old, &new)?;
    let manager = call.manager();
    call.cluster.write(|state| {
        let live = state.store.get(&key).ok_or_else(|| call.not_found())?;
        if live["metadata"]["resourceVersion"] != old["metadata"]["resourceVersion"] {
            return Err(answer::conflict(kind, &key.name));
        }
        if call.is_dry() {
            return Ok(Answer::json(200, new));
        }
        let mut managers = state.store.managers(&key);
        managers.updated(&manager, &live, &new);
        let stored = state.store.put(&key, new, managers);
        Ok(Answer::json(200, (*stored).clone()))
    })
}

fn patched(call: &Call<'_>, old: &Value) -> Result<Value, Answer> {
    let (body, mut object) = (&call.seen.body, old.clone());
    if call.seen.content_type == "application/merge-patch+json" {
        if !body.is_object() {
            return Err(answer::unknown("a merge patch that is no object"));
        }
        json_patch::merge(&mut object, body);
    } else {
        let operations: json_patch::Patch = serde_json::from_value(body.clone())
            .map_err(|error| answer::unknown(&format!("a JSON patch that is none: {error}")))?;
        json_patch::patch(&mut object, &operations).map_err(|_| answer::patch_rejected())?;
    }
    Ok(object)
}

/// Only the status is changed through `status`, and all but it otherwise. What the server sets stays.
fn only_part(old: &Value, mut patched: Value, subresource: &str) -> Value {
    if subresource == "status" {
        let mut new = old.clone();
        new["status"] = patched["status"].take();
        return new;
    }
    for field in ["status", "kind", "apiVersion"] {
        match old.get(field) {
            Some(kept) => patched[field] = kept.clone(),
            None => drop(patched.as_object_mut().map(|object| object.remove(field))),
        }
    }
    for field in ["name", "namespace", "uid", "creationTimestamp", "generation"] {
        if let Some(kept) = old["metadata"].get(field) {
            patched["metadata"][field] = kept.clone();
        }
    }
    // Go leaves out what is empty here.
    leave_out_empty(&mut patched, "spec", "taints");
    leave_out_empty(&mut patched, "metadata", "labels");
    leave_out_empty(&mut patched, "metadata", "annotations");
    if patched["spec"].is_null() && old["spec"].is_object() {
        patched["spec"] = json!({});
    }
    patched
}

fn leave_out_empty(object: &mut Value, place: &str, field: &str) {
    let Some(place) = object.get_mut(place).and_then(Value::as_object_mut) else { return };
    let is_empty = |value: &Value| {
        value.as_array().is_some_and(Vec::is_empty) || value.as_object().is_some_and(Map::is_empty)
    };
    if place.get(field).is_some_and(is_empty) {
        place.remove(field);
    }
}

fn count_generation(call: &Call<'_>, old: &Value, new: &mut Value) {
    let outside = |object: &Value| -> Map<String, Value> {
        let fields = object.as_object().into_iter().flatten();
        let counted = fields.filter(|(name, _)| *name != "metadata" && *name != "status");
        counted.map(|(name, value)| (name.clone(), value.clone())).collect()
    };
    if call.target.kind.has_generation() && outside(old) != outside(new) {
        let generation = old["metadata"]["generation"].as_u64().unwrap_or_default();
        new["metadata"]["generation"] = json!(generation + 1);
    }
}

/// Server-side apply, which creates what is not there.
pub(super) fn apply(call: &Call<'_>) -> Result<Answer, Answer> {
    let (key, kind, target) = (call.key(), &call.target.kind, call.target);
    let Some(manager) = call.seen.parameter("fieldManager") else {
        return Err(answer::unknown("an apply without fieldManager"));
    };
    let mut wanted = call.manifest()?;
    if kind.has_status()
        && let Some(fields) = wanted.as_object_mut()
    {
        // A status is not for the main resource to change, and so nobody comes to own it there.
        fields.remove("status");
    }
    if wanted["metadata"]["name"] != key.name.as_str() {
        return Err(answer::unknown("an apply of an object of another name than the URL's"));
    }
    let definition = call.cluster.definition(&kind.group, &kind.resource);
    let schema = definition.map(|d| d["spec"]["versions"][0]["schema"]["openAPIV3Schema"].clone());
    if let Some(schema) = &schema {
        schema::check_types(target, &wanted, schema)?;
    }
    let live = call.cluster.object(&key);
    if live.is_none() {
        call.who.authorize_verb("create", target, &call.cluster.lock().store)?;
    }
    let asked = &wanted["metadata"]["resourceVersion"];
    if live.as_ref().is_some_and(|l| !asked.is_null() && l["metadata"]["resourceVersion"] != *asked)
    {
        return Err(answer::conflict(kind, &key.name));
    }
    let apply = Apply {
        manager: Manager::applying(manager),
        api_version: kind.api_version(),
        force: call.seen.is_set("force"),
    };
    let complete = |object: &mut Value| defaults::complete(&key.group, &key.resource, object);
    let bare = json!({"kind": kind.kind, "apiVersion": kind.api_version()});
    let old = live.as_deref().cloned().unwrap_or(bare);
    let mut managers = call.cluster.lock().store.managers(&key);
    let mut new = managers.apply(&apply, &old, &wanted, &complete)?;
    if let Some(schema) = &schema {
        schema::validate(kind, &key.name, &new, schema)?;
    }
    match &live {
        Some(old) => {
            count_generation(call, old, &mut new);
            admission::review(call, target, old, &new)?;
        }
        None => admission::review(call, target, &Value::Null, &new)?,
    }
    call.cluster.write(|state| {
        let now = state.store.get(&key);
        if now.as_ref().map(|o| &o["metadata"]["resourceVersion"])
            != live.as_ref().map(|o| &o["metadata"]["resourceVersion"])
        {
            return Err(answer::conflict(kind, &key.name));
        }
        if live.is_none() {
            state.store.born(kind, &key, &mut new);
        }
        let code = if live.is_none() { 201 } else { 200 };
        if call.is_dry() {
            return Ok(Answer::json(code, new));
        }
        let stored = state.store.put(&key, new, managers);
        Ok(Answer::json(code, (*stored).clone()))
    })
}
