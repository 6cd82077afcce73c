//! `kcm discover`: shows the cluster that this node has pools.

use std::collections::BTreeMap;
use std::process::ExitCode;

use anyhow::{Context, bail};
use kcm_core::CpuSet;
use kcm_core::pool::{Pool, PoolName};
use kcm_core::state::{ConfDir, Contents, LockTimeout};
use kcm_core::task::Glance;

use super::ConfDirFlag;
use super::node_name::NodeNameFlag;
use super::rounds::Rounds;
use crate::cluster::advertise::{Wanted, advertise};
use crate::cluster::{self, Cluster, GROUP};
use crate::logging;
use crate::machine::Machine;

/// The pool whose resource has a name of its own to choose.
const DATAPLANE: &str = "dataplane";

/// Shows the cluster this node's exclusive pools: as extended resources, by a label and a taint
///
/// Each exclusive pool is advertised as kcm.intel.com/<pool>-cores, by its number of CPU lists, so
/// that the scheduler counts who may come. The label is kcm.intel.com/kcm-node=true, the taint
/// kcm=true:NoSchedule. What is right already is not written again.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  kcm discover --node-name=worker-1
  kcm discover --interval=10                # put back what others take away
  kcm discover --no-taint
  kcm discover --remove

The cluster is that of the pod's service account; elsewhere that of KUBECONFIG or ~/.kube/config.")]
pub(crate) struct Discover {
    #[command(flatten)]
    conf_dir: ConfDirFlag,

    #[command(flatten)]
    node_name: NodeNameFlag,

    /// The resource under which the pool dataplane is advertised
    #[arg(long, value_name = "NAME", default_value = "kcm.intel.com/dataplane-cores", value_parser = resource)]
    resource: String,

    /// Leave the node's taints alone
    #[arg(long)]
    no_taint: bool,

    /// Take label, taint and resources off again
    #[arg(long, conflicts_with_all = ["no_taint", "interval"])]
    remove: bool,

    #[command(flatten)]
    rounds: Rounds,
}

impl Discover {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        let limit = LockTimeout::from_environment()?;
        let Self { conf_dir, node_name, resource, no_taint, remove, rounds } = self;
        let node = node_name.required()?;
        let conf = ConfDir::new(&conf_dir.conf_dir, limit);
        rounds.run(|findings| {
            findings.look_at(&conf);
            let wanted = match remove {
                true => Wanted::Nothing { resource: resource.clone() },
                false => {
                    let resources = resources(&conf, &resource)?;
                    Wanted::Pools { resources, taint: !no_taint }
                }
            };
            round(&node, &wanted)
        })
    }
}

fn round(node: &str, wanted: &Wanted) -> anyhow::Result<ExitCode> {
    let changed = cluster::run(async {
        let cluster = Cluster::from_environment().await?;
        advertise(&cluster, node, wanted).await.map_err(|error| {
            let missing = error.cause.status() == Some(404);
            let hint = "; give --node-name (or NODE_NAME) as in: kubectl get nodes";
            anyhow::Error::msg(format!("{error}{}", if missing { hint } else { "" }))
        })
    })?;
    match changed.is_empty() {
        true => log::info!("node {node} shows what it should already"),
        false => log::info!("node {node} now shows {}", changed.join(", ")),
    }
    Ok(ExitCode::SUCCESS)
}

/// How many CPU lists each exclusive pool has, by the name of its resource.
fn resources(conf: &ConfDir, resource: &str) -> anyhow::Result<BTreeMap<String, usize>> {
    let (pools, notice) = conf.read(pools)?;
    logging::notices(notice);
    let dataplane = pools.iter().find(|pool| pool.name.as_ref() == DATAPLANE);
    let path = conf.path().display();
    match dataplane {
        None => bail!("Dataplane pool does not exist in {path}: kcm init makes it"),
        Some(pool) if pool.lists.is_empty() => {
            bail!("No CPU list in dataplane pool of {path}: kcm init --num-dp-cores=… makes them")
        }
        Some(pool) if !pool.exclusive => {
            bail!("pool dataplane of {path} is shared: only exclusive CPU lists can be counted")
        }
        Some(_) => {}
    }
    // An unknown set of CPUs is no reason to advertise nothing.
    if let Ok(online) = Machine::from_environment().online() {
        pools.iter().for_each(|pool| warn_of_offline(pool, &online));
    }
    let exclusive = pools.into_iter().filter(|pool| pool.exclusive);
    let counts = exclusive.map(|pool| (resource_of(&pool.name, resource), pool.lists.len()));
    Ok(counts.collect())
}

fn pools(contents: &Contents) -> Result<Vec<Pool<Glance>>, kcm_core::state::Error> {
    let names = contents.pool_names()?;
    names.iter().map(|name| Ok(contents.pool(name)?.pool)).collect()
}

fn warn_of_offline(pool: &Pool<Glance>, online: &CpuSet) {
    for list in pool.lists.iter().filter(|_| pool.exclusive) {
        let offline = list.name.cpus().difference(online);
        if !offline.is_empty() {
            log::warn!(
                "CPU list {} of pool {} is counted, but its CPUs {offline} are not online: no \
                 container can have it",
                list.name,
                pool.name
            );
        }
    }
}

fn resource_of(pool: &PoolName, dataplane: &str) -> String {
    match pool.as_ref() {
        DATAPLANE => dataplane.to_owned(),
        pool => format!("{GROUP}/{pool}-cores"),
    }
}

/// A name that an extended resource can have: `domain/name`, outside of Kubernetes' own domain but
/// for the original's.
fn resource(text: &str) -> Result<String, String> {
    let name = |part: &str| {
        let ends = [part.bytes().next(), part.bytes().last()];
        part.len() <= 63
            && ends.iter().all(|end| end.is_some_and(|b| b.is_ascii_alphanumeric()))
            && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b))
    };
    let parts = text.split_once('/').context("no domain");
    match parts {
        Ok((domain, rest)) if !domain.is_empty() && name(rest) && is_domain(domain) => {
            let theirs = domain == "kubernetes.io" || domain.ends_with(".kubernetes.io");
            match theirs && text != crate::cluster::advertise::ORIGINAL_RESOURCE {
                true => Err("names in kubernetes.io are Kubernetes' own".to_owned()),
                false => Ok(text.to_owned()),
            }
        }
        _ => Err("give it as domain/name, as in kcm.intel.com/dataplane-cores".to_owned()),
    }
}

/// A subdomain of RFC 1123.
fn is_domain(text: &str) -> bool {
    let label = |label: &str| {
        !label.is_empty()
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
    };
    text.len() <= 253 && text.split('.').all(label)
}
