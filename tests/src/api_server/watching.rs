//! Watches: the history from a resourceVersion on, one JSON object a line.

use std::io;
use std::time::Duration;

use http_body_util::channel::Sender;
use hyper::body::Bytes;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::Cluster;
use super::answer::{self, Answer, Content};
use super::faults::What;
use super::request::{Seen, Target};
use super::selectors::Selector;
use super::store::Event;

/// A watch that has been admitted.
#[derive(Debug)]
pub(super) struct Watch {
    target: Target,
    selector: Selector,
    /// The first event of the history that has not been told.
    next: usize,
    /// What is told first: the objects that are there.
    first: Vec<String>,
    bookmarks: bool,
    until: Option<Instant>,
    fault: Option<What>,
}

impl Watch {
    /// Reads the request. Without a resourceVersion the watch begins with what is there.
    pub(super) fn new(
        cluster: &Cluster,
        seen: &Seen,
        target: &Target,
        fault: Option<What>,
    ) -> Result<Self, Answer> {
        let selector = Selector::of(seen)?;
        if let Some(other) = seen.parameter("resourceVersionMatch") {
            return Err(answer::unknown(&format!("a watch with resourceVersionMatch={other}")));
        }
        let seconds = seen.parameter("timeoutSeconds").map(|text| text.parse::<u64>());
        let seconds = seconds.transpose().map_err(|_| answer::unknown("timeoutSeconds"))?;
        let version = seen.parameter("resourceVersion").unwrap_or("0");
        let version: u64 = version.parse().map_err(|_| answer::unknown("resourceVersion"))?;
        let state = cluster.lock();
        let history = &state.store.history;
        let (next, first) = match version {
            0 => {
                let (group, resource) = (&target.kind.group, &target.kind.resource);
                let there = state.store.list(group, resource, &target.namespace);
                let there =
                    there.filter(|(key, _)| target.name.is_empty() || key.name == target.name);
                let selected = there.filter(|(_, object)| selector.selects(object));
                let first = selected.map(|(_, object)| line("ADDED", object)).collect();
                (history.len(), first)
            }
            from => (history.partition_point(|event| event.version <= from), Vec::new()),
        };
        Ok(Self {
            target: target.clone(),
            selector,
            next,
            first,
            bookmarks: seen.is_set("allowWatchBookmarks"),
            until: seconds.map(|seconds| Instant::now() + Duration::from_secs(seconds)),
            fault,
        })
    }

    /// Tells events until the time is over, a fault ends it, or nobody listens any more.
    pub(super) async fn tell(mut self, cluster: Cluster, mut sender: Sender<Bytes, io::Error>) {
        let mut told = cluster.told();
        let mut lines = std::mem::take(&mut self.first);
        let mut count = 0;
        loop {
            for line in lines.drain(..) {
                if self.fault_is_due(count) {
                    return self.fail(sender).await;
                }
                count += 1;
                if !send(&cluster, &mut sender, line).await {
                    return;
                }
            }
            if self.fault_is_due(count) {
                return self.fail(sender).await;
            }
            lines = self.news(&cluster);
            if !lines.is_empty() {
                continue;
            }
            let deadline = async {
                match self.until {
                    Some(until) => tokio::time::sleep_until(until).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                changed = told.changed() => if changed.is_err() { return },
                () = deadline => {
                    if self.bookmarks {
                        send(&cluster, &mut sender, self.bookmark(&cluster)).await;
                    }
                    return;
                }
            }
        }
    }

    /// What has happened since the last look. An object that is selected no more is DELETED for
    /// this watch, and one that newly is, ADDED.
    fn news(&mut self, cluster: &Cluster) -> Vec<String> {
        let state = cluster.lock();
        let events = &state.store.history[self.next..];
        let lines = events.iter().filter_map(|event| self.told_as(event)).collect();
        self.next = state.store.history.len();
        lines
    }

    fn told_as(&self, event: &Event) -> Option<String> {
        let (key, kind) = (&event.key, &self.target.kind);
        let concerns = key.group == kind.group
            && key.resource == kind.resource
            && key.namespace == self.target.namespace;
        if !concerns {
            return None;
        }
        let was = event.old.as_ref().is_some_and(|old| self.selector.selects(old));
        let is = !event.deleted && self.selector.selects(&event.object);
        let change = match (was, is) {
            (false, false) => return None,
            (false, true) => "ADDED",
            (true, true) => "MODIFIED",
            (true, false) => "DELETED",
        };
        Some(line(change, &event.object))
    }

    fn bookmark(&self, cluster: &Cluster) -> String {
        let version = cluster.lock().store.version.to_string();
        let kind = &self.target.kind;
        let object = json!({"kind": kind.kind, "apiVersion": kind.api_version(),
            "metadata": {"resourceVersion": version}});
        line("BOOKMARK", &object)
    }

    fn fault_is_due(&self, count: usize) -> bool {
        matches!(self.fault, Some(What::Cut(after) | What::GoneEvent(after)) if count >= after)
    }

    async fn fail(self, mut sender: Sender<Bytes, io::Error>) {
        if let Some(What::GoneEvent(_)) = self.fault {
            if let Content::Json(status) = answer::expired().body {
                let _ = sender.send_data(line("ERROR", &status).into()).await;
            }
            return;
        }
        let _ = sender.send_data("{\"type\":\"MODIFIED\",\"obj".into()).await;
        // What was sent is to arrive before the connection is gone.
        tokio::time::sleep(Duration::from_millis(20)).await;
        sender.abort(io::Error::other("cut by a test"));
    }
}

async fn send(cluster: &Cluster, sender: &mut Sender<Bytes, io::Error>, line: String) -> bool {
    cluster.lock().bytes += line.len() as u64;
    sender.send_data(line.into()).await.is_ok()
}

fn line(change: &str, object: &Value) -> String {
    format!("{}\n", json!({"type": change, "object": object}))
}
