//! What the server, the actors and the test share: the objects and everything noted about requests.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::runtime::Handle;
use tokio::sync::watch;

use super::actors;
use super::defaults;
use super::faults::{Before, Fault};
use super::kinds::{CRDS, Kind, OURS};
use super::kubelet::{Outcome, Pace};
use super::nodes;
use super::ownership::{Manager, Managers};
use super::request::{Parts, Seen, Target};
use super::store::{Event, Key, Store};
use super::users::Tokens;

type Decide = Arc<dyn Fn(&Value) -> Outcome + Send + Sync>;

/// The objects of a cluster, as somebody sees them who needs no server: neither rights nor faults
/// apply, and nothing is noted.
#[derive(Clone)]
pub struct Cluster {
    state: Arc<Mutex<State>>,
    told: Arc<watch::Sender<u64>>,
    runtime: Handle,
}

/// Everything under the one lock.
pub(super) struct State {
    pub(super) store: Store,
    pub(super) tokens: Tokens,
    pub(super) faults: Vec<Fault>,
    pub(super) before: Vec<Before>,
    pub(super) injected: usize,
    pub(super) requests: Vec<Seen>,
    /// Why the test must fail: requests that nobody has recorded or listed, and actors that broke.
    pub(super) wrong: Vec<String>,
    pub(super) latency: Duration,
    pub(super) in_flight: usize,
    pub(super) in_flight_max: usize,
    pub(super) bytes: u64,
    logs: HashMap<(Key, String), String>,
    decide: Decide,
    pace: Pace,
    acted: usize,
    acting: usize,
    queue: VecDeque<Event>,
}

/// What a path is about.
pub(super) enum Found {
    Target(Target),
    /// A kind of ours whose definition is not there (yet).
    NoPage(Target),
    Unknown,
}

impl Cluster {
    pub(super) fn new(runtime: Handle) -> Self {
        let state = State {
            store: Store::default(),
            tokens: Tokens::default(),
            faults: Vec::new(),
            before: Vec::new(),
            injected: 0,
            requests: Vec::new(),
            wrong: Vec::new(),
            latency: Duration::from_millis(1),
            in_flight: 0,
            in_flight_max: 0,
            bytes: 0,
            logs: HashMap::new(),
            decide: Arc::new(Outcome::usual),
            pace: Pace { step: Duration::from_millis(5), back_off: Duration::from_millis(5) },
            acted: 0,
            acting: 0,
            queue: VecDeque::new(),
        };
        let told = Arc::new(watch::Sender::new(0));
        Self { state: Arc::new(Mutex::new(state)), told, runtime }
    }

    /// The object of a path, `/api/v1/nodes/node-1`.
    pub fn get(&self, path: &str) -> Option<Value> {
        let key = self.key(path);
        self.object(&key).map(|object| (*object).clone())
    }

    /// Changes the object of a path, as somebody else in the cluster would.
    pub fn edit(&self, path: &str, edit: impl FnOnce(&mut Value)) {
        let manager = Manager::updating("kubectl-edit", "");
        let key = self.key(path);
        let edited = self.change(&key, &manager, |object| {
            edit(object);
            Some(())
        });
        edited.unwrap_or_else(|| panic!("{path} is not there, so it cannot be edited"));
    }

    /// Takes the object of a path away at once.
    pub fn delete(&self, path: &str) {
        let key = self.key(path);
        assert!(self.remove(&key), "{path} is not there, so it cannot be deleted");
    }

