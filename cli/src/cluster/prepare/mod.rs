//! Preparing nodes from outside: kcm's own commands run there as pods, and are waited for.
//!
//! ```text
//! hosts (which nodes) → objects (service account, rights, kinds) → pods, of each node side by side:
//!     create or reuse → watch (one for all) → judge (pure) → the next pod, or the node's end
//! ```

mod fits;
mod hosts;
mod judge;
mod node;
mod objects;
mod plan;
mod pods;
mod progress;
mod watch;

use std::collections::BTreeSet;
use std::future::Future;
use std::pin::pin;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use futures_util::stream::FuturesUnordered;
use futures_util::{Stream, StreamExt};
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::{CallError, Cluster};
pub(crate) use hosts::Selection;
pub(crate) use plan::{Counts, Plan};
use progress::Progress;
pub(crate) use progress::summary;

/// How many requests may be on their way at once.
const AT_ONCE: usize = 16;

/// How a node ended.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// The node.
    pub(crate) node: String,
    /// How long it took.
    pub(crate) time: Duration,
    /// Why it is not ready, if it is not.
    pub(crate) failure: Option<String>,
}

/// Prepares the chosen nodes; how each ended, in the order of their names.
pub(crate) async fn prepare(
    cluster: &Cluster,
    plan: &Plan,
    selection: &Selection,
    limit: Duration,
) -> anyhow::Result<Vec<Outcome>> {
    let mut interrupt = Interrupt::new()?;
    let hosts = tokio::select! {
        hosts = ready(cluster, plan, selection) => hosts?,
        () = interrupt.comes() => bail!("interrupted before the first pod was made"),
    };
    let begun = Instant::now();
    let names = hosts.iter().flat_map(|host| plan.pods(host)).map(|pod| pod.name).collect();
    let (watched, watching) = watch::pods(cluster, &plan.namespace, names);
    let progress = Progress::new(&hosts);
    let at_once = tokio::sync::Semaphore::new(AT_ONCE);
    let preparing: FuturesUnordered<_> = hosts
        .iter()
        .map(|host| {
            let node = node::Node { cluster, plan, host, progress: &progress, at_once: &at_once };
            node.prepare(&watched, limit)
        })
        .collect();
    let mut outcomes = ended(preparing, watching, interrupt).await?;
    for node in unfinished(&hosts, &outcomes) {
        let failure = "kcm was interrupted; its pods go on".to_owned();
        progress.end(&node, Some(&failure));
        outcomes.push(Outcome { node, time: begun.elapsed(), failure: Some(failure) });
    }
    outcomes.sort_by(|a, b| a.node.cmp(&b.node));
    Ok(outcomes)
}

/// Has all there that the pods need; the nodes.
async fn ready(
    cluster: &Cluster,
    plan: &Plan,
    selection: &Selection,
) -> anyhow::Result<Vec<String>> {
    let hosts = hosts::choose(cluster, selection).await?;
    plan.check(&hosts)?;
    objects::apply(cluster, &plan.namespace).await?;
    Ok(hosts)
}

/// SIGINT and SIGTERM, which end nothing by themselves from here on.
struct Interrupt {
    interrupt: Signal,
    terminate: Signal,
}

impl Interrupt {
    fn new() -> anyhow::Result<Self> {
        let interrupt = signal(SignalKind::interrupt()).context("cannot wait for SIGINT")?;
        let terminate = signal(SignalKind::terminate()).context("cannot wait for SIGTERM")?;
        Ok(Self { interrupt, terminate })
    }

    async fn comes(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => (),
            _ = self.terminate.recv() => (),
        }
    }
}

/// How each node ended, up to the end of all, or until SIGINT or SIGTERM.
async fn ended(
    mut preparing: impl Stream<Item = Outcome> + Unpin,
    watching: impl Future<Output = CallError>,
    mut interrupt: Interrupt,
) -> anyhow::Result<Vec<Outcome>> {
    let mut watching = pin!(watching);
    let mut outcomes = Vec::new();
    loop {
        tokio::select! {
            outcome = preparing.next() => match outcome {
                Some(outcome) => outcomes.push(outcome),
                None => return Ok(outcomes),
            },
            // It does not end by itself.
            error = &mut watching => return Err(error).context("cannot follow the pods"),
            () = interrupt.comes() => return Ok(outcomes),
        }
    }
}

/// The nodes of which nothing was heard before kcm was interrupted.
fn unfinished(hosts: &[String], outcomes: &[Outcome]) -> Vec<String> {
    let ended: BTreeSet<&str> = outcomes.iter().map(|outcome| outcome.node.as_str()).collect();
    hosts.iter().filter(|host| !ended.contains(host.as_str())).cloned().collect()
}
