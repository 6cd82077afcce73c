//! Who has set which field of an object: what server-side apply is about.
//!
//! A manager is a name together with the way of writing: `kcm` that applies is another one than `kcm`
//! that patches, as on a real server. Fields of the same value are owned together.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::answer::Answer;
use super::fields::{Path, fields, says_nothing};

/// Who owns fields. The order is that in which conflicts are listed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Manager {
    pub(super) name: String,
    pub(super) applies: bool,
    pub(super) subresource: String,
}

/// The owners of one object's fields.
#[derive(Clone, Debug, Default)]
pub(super) struct Managers(BTreeMap<Manager, BTreeSet<Path>>);

/// One server-side apply.
#[derive(Debug)]
pub(super) struct Apply {
    pub(super) manager: Manager,
    pub(super) api_version: String,
    /// Whether fields are taken from those who own them.
    pub(super) force: bool,
}

impl Manager {
    /// One that creates, edits or patches.
    pub(super) fn updating(name: &str, subresource: &str) -> Self {
        Self { name: name.into(), applies: false, subresource: subresource.into() }
    }

    /// One that applies.
    pub(super) fn applying(name: &str) -> Self {
        Self { name: name.into(), applies: true, subresource: String::new() }
    }

    fn described(&self, api_version: &str) -> String {
        match (self.applies, self.subresource.as_str()) {
            (true, _) => format!("{:?}", self.name),
            (false, "") => format!("{:?} using {api_version}", self.name),
            (false, subresource) => {
                format!("{:?} with subresource {subresource:?} using {api_version}", self.name)
            }
        }
    }
}

impl Managers {
    /// Notes a write that was no apply: what it changed is its own now, and nobody else's.
    pub(super) fn updated(&mut self, by: &Manager, old: &Value, new: &Value) {
        let (before, after) = (fields(old), fields(new));
        let set: BTreeSet<Path> = after
            .iter()
            .filter(|(path, v)| before.get(path) != Some(v))
            .map(|f| f.0.clone())
            .collect();
        let gone: Vec<&Path> = before.keys().filter(|path| !after.contains_key(path)).collect();
        for owned in self.0.values_mut() {
            owned.retain(|path| !set.contains(path) && !gone.contains(&path));
        }
        if !set.is_empty() {
            self.0.entry(by.clone()).or_default().extend(set);
        }
        self.0.retain(|_, owned| !owned.is_empty());
    }

    /// Whether anybody but this one owns the field.
    fn owned_by_others(&self, manager: &Manager, path: &Path) -> bool {
        self.0.iter().any(|(other, owned)| other != manager && owned.contains(path))
    }

    /// The object as it is after an apply, defaults filled in by `complete`, with the fields' owners;
    /// or the conflicts.
    pub(super) fn apply(
        &mut self,
        apply: &Apply,
        live: &Value,
        wanted: &Value,
        complete: &dyn Fn(&mut Value),
    ) -> Result<Value, Answer> {
        let wanted = fields(wanted);
        let mut object = live.clone();
        if let Some(owned) = self.0.get(&apply.manager) {
            let dropped = owned.iter().filter(|path| !wanted.contains_key(path));
            for path in dropped.filter(|path| !self.owned_by_others(&apply.manager, path)) {
                // What was one value may be a map now.
                if !wanted.keys().any(|kept| kept.is_within(path)) {
                    path.remove(&mut object);
                }
            }
        }
        for (path, value) in &wanted {
            path.set(&mut object, value);
        }
        complete(&mut object);

        let is_changed = |path: &Path, value: &Value| match path.of(live) {
            Some(now) => !says_nothing(value, now) && path.of(&object) != Some(now),
            None => true,
        };
        let changed: Vec<&Path> =
            wanted.iter().filter(|(path, value)| is_changed(path, value)).map(|f| f.0).collect();
        self.settle(apply, live, &changed)?;
        self.0.insert(apply.manager.clone(), wanted.keys().cloned().collect());
        self.0.retain(|_, owned| !owned.is_empty());
        Ok(object)
    }

    /// Refuses the conflicts, or takes the fields away from their owners.
    fn settle(&mut self, apply: &Apply, live: &Value, changed: &[&Path]) -> Result<(), Answer> {
        let clash = |path: &Path| {
            // Who set an empty map does not own what others put into it.
            let is_map = path.of(live).is_some_and(Value::is_object);
            changed.iter().any(|c| path.is_within(c) || (c.is_within(path) && !is_map))
        };
        let mut conflicts = Vec::new();
        for (manager, owned) in self.0.iter_mut().filter(|(other, _)| **other != apply.manager) {
            if apply.force {
                owned.retain(|path| !clash(path));
            } else {
                let theirs = owned.iter().filter(|path| clash(path)).cloned();
                conflicts.extend(theirs.map(|path| (manager.described(&apply.api_version), path)));
            }
        }
        if conflicts.is_empty() { Ok(()) } else { Err(conflict(&conflicts)) }
    }
}

/// The answer that lists conflicts, by manager.
fn conflict(conflicts: &[(String, Path)]) -> Answer {
    let causes: Vec<Value> = conflicts
        .iter()
        .map(|(manager, path)| {
            json!({
                "reason": "FieldManagerConflict",
                "message": format!("conflict with {manager}"),
                "field": path.to_string(),
            })
        })
        .collect();
    let message = match conflicts {
        [(manager, path)] => {
            format!("Apply failed with 1 conflict: conflict with {manager}: {path}")
        }
        _ => {
            let mut lines = Vec::new();
            let mut last = "";
            for (manager, path) in conflicts {
                if manager != last {
                    lines.push(format!("conflicts with {manager}:"));
                    last = manager;
                }
                lines.push(format!("- {path}"));
            }
            format!("Apply failed with {} conflicts: {}", conflicts.len(), lines.join("\n"))
        }
    };
    Answer::failure(409, "Conflict", &message, json!({"causes": causes}))
}
