//! The fields of an object as server-side apply counts them. A list is one field: so it is with taints,
//! and wherever a schema does not say otherwise. Lists in the status have keys, but no apply gets there.

use std::collections::BTreeMap;
use std::fmt;

use serde_json::{Map, Value};

/// Where a field is: the names on the way to it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Path(Vec<String>);

/// What the server sets itself, or what names the object: owned by nobody.
const UNOWNED: [&str; 8] = [
    "name",
    "namespace",
    "uid",
    "resourceVersion",
    "generation",
    "creationTimestamp",
    "deletionTimestamp",
    "managedFields",
];

/// All fields of an object that can be owned, with their values.
pub(super) fn fields(object: &Value) -> BTreeMap<Path, &Value> {
    let mut fields = BTreeMap::new();
    for (name, value) in object.as_object().into_iter().flatten() {
        match (name.as_str(), value) {
            ("apiVersion" | "kind", _) => {}
            ("metadata", Value::Object(metadata)) => {
                let owned = metadata.iter().filter(|(inner, _)| !UNOWNED.contains(&inner.as_str()));
                for (inner, value) in owned {
                    collect(Path(vec![name.clone(), inner.clone()]), value, &mut fields);
                }
            }
            _ => collect(Path(vec![name.clone()]), value, &mut fields),
        }
    }
    fields
}

fn collect<'a>(path: Path, value: &'a Value, into: &mut BTreeMap<Path, &'a Value>) {
    match value {
        Value::Object(map) if !map.is_empty() => {
            for (name, value) in map {
                let mut inner = path.clone();
                inner.0.push(name.clone());
                collect(inner, value, into);
            }
        }
        _ => drop(into.insert(path, value)),
    }
}

impl Path {
    /// Whether it is the other one, or lies in it.
    pub(super) fn is_within(&self, other: &Self) -> bool {
        self.0.starts_with(&other.0)
    }

    /// What is there in an object.
    pub(super) fn of<'a>(&self, object: &'a Value) -> Option<&'a Value> {
        self.0.iter().try_fold(object, |place, name| place.get(name))
    }

    /// Sets the field; maps on the way are made.
    pub(super) fn set(&self, object: &mut Value, value: &Value) {
        let mut place = object;
        for name in &self.0 {
            if !place.is_object() {
                *place = Value::Object(Map::new());
            }
            place = &mut place[name.as_str()];
        }
        if !says_nothing(value, place) {
            *place = value.clone();
        }
    }

    /// Removes the field, and the maps that are empty then.
    pub(super) fn remove(&self, object: &mut Value) {
        remove(object, &self.0);
    }
}

/// An empty map in a manifest means that there is a map, not that it holds nothing.
pub(super) fn says_nothing(wanted: &Value, live: &Value) -> bool {
    wanted.as_object().is_some_and(Map::is_empty) && live.is_object()
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|name| write!(f, ".{name}"))
    }
}

fn remove(place: &mut Value, path: &[String]) {
    let (Some((name, rest)), Some(map)) = (path.split_first(), place.as_object_mut()) else {
        return;
    };
    if rest.is_empty() {
        map.remove(name);
    } else if let Some(inner) = map.get_mut(name) {
        remove(inner, rest);
        if inner.as_object().is_some_and(Map::is_empty) {
            map.remove(name);
        }
    }
}