    /// Puts an object into a collection, with its defaults and no admission.
    pub fn create(&self, collection: &str, mut object: Value) {
        let name = object["metadata"]["name"].as_str().expect("an object has a name").to_owned();
        let target = self.target(&format!("{}/{name}", collection.trim_end_matches('/')));
        let key = Key::new(&target.kind, &target.namespace, &name);
        let manager = match target.kind.resource.as_str() {
            "nodes" => Manager::updating("kubelet", ""),
            _ => Manager::updating("kubectl-create", ""),
        };
        object["apiVersion"] = target.kind.api_version().into();
        object["kind"] = target.kind.kind.as_str().into();
        self.write(|state| {
            assert!(state.store.get(&key).is_none(), "{collection}/{name} is there already");
            state.store.born(&target.kind, &key, &mut object);
            defaults::complete(&key.group, &key.resource, &mut object);
            let mut managers = Managers::default();
            managers.updated(&manager, &Value::Null, &object);
            state.store.put(&key, object, managers);
        });
    }

    /// Adds a Linux node that is ready, shaped as the recorded one.
    pub fn add_node(&self, name: &str) {
        self.add_node_with(name, |_| {});
    }

    /// The same with changes.
    pub fn add_node_with(&self, name: &str, edit: impl FnOnce(&mut Value)) {
        let mut node = nodes::ready(name);
        edit(&mut node);
        self.create("/api/v1/nodes", node);
    }

    /// Puts definitions of custom resources in, established.
    pub fn install_crds(&self, definitions: impl IntoIterator<Item = Value>) {
        let collection = format!("/apis/{CRDS}/v1/customresourcedefinitions");
        for mut definition in definitions {
            defaults::complete(CRDS, "customresourcedefinitions", &mut definition);
            actors::establish(&mut definition);
            self.create(&collection, definition);
        }
    }

