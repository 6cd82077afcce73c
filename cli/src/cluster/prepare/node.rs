//! One node, from its first pod to its end.

use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::{ContainerState, Pod as KubePod};
use kube::api::{Api, ApiResource, DynamicObject, LogParams, PostParams};
use kube::core::GroupVersionKind;
use serde_json::{Value, json};
use tokio::sync::Semaphore;
use tokio::sync::watch::Receiver;

use super::Outcome;
use super::fits::difference;
use super::judge::{Failure, Verdict, containers, judge};
use super::plan::Plan;
use super::pods::Pod;
use super::progress::Progress;
use super::watch::{Seen, Watched};
use crate::cluster::{Cluster, FIELD_MANAGER, Object, Verb, call};

/// How long all containers of a pod must have been running to be believed: one that cannot work
/// ends within a moment, and is started again.
const SETTLED: Duration = Duration::from_secs(2);

/// How much of a log to show.
const LOG_LINES: i64 = 10;

/// How long a log may take: the kubelet of a node that is lost has none to give.
const LOG_LIMIT: Duration = Duration::from_secs(5);

/// A node to prepare, and what that takes.
#[derive(Clone, Copy)]
pub(super) struct Node<'a> {
    pub(super) cluster: &'a Cluster,
    pub(super) plan: &'a Plan,
    pub(super) host: &'a str,
    pub(super) progress: &'a Progress,
    pub(super) at_once: &'a Semaphore,
}

/// Where a node has got to, for whoever has to hear that it got no further.
#[derive(Default)]
struct Place {
    text: String,
    /// The pod that is waited for.
    pod: Option<String>,
    /// What is known of it.
    seen: Option<Receiver<Seen>>,
}

