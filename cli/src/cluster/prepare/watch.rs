//! One watch for all pods, and what each looks like now.

use std::collections::{HashMap, HashSet};
use std::future::Future;
use std::sync::Arc;

use futures_util::StreamExt;
use k8s_openapi::api::core::v1::Pod;
use kube::api::Api;
use kube::runtime::watcher::{self, Event};
use kube::runtime::{WatchStreamExt, watcher as follow};
use tokio::sync::watch;

use super::pods::MANAGED_BY;
use crate::cluster::error::Cause;
use crate::cluster::{CallError, Cluster, Object, Verb};

/// What is known of a pod.
#[derive(Clone, Debug)]
pub(super) enum Seen {
    /// Nothing yet.
    NotYet,
    /// It looks like this.
    There(Arc<Pod>),
    /// It was there, and is not any more.
    Gone,
}

/// What is known of each pod, by name.
pub(super) type Watched = HashMap<String, watch::Receiver<Seen>>;

/// Follows the pods of these names. The future does the work; it ends only if it cannot.
pub(super) fn pods(
    cluster: &Cluster,
    namespace: &str,
    names: Vec<String>,
) -> (Watched, impl Future<Output = CallError>) {
    let (mut senders, mut watched) = (HashMap::new(), HashMap::new());
    for name in names {
        let (sender, receiver) = watch::channel(Seen::NotYet);
        senders.insert(name.clone(), sender);
        watched.insert(name, receiver);
    }
    let api: Api<Pod> = Api::namespaced(cluster.client.clone(), namespace);
    let object = Object::all("pods").inside(namespace);
    (watched, run(api, object, senders))
}

async fn run(
    api: Api<Pod>,
    object: Object,
    pods: HashMap<String, watch::Sender<Seen>>,
) -> CallError {
    let config = watcher::Config::default().labels(&format!("{}={}", MANAGED_BY.0, MANAGED_BY.1));
    // It lists and watches anew, with pauses, after whatever goes wrong: a watch cut, or expired.
    let mut events = Box::pin(follow(api, config).default_backoff());
    let mut listed = HashSet::new();
    while let Some(event) = events.next().await {
        match event {
            Ok(Event::Init) => listed.clear(),
            Ok(Event::InitApply(pod)) => {
                listed.insert(name(&pod));
                there(&pods, pod);
            }
            Ok(Event::InitDone) => {
                for (_, pod) in pods.iter().filter(|(name, _)| !listed.contains(*name)) {
                    gone(pod);
                }
            }
            Ok(Event::Apply(pod)) => there(&pods, pod),
            Ok(Event::Delete(pod)) => drop(pods.get(&name(&pod)).map(gone)),
            Err(error) => match refusal(error) {
                Ok((verb, cause)) => return CallError { verb, object, cause },
                Err(error) => log::debug!("following the pods: {error}; once more"),
            },
        }
    }
    let cause = Cause::TimedOut(std::time::Duration::ZERO);
    CallError { verb: Verb::Watch, object, cause }
}

/// Why it would be of no use to try again, if so.
fn refusal(error: watcher::Error) -> Result<(Verb, Cause), watcher::Error> {
    let is_final = |code| matches!(code, 401 | 403 | 404);
    match error {
        watcher::Error::InitialListFailed(kube::Error::Api(status)) if is_final(status.code) => {
            Ok((Verb::List, Cause::Refused(status)))
        }
        watcher::Error::WatchStartFailed(kube::Error::Api(status)) if is_final(status.code) => {
            Ok((Verb::Watch, Cause::Refused(status)))
        }
        other => Err(other),
    }
}

fn name(pod: &Pod) -> String {
    pod.metadata.name.clone().unwrap_or_default()
}

fn there(pods: &HashMap<String, watch::Sender<Seen>>, mut pod: Pod) {
    if let Some(sender) = pods.get(&name(&pod)) {
        // All that is judged is its status. Thousands of whole pods would be hundreds of MiB.
        pod.spec = None;
        pod.metadata.managed_fields = None;
        // Nobody waits for a node that has ended.
        let _ = sender.send(Seen::There(Arc::new(pod)));
    }
}

/// One that was never seen is only not there yet.
fn gone(pod: &watch::Sender<Seen>) {
    pod.send_if_modified(|seen| {
        let was_there = matches!(seen, Seen::There(_));
        if was_there {
            *seen = Seen::Gone;
        }
        was_there
    });
}
