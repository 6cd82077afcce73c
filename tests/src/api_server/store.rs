//! The objects, their resourceVersions, and the history that watches are told.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::{Value, json};

use super::kinds::Kind;
use super::ownership::Managers;

/// Where an object is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Key {
    pub(super) group: String,
    pub(super) resource: String,
    pub(super) namespace: String,
    pub(super) name: String,
}

/// One change, as a watch tells it.
#[derive(Clone, Debug)]
pub(super) struct Event {
    pub(super) version: u64,
    pub(super) key: Key,
    /// The object before; nothing if it is new.
    pub(super) old: Option<Arc<Value>>,
    /// The object after; of one that is deleted, as it was at the end.
    pub(super) object: Arc<Value>,
    pub(super) deleted: bool,
}

#[derive(Debug)]
struct Stored {
    object: Arc<Value>,
    managers: Managers,
}

/// Everything that etcd would hold.
#[derive(Debug)]
pub(super) struct Store {
    objects: BTreeMap<Key, Stored>,
    /// The resourceVersion of the last change.
    pub(super) version: u64,
    pub(super) history: Vec<Event>,
    uids: u64,
}

impl Key {
    pub(super) fn new(kind: &Kind, namespace: &str, name: &str) -> Self {
        Self {
            group: kind.group.clone(),
            resource: kind.resource.clone(),
            namespace: namespace.into(),
            name: name.into(),
        }
    }

    pub(super) fn core(resource: &str, namespace: &str, name: &str) -> Self {
        Self {
            group: String::new(),
            resource: resource.into(),
            namespace: namespace.into(),
            name: name.into(),
        }
    }
}

impl Default for Store {
    /// Nothing is older than version 1, so that a watch from there sees it all.
    fn default() -> Self {
        Self { objects: BTreeMap::new(), version: 1, history: Vec::new(), uids: 0 }
    }
}

impl Store {
    pub(super) fn get(&self, key: &Key) -> Option<Arc<Value>> {
        self.objects.get(key).map(|stored| stored.object.clone())
    }

    pub(super) fn managers(&self, key: &Key) -> Managers {
        self.objects.get(key).map(|stored| stored.managers.clone()).unwrap_or_default()
    }

    /// The objects of a kind in one namespace (empty for kinds that have none), by name.
    pub(super) fn list<'a>(
        &'a self,
        group: &str,
        resource: &str,
        namespace: &str,
    ) -> impl Iterator<Item = (&'a Key, &'a Arc<Value>)> + use<'a> {
        let first = Key {
            group: group.into(),
            resource: resource.into(),
            namespace: namespace.into(),
            name: String::new(),
        };
        let all = first.clone();
        self.objects
            .range(first..)
            .take_while(move |(key, _)| {
                key.group == all.group
                    && key.resource == all.resource
                    && key.namespace == all.namespace
            })
            .map(|(key, stored)| (key, &stored.object))
    }

    /// The namespaces that have objects of a kind.
    pub(super) fn namespaces(&self, group: &str, resource: &str) -> BTreeSet<String> {
        let keys = self.objects.keys();
        let of_kind = keys.filter(|key| key.group == group && key.resource == resource);
        of_kind.map(|key| key.namespace.clone()).collect()
    }

    /// An object's metadata when it is new: all that the server adds but the resourceVersion.
    pub(super) fn born(&mut self, kind: &Kind, key: &Key, object: &mut Value) {
        self.uids += 1;
        let metadata = &mut object["metadata"];
        metadata["name"] = key.name.as_str().into();
        if kind.namespaced {
            metadata["namespace"] = key.namespace.as_str().into();
        }
        metadata["uid"] = format!("00000000-0000-4000-8000-{:012x}", self.uids).into();
        metadata["creationTimestamp"] = super::clock::now().into();
        if kind.has_generation() {
            metadata["generation"] = json!(1);
        }
    }

    /// Puts an object in its place, with a new resourceVersion unless it is as it was before.
    pub(super) fn put(&mut self, key: &Key, mut object: Value, managers: Managers) -> Arc<Value> {
        let old = self.get(key);
        if let Some(old) = &old
            && **old == object
        {
            self.objects.insert(key.clone(), Stored { object: old.clone(), managers });
            return old.clone();
        }
        self.version += 1;
        object["metadata"]["resourceVersion"] = self.version.to_string().into();
        let object = Arc::new(object);
        self.history.push(Event {
            version: self.version,
            key: key.clone(),
            old,
            object: object.clone(),
            deleted: false,
        });
        self.objects.insert(key.clone(), Stored { object: object.clone(), managers });
        object
    }

    /// Takes an object away; `last` is what watches are told of it.
    pub(super) fn remove(&mut self, key: &Key, mut last: Value) -> Arc<Value> {
        let old = self.objects.remove(key).map(|stored| stored.object);
        self.version += 1;
        last["metadata"]["resourceVersion"] = self.version.to_string().into();
        let object = Arc::new(last);
        self.history.push(Event {
            version: self.version,
            key: key.clone(),
            old,
            object: object.clone(),
            deleted: true,
        });
        object
    }
}
