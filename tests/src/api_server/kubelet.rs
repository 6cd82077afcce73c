//! The scheduler and the kubelet, scripted: what becomes of a pod is for the test to say; how its
//! status looks on the way there is as recorded.

use std::time::Duration;

use serde_json::{Value, json};

use super::Cluster;
use super::ownership::Manager;
use super::pod_status;
use super::stages::stages;
use super::store::Key;

/// What becomes of a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// All containers end with 0.
    Succeeds,
    /// All containers run and are ready.
    Runs,
    /// A container ends with this code; the ones before it have succeeded. It crashes again and again
    /// if the pod's containers are always restarted.
    Fails {
        /// Its name; an init container's, too.
        container: String,
        /// Its exit code.
        code: i64,
        /// What `pods/log` gives for it.
        log: String,
    },
    /// The runtime cannot start a container, as when a hook refuses it.
    StartFails {
        /// Its name.
        container: String,
        /// What the runtime said.
        message: String,
    },
    /// All containers end with this code and are restarted: once, and then comes the back-off.
    CrashLoops {
        /// The exit code.
        code: i64,
        /// What `pods/log` gives.
        log: String,
    },
    /// The image cannot be had: `ErrImageNeverPull` or `ImagePullBackOff`, as its policy is.
    ImageMissing,
    /// No node is fit, each for this reason (`Insufficient kcm.intel.com/none`).
    Unschedulable(String),
    /// Its containers are being created for ever.
    Hangs,
    /// It runs, and then somebody deletes it.
    Vanishes,
}

/// How fast they work.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    /// Between two changes of a status.
    pub(super) step: Duration,
    /// Between the second crash of a container and `CrashLoopBackOff`.
    pub(super) back_off: Duration,
}

impl Outcome {
    /// What becomes of a pod if the test does not say.
    pub fn usual(pod: &Value) -> Self {
        if pod["spec"]["restartPolicy"] == "Never" { Self::Succeeds } else { Self::Runs }
    }
}

/// Takes a new pod through its life.
pub(super) async fn run(cluster: Cluster, key: Key, pod: Value) {
    let uid = pod["metadata"]["uid"].clone();
    let (outcome, pace) = cluster.outcome(&pod);
    let life = Life { cluster, key, uid };
    life.live(outcome, pace).await;
}

struct Life {
    cluster: Cluster,
    key: Key,
    uid: Value,
}

impl Life {
    /// Changes the pod's status, unless it is gone or on its way out.
    fn change(&self, edit: impl FnOnce(&mut Value)) -> Option<()> {
        let manager = Manager::updating("kubelet", "status");
        self.cluster.change(&self.key, &manager, |pod| {
            let mine = pod["metadata"]["uid"] == self.uid;
            let leaves = pod["metadata"].get("deletionTimestamp").is_some();
            (mine && !leaves).then(|| edit(pod))
        })
    }

    async fn live(&self, outcome: Outcome, pace: Pace) -> Option<()> {
        tokio::time::sleep(pace.step).await;
        self.schedule(&outcome)?;
        for stage in stages(&self.current()?, &outcome) {
            if stage.backs_off {
                self.cluster.wait_aside(pace.back_off).await;
            } else {
                tokio::time::sleep(pace.step).await;
            }
            self.change(|pod| pod_status::show(pod, &stage.containers, stage.sandbox))?;
            for container in &stage.containers {
                self.cluster.keep_log(&self.key, &container.name, container.log.clone());
            }
        }
        if outcome == Outcome::Vanishes {
            tokio::time::sleep(pace.step).await;
            self.cluster.remove(&self.key);
        }
        Some(())
    }

    fn current(&self) -> Option<Value> {
        self.cluster.object(&self.key).map(|pod| (*pod).clone())
    }

    /// Binds the pod to a node. One that is bound to a node that is not there stays as it is.
    fn schedule(&self, outcome: &Outcome) -> Option<()> {
        let pod = self.current()?;
        let nodes = self.cluster.nodes();
        let fits = |node: &&Value| {
            let selector = pod["spec"]["nodeSelector"].as_object();
            selector.into_iter().flatten().all(|(k, v)| node["metadata"]["labels"][k] == *v)
        };
        match (pod["spec"]["nodeName"].as_str(), outcome) {
            (Some(name), _) => nodes.iter().any(|n| n["metadata"]["name"] == name).then_some(()),
            (None, Outcome::Unschedulable(why)) => self.refuse(nodes.len(), why),
            (None, _) => match nodes.iter().map(|node| &**node).find(fits) {
                Some(node) => self.change(|pod| {
                    pod["spec"]["nodeName"] = node["metadata"]["name"].clone();
                    pod["status"]["conditions"] =
                        json!([pod_status::condition("PodScheduled", true, "", "")]);
                }),
                None => {
                    self.refuse(nodes.len(), "node(s) didn't match Pod's node affinity/selector")
                }
            },
        }
    }

    fn refuse(&self, nodes: usize, why: &str) -> Option<()> {
        let message = match nodes {
            0 => "no nodes available to schedule pods".to_owned(),
            n => format!(
                "0/{n} nodes are available: {n} {why}. no new claims to deallocate, preemption: 0/{n} \
                 nodes are available: {n} Preemption is not helpful for scheduling."
            ),
        };
        self.change(|pod| {
            let mut condition =
                pod_status::condition("PodScheduled", false, "Unschedulable", &message);
            condition["observedGeneration"] = json!(1);
            pod["status"]["conditions"] = json!([condition]);
        })?;
        None
    }
}