    /// Waits until kubelet, scheduler and controllers have answered every change so far.
    ///
    /// # Panics
    /// If they have not after 20 s.
    pub fn settle(&self) {
        let deadline = Instant::now() + Duration::from_secs(20);
        while !self.is_settled() {
            assert!(Instant::now() < deadline, "the cluster does not come to rest");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    fn is_settled(&self) -> bool {
        let state = self.lock();
        state.acting == 0 && state.acted == state.store.history.len()
    }

    fn target(&self, path: &str) -> Target {
        match self.find(path) {
            Found::Target(target) => target,
            _ => panic!("{path} names no kind of object that is there"),
        }
    }

    fn key(&self, path: &str) -> Key {
        let target = self.target(path);
        Key::new(&target.kind, &target.namespace, &target.name)
    }

    /// What a path is about.
    pub(super) fn find(&self, path: &str) -> Found {
        let Some(parts) = Parts::of(path) else { return Found::Unknown };
        let is_ours = parts.group == OURS;
        let kind = if is_ours {
            self.custom(&parts)
        } else {
            Kind::built_in(&parts.group, &parts.resource)
        };
        let kind = kind.filter(|kind| kind.version == parts.version);
        if kind.as_ref().is_some_and(|kind| kind.namespaced == parts.namespace.is_empty()) {
            return Found::Unknown;
        }
        let undefined = is_ours.then(|| Kind::undefined(&parts));
        let Parts { namespace, name, subresource, .. } = parts;
        let target = |kind| Target { kind, namespace, name, subresource };
        match (kind, undefined) {
            (Some(kind), _) => Found::Target(target(kind)),
            (None, Some(kind)) => Found::NoPage(target(kind)),
            (None, None) => Found::Unknown,
        }
    }

    fn custom(&self, parts: &Parts) -> Option<Kind> {
        let definition = self.definition(&parts.group, &parts.resource)?;
        let kind = Kind::custom(&definition);
        let conditions = definition["status"]["conditions"].as_array().into_iter().flatten();
        let established =
            conditions.into_iter().any(|condition| condition["type"] == "Established");
        established.then_some(kind)
    }

    /// The definition of a custom kind.
    pub(super) fn definition(&self, group: &str, resource: &str) -> Option<Arc<Value>> {
        let kind = Kind::built_in(CRDS, "customresourcedefinitions")?;
        self.object(&Key::new(&kind, "", &format!("{resource}.{group}")))
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Does something under the lock, and tells watchers and actors what has changed.
    pub(super) fn write<T>(&self, f: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.lock();
        let before = state.store.history.len();
        let result = f(&mut state);
        let new: Vec<Event> = state.store.history[before..].to_vec();
        let version = state.store.version;
        let changed = !new.is_empty();
        state.queue.extend(new);
        drop(state);
        if changed {
            self.told.send_replace(version);
        }
        result
    }

    pub(super) fn object(&self, key: &Key) -> Option<Arc<Value>> {
        self.lock().store.get(key)
    }

    pub(super) fn nodes(&self) -> Vec<Arc<Value>> {
        self.lock().store.list("", "nodes", "").map(|(_, node)| node.clone()).collect()
    }

    /// Changes an object; nothing if it is not there, or if `edit` leaves it.
    pub(super) fn change(
        &self,
        key: &Key,
        manager: &Manager,
        edit: impl FnOnce(&mut Value) -> Option<()>,
    ) -> Option<()> {
        self.write(|state| {
            let old = state.store.get(key)?;
            let mut new = (*old).clone();
            edit(&mut new)?;
            let mut managers = state.store.managers(key);
            let kind = old["kind"].as_str().unwrap_or_default();
            if kind != "Pod" {
                managers.updated(manager, &old, &new);
            }
            state.store.put(key, new, managers);
            Some(())
        })
    }

    /// Takes an object away; whether it was there.
    pub(super) fn remove(&self, key: &Key) -> bool {
        self.write(|state| {
            let old = state.store.get(key);
            old.map(|old| state.store.remove(key, (*old).clone())).is_some()
        })
    }

    pub(super) fn set_outcomes(&self, decide: impl Fn(&Value) -> Outcome + Send + Sync + 'static) {
        self.lock().decide = Arc::new(decide);
    }

    pub(super) fn set_pace(&self, edit: impl FnOnce(&mut Pace)) {
        edit(&mut self.lock().pace);
    }

    pub(super) fn outcome(&self, pod: &Value) -> (Outcome, Pace) {
        let (decide, pace) = {
            let state = self.lock();
            (state.decide.clone(), state.pace)
        };
        (decide(pod), pace)
    }

    pub(super) fn keep_log(&self, pod: &Key, container: &str, log: String) {
        self.lock().logs.insert((pod.clone(), container.to_owned()), log);
    }

    /// Says what a container of a pod has written.
    pub fn write_log(&self, pod: &str, container: &str, log: &str) {
        self.keep_log(&self.key(pod), container, log.into());
    }

    pub(super) fn log(&self, pod: &Key, container: &str) -> Option<String> {
        self.lock().logs.get(&(pod.clone(), container.to_owned())).cloned()
    }

    pub(super) fn told(&self) -> watch::Receiver<u64> {
        self.told.subscribe()
    }

    pub(super) async fn pause(&self) {
        let step = self.lock().pace.step;
        tokio::time::sleep(step).await;
    }

    /// Waits in a way that does not keep the cluster from being at rest.
    pub(super) async fn wait_aside(&self, how_long: Duration) {
        self.lock().acting -= 1;
        tokio::time::sleep(how_long).await;
        self.lock().acting += 1;
    }

    pub(super) fn next_for_actors(&self) -> Option<Event> {
        self.lock().queue.pop_front()
    }

    pub(super) fn acted(&self) {
        self.lock().acted += 1;
    }

    /// Runs an actor. One that panics fails the test.
    pub(super) fn act(&self, actor: impl Future<Output = ()> + Send + 'static) {
        self.lock().acting += 1;
        let (cluster, running) = (self.clone(), self.runtime.spawn(actor));
        self.runtime.spawn(async move {
            let result = running.await;
            let mut state = cluster.lock();
            state.acting -= 1;
            if let Err(error) = result.map_err(|error| error.try_into_panic())
                && let Ok(panic) = error
            {
                let text = panic.downcast_ref::<String>().cloned().unwrap_or_default();
                state.wrong.push(format!("what a test let a pod do is not possible: {text}"));
            }
        });
    }
}

impl fmt::Debug for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Cluster")
    }
}