impl Node<'_> {
    /// Makes its pods, each when the one before has succeeded, and waits for them.
    pub(super) async fn prepare(self, watched: &Watched, limit: Duration) -> Outcome {
        let begun = Instant::now();
        let mut place = Place::default();
        let failure = match tokio::time::timeout(limit, self.pods(watched, &mut place)).await {
            Ok(result) => result.err(),
            Err(_) => {
                let why = format!("not ready after {} s: {}", limit.as_secs_f64(), place.text);
                let pod = place.seen.as_ref().map(|seen| seen.borrow().clone());
                let container = match pod {
                    Some(Seen::There(pod)) => at_work(&pod),
                    _ => None,
                };
                Some(Failure { why, container })
            }
        };
        if let Some(container) = failure.as_ref().and_then(|failure| failure.container.as_deref()) {
            self.show_log(place.pod.as_deref().unwrap_or_default(), container).await;
        }
        let failure = failure.map(|Failure { why, .. }| match &place.pod {
            Some(pod) => format!("pod {pod}: {why}"),
            None => why,
        });
        self.progress.end(self.host, failure.as_deref());
        Outcome { node: self.host.to_owned(), time: begun.elapsed(), failure }
    }

    async fn pods(&self, watched: &Watched, place: &mut Place) -> Result<(), Failure> {
        for pod in self.plan.pods(self.host) {
            self.at(place, format!("making {}", pod.name));
            place.pod = Some(pod.name.clone());
            place.seen = watched.get(&pod.name).cloned();
            self.make(&pod).await.map_err(|why| Failure { why, container: None })?;
            if let Some(seen) = place.seen.clone() {
                self.wait(&pod, seen, place).await?;
            }
        }
        Ok(())
    }

    /// Creates the pod, or finds that it is there already as it should be.
    async fn make(&self, pod: &Pod) -> Result<(), String> {
        // Never closed.
        let _turn = self.at_once.acquire().await;
        let kind = ApiResource::from_gvk(&GroupVersionKind::gvk("", "v1", "Pod"));
        let (client, namespace) = (self.cluster.client.clone(), &self.plan.namespace);
        let api: Api<DynamicObject> = Api::namespaced_with(client, namespace, &kind);
        let object = Object::core("pods", &pod.name).inside(namespace);
        let wanted: DynamicObject = serde_json::from_value(pod.object.clone())
            .map_err(|e| format!("it cannot be written down: {e}"))?;
        let params = PostParams { field_manager: Some(FIELD_MANAGER.into()), ..Default::default() };
        match call(Verb::Create, &object, || api.create(&params, &wanted)).await {
            Ok(_) => Ok(()),
            Err(error) if error.is_of_one_that_exists() => {
                let found = call(Verb::Get, &object, || api.get(&pod.name)).await;
                self.reuse(pod, &json!(found.map_err(|error| error.to_string())?))
            }
            Err(error) => Err(error.to_string()),
        }
    }

    fn reuse(&self, pod: &Pod, found: &Value) -> Result<(), String> {
        let namespace = &self.plan.namespace;
        let remedy = format!("remove it: kubectl delete pod --namespace={namespace} {}", pod.name);
        match difference(&pod.object, found) {
            Some(difference) => {
                Err(format!("there is another of this name already: {difference}; {remedy}"))
            }
            None if found.pointer("/status/phase").is_some_and(|phase| phase == "Failed") => {
                Err(format!("it is there already, from an earlier time, and has failed; {remedy}"))
            }
            None => {
                self.progress.say(self.host, &format!("{} is there already", pod.name));
                Ok(())
            }
        }
    }

    /// Waits until the pod is where it should be, or will not get there.
    async fn wait(
        &self,
        pod: &Pod,
        mut seen: Receiver<Seen>,
        place: &mut Place,
    ) -> Result<(), Failure> {
        // With how many restarts all of it runs, and since when.
        let mut running: Option<(i32, Instant)> = None;
        loop {
            let now = seen.borrow_and_update().clone();
            let verdict = match now {
                Seen::NotYet => Verdict::Waiting("it is not there yet".to_owned()),
                Seen::Gone => {
                    let why = "somebody has deleted it".to_owned();
                    Verdict::Failed(Failure { why, container: None })
                }
                Seen::There(pod) => judge(&pod),
            };
            match verdict {
                Verdict::Failed(failure) => return Err(failure),
                Verdict::Succeeded if pod.is_long => {
                    let why = "it has ended, and should go on".to_owned();
                    return Err(Failure { why, container: None });
                }
                Verdict::Succeeded => return Ok(()),
                Verdict::Running(restarts) if pod.is_long => match running {
                    Some((before, since)) if before == restarts => {
                        if since.elapsed() >= SETTLED {
                            return Ok(());
                        }
                    }
                    _ => running = Some((restarts, Instant::now())),
                },
                Verdict::Running(_) => self.at(place, format!("{} is running", pod.name)),
                Verdict::Waiting(text) => {
                    running = None;
                    self.at(place, text);
                }
            }
            let due = running.map(|(_, since)| SETTLED.saturating_sub(since.elapsed()));
            let change = seen.changed();
            match due {
                // A change, or the time; both are looked at above.
                Some(due) => drop(tokio::time::timeout(due, change).await),
                // Closed only when all of it ends.
                None => drop(change.await),
            }
        }
    }

    fn at(&self, place: &mut Place, text: String) {
        if place.text != text {
            self.progress.say(self.host, &text);
            place.text = text;
        }
    }

    /// Shows the end of a container's log, where there is one.
    async fn show_log(&self, pod: &str, container: &str) {
        let _turn = self.at_once.acquire().await;
        let api: Api<KubePod> = Api::namespaced(self.cluster.client.clone(), &self.plan.namespace);
        let params = LogParams {
            container: Some(container.to_owned()),
            tail_lines: Some(LOG_LINES),
            ..LogParams::default()
        };
        let object = Object::core("pods/log", pod).inside(&self.plan.namespace);
        let log = call(Verb::Get, &object, || api.logs(pod, &params));
        match tokio::time::timeout(LOG_LIMIT, log).await {
            Ok(Ok(text)) => {
                let lines = text.lines().map(|line| format!("{container} said: {line}"));
                lines.for_each(|line| self.progress.print(self.host, &line));
            }
            // One that never started has none (400).
            Ok(Err(error)) => log::debug!("{error}"),
            Err(_) => log::debug!("no log of {pod} within {} s", LOG_LIMIT.as_secs()),
        }
    }
}

/// The container that the pod is at: the first that has not ended well.
fn at_work(pod: &KubePod) -> Option<String> {
    let status = pod.status.as_ref()?;
    let is_done =
        |state: &ContainerState| state.terminated.as_ref().is_some_and(|end| end.exit_code == 0);
    containers(status)
        .find(|container| !container.state.as_ref().is_some_and(is_done))
        .map(|container| container.name.clone())
}
