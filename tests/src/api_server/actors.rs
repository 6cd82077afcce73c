//! Who else acts in a cluster: the kubelet, the scheduler and the controllers. They see each change in
//! the store's history, and answer it with changes of their own a moment later.

use serde_json::{Value, json};

use super::Cluster;
use super::clock;
use super::kinds::CRDS;
use super::kubelet;
use super::nodes;
use super::ownership::Manager;
use super::store::Event;

/// Watches the history, for as long as the server is there.
pub(super) async fn run(cluster: Cluster) {
    let mut told = cluster.told();
    loop {
        while let Some(event) = cluster.next_for_actors() {
            react(&cluster, &event);
            cluster.acted();
        }
        if told.changed().await.is_err() {
            return;
        }
    }
}

fn react(cluster: &Cluster, event: &Event) {
    if event.deleted {
        return;
    }
    let is_new = event.old.is_none();
    let changed = |pointer: &str| {
        event.old.as_ref().is_none_or(|old| old.pointer(pointer) != event.object.pointer(pointer))
    };
    let (us, key) = (cluster.clone(), event.key.clone());
    match (key.group.as_str(), key.resource.as_str()) {
        ("", "pods") if is_new => {
            let pod = (*event.object).clone();
            cluster.act(kubelet::run(us, key, pod));
        }
        ("", "pods") if event.object["metadata"].get("deletionTimestamp").is_some() => {
            cluster.act(async move {
                us.pause().await;
                us.remove(&key);
            });
        }
        ("", "nodes") if changed("/status/capacity") => cluster.act(async move {
            us.pause().await;
            us.change(&key, &Manager::updating("kubelet", "status"), |node| {
                nodes::copy_capacity(node);
                Some(())
            });
        }),
        (CRDS, _) if is_new => cluster.act(async move {
            us.pause().await;
            us.change(&key, &Manager::updating("kube-apiserver", "status"), |definition| {
                establish(definition);
                Some(())
            });
        }),
        ("apps", "daemonsets") if changed("/spec") => cluster.act(async move {
            us.pause().await;
            let nodes = us.nodes();
            us.change(&key, &Manager::updating("kube-controller-manager", "status"), |set| {
                let selector = &set["spec"]["template"]["spec"]["nodeSelector"];
                let fits = |node: &&std::sync::Arc<Value>| {
                    let mut wanted = selector.as_object().into_iter().flatten();
                    nodes::is_ready(node)
                        && wanted.all(|(label, v)| node["metadata"]["labels"][label] == *v)
                };
                let count = nodes.iter().filter(fits).count();
                set["status"] = json!({
                    "currentNumberScheduled": count, "numberMisscheduled": 0,
                    "desiredNumberScheduled": count, "numberReady": count,
                    "observedGeneration": set["metadata"]["generation"],
                    "updatedNumberScheduled": count, "numberAvailable": count,
                });
                Some(())
            });
        }),
        _ => {}
    }
}

/// The names of a definition are accepted, and its objects are served.
pub(super) fn establish(definition: &mut Value) {
    let condition = |kind: &str, reason: &str, message: &str| {
        json!({"type": kind, "status": "True", "reason": reason, "message": message,
            "lastTransitionTime": clock::now()})
    };
    definition["status"]["conditions"] = json!([
        condition("NamesAccepted", "NoConflicts", "no conflicts found"),
        condition("Established", "InitialNamesAccepted", "the initial names have been accepted"),
    ]);
    definition["status"]["acceptedNames"] = definition["spec"]["names"].clone();
}
