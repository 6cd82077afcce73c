//! Which nodes to prepare.

use anyhow::{bail, ensure};
use k8s_openapi::api::core::v1::Node;
use kube::api::{Api, ListParams};

use crate::cluster::{Cluster, Object, Verb, call};

/// Which nodes are asked for.
#[derive(Debug)]
pub(crate) enum Selection {
    /// Every one that is able to.
    All,
    /// These.
    Named(Vec<String>),
}

/// How many nodes to ask for at once.
const PAGE: u32 = 500;

/// Four times what Kubernetes supports in a cluster.
const MOST: usize = 20_000;

/// The names of the nodes to prepare, each once; says which are left out.
pub(super) async fn choose(
    cluster: &Cluster,
    selection: &Selection,
) -> anyhow::Result<Vec<String>> {
    let nodes = all(cluster).await?;
    match selection {
        Selection::All => every(&nodes),
        Selection::Named(names) => named(&nodes, names),
    }
}

async fn all(cluster: &Cluster) -> anyhow::Result<Vec<Node>> {
    let api: Api<Node> = Api::all(cluster.client.clone());
    let mut params = ListParams::default().limit(PAGE);
    let mut nodes = Vec::new();
    loop {
        let page = call(Verb::List, &Object::all("nodes"), || api.list(&params)).await?;
        nodes.extend(page.items.into_iter().map(what_is_judged));
        ensure!(nodes.len() <= MOST, "the API server lists more than {MOST} nodes: is it one?");
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => params = params.continue_token(&token),
            None => return Ok(nodes),
        }
    }
}

/// Without what is most of a node: images, and who set which field.
fn what_is_judged(mut node: Node) -> Node {
    node.metadata.managed_fields = None;
    node.metadata.annotations = None;
    if let Some(status) = &mut node.status {
        status.images = None;
    }
    node
}

fn every(nodes: &[Node]) -> anyhow::Result<Vec<String>> {
    let mut names = Vec::new();
    for node in nodes {
        match unfit(node) {
            Some(why) => log::warn!("node {} is left out: {why}", name(node)),
            None => names.push(name(node)),
        }
    }
    ensure!(!names.is_empty(), "no node of the cluster is Linux and ready: nothing to prepare");
    names.sort();
    Ok(names)
}

fn named(nodes: &[Node], wanted: &[String]) -> anyhow::Result<Vec<String>> {
    let mut names: Vec<String> = wanted.iter().filter(|name| !name.is_empty()).cloned().collect();
    names.sort();
    names.dedup();
    ensure!(!names.is_empty(), "--host-list names no node");
    let find = |wanted: &String| nodes.iter().find(|node| name(node) == *wanted);
    let missing: Vec<&str> =
        names.iter().filter(|name| find(name).is_none()).map(String::as_str).collect();
    if !missing.is_empty() {
        bail!("no such node: {}; give names as in: kubectl get nodes", missing.join(", "));
    }
    for node in names.iter().filter_map(find) {
        ensure!(is_linux(node), "node {} is not Linux", name(node));
        if let Some(why) = unfit(node) {
            log::warn!("node {}: {why}; its pods may not start", name(node));
        }
    }
    Ok(names)
}

fn name(node: &Node) -> String {
    node.metadata.name.clone().unwrap_or_default()
}

fn is_linux(node: &Node) -> bool {
    let labels = node.metadata.labels.as_ref();
    let system = labels.and_then(|labels| labels.get("kubernetes.io/os"));
    system.is_none_or(|system| system == "linux")
}

/// Why a node cannot be prepared now, if it cannot.
fn unfit(node: &Node) -> Option<&'static str> {
    if !is_linux(node) {
        return Some("it is not Linux");
    }
    let conditions = node.status.as_ref().and_then(|status| status.conditions.as_ref());
    let mut conditions = conditions.into_iter().flatten();
    let is_ready =
        conditions.any(|condition| condition.type_ == "Ready" && condition.status == "True");
    (!is_ready).then_some("it is not Ready")
}
