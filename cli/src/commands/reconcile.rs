//! `kcm reconcile`: finds what went wrong on this node, and mends it.

use std::collections::BTreeMap;
use std::process::ExitCode;

use kcm_core::Node;
use kcm_core::allocation::Owner;
use kcm_core::node::{Lost, Mismatch, Reclaimed as Freed, Reconciled, Repaired};
use kcm_core::notice::Notice;
use kcm_core::state::{ConfDir, LockTimeout};

use super::ConfDirFlag;
use super::publish::PublishFlags;
use super::rounds::Rounds;
use crate::cluster::publish::Document;
use crate::machine::Machine;
use crate::metrics::Findings;
use crate::report::reconcile::{Mismatched, Reclaimed, ReconcileReport};
use crate::{logging, output};

/// Gives back what dead containers hold, and finds those that do not run where they should
///
/// Prints what it found as JSON. It also removes what crashes left behind: records of nobody,
/// temporary files. Nothing that is alive loses its CPUs. What was damaged or lost is written anew; what
/// cannot be mended is named in an ERROR line, and the exit status is then 1.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  kcm reconcile
  kcm reconcile --repair --interval=60
  kcm reconcile --publish --node-name=worker-1      # then: kubectl get reconcilereports
  kcm reconcile | jq '.mismatchedCpuMasks[]'

KCM_CGROUP_FS is where the host's cgroup file system is mounted [default: /sys/fs/cgroup]; if it is
set, that must be there. Without one, containers are not judged dead, and none is repaired.")]
pub(crate) struct Reconcile {
    #[command(flatten)]
    conf_dir: ConfDirFlag,

    /// Write the allocated CPUs back to the cgroup of a container that was given others
    #[arg(long)]
    repair: bool,

    #[command(flatten)]
    publish: PublishFlags,

    #[command(flatten)]
    rounds: Rounds,
}

impl Reconcile {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        let limit = LockTimeout::from_environment()?;
        let Self { conf_dir, repair, publish, rounds } = self;
        let mut publisher = publish.publisher()?;
        rounds.run(|findings| {
            let conf = ConfDir::new(&conf_dir.conf_dir, limit);
            let machine = Machine::from_environment();
            let node = machine.node(conf)?;
            let (report, status) = round(&node, repair, findings)?;
            findings.look_for_guards(&machine, &node.conf);
            if let Some(publisher) = &mut publisher {
                publisher.publish(Document::from(report))?;
            }
            Ok(status)
        })
    }
}

fn round(
    node: &Node,
    repair: bool,
    findings: &mut Findings,
) -> anyhow::Result<(ReconcileReport, ExitCode)> {
    let mut notices = Vec::new();
    let found = node.reconcile(&mut notices);
    logging::notices(notices);
    let found = found?;
    findings.reconciled(&found);
    let Reconciled { reclaimed, mismatched, lost, failures, .. } = found;
    let repaired = if repair { repair_all(node, &mismatched, findings) } else { Repairs::new() };
    for lost in lost {
        match repair {
            true => revive(node, &lost, &repaired),
            false => logging::notices([Notice::warning(format!(
                "{}; kcm reconcile --repair makes it one again, or says who is in the way",
                not_alone(&lost)
            ))]),
        }
    }
    let report = ReconcileReport {
        mismatched_cpu_masks: mismatched
            .into_iter()
            .map(|mismatch| {
                let owner = mismatch.allocation.as_ref().map(|a| a.owner.clone());
                let done = owner.and_then(|owner| repaired.get(&owner).copied());
                report(mismatch, repair.then_some(done.unwrap_or(false)))
            })
            .collect(),
        reclaimed_cpu_lists: reclaimed
            .into_iter()
            .map(|Freed { list, pid, pool, .. }| Reclaimed {
                cpus: list,
                pid,
                pool: pool.to_string(),
            })
            .collect(),
    };
    output::json::print(&report)?;
    let is_clean = failures.is_empty();
    failures.into_iter().for_each(|failure| logging::failure(&anyhow::Error::msg(failure)));
    Ok((report, if is_clean { ExitCode::SUCCESS } else { ExitCode::FAILURE }))
}

fn report(mismatch: Mismatch, repaired: Option<bool>) -> Mismatched {
    let Mismatch { pool, list, pid, actual, .. } = mismatch;
    Mismatched {
        actual_cpus: actual.iter().collect(),
        cpus: list.to_string(),
        pid,
        pool: pool.to_string(),
        repaired,
    }
}

/// Whose cgroup was put right, and whose was not.
type Repairs = BTreeMap<Owner, bool>;

/// Each owner once, whatever the number of its lists.
fn repair_all(node: &Node, mismatched: &[Mismatch], findings: &mut Findings) -> Repairs {
    let mut repairs = Repairs::new();
    for mismatch in mismatched {
        let owner = mismatch.allocation.as_ref().map(|allocation| &allocation.owner);
        if owner.is_some_and(|owner| repairs.contains_key(owner)) {
            continue;
        }
        let result = node.repair(mismatch.allocation.as_ref());
        findings.repaired(&mismatch.pool, result.is_ok());
        let name = owner.map_or_else(String::new, |owner| format!(" of {owner}"));
        let (pid, pool) = (mismatch.pid, &mismatch.pool);
        match &result {
            Ok(Repaired { shared }) => {
                log::info!(
                    "put process {pid}{name} of pool {pool} back on its CPUs; if podman update or docker \
                     update --cpuset-cpus had moved it, the engine may ask for those CPUs again at its \
                     next start, and the hook refuse: then make the container anew (podman rm, then \
                     podman run)"
                );
                if let Some(why) = shared {
                    log::warn!("others may run on the CPUs of process {pid}{name} as well: {why}");
                }
            }
            Err(error) => log::warn!("cannot repair process {pid}{name} of pool {pool}: {error}"),
        }
        if let Some(owner) = owner {
            repairs.insert(owner.clone(), result.is_ok());
        }
    }
    repairs
}

fn not_alone(Lost { allocation, state }: &Lost) -> String {
    let (owner, pid) = (&allocation.owner, allocation.process.pid);
    format!(
        "others may run on CPUs {} of {owner} (process {pid}): the kernel says of its cgroup, which should \
         be a cpuset partition: {state}",
        allocation.cpus()
    )
}

/// Makes a cgroup a partition again, unless a repair of its CPUs just did so, or has said why not.
fn revive(node: &Node, lost: &Lost, repaired: &Repairs) {
    let allocation = &lost.allocation;
    if repaired.get(&allocation.owner) == Some(&true) {
        return;
    }
    let (owner, cpus) = (&allocation.owner, allocation.cpus());
    let cannot = |why: &dyn std::fmt::Display| {
        log::warn!("{}, and cannot be made one again: {why}", not_alone(lost));
    };
    match node.repair(Some(allocation)) {
        Ok(Repaired { shared: None }) => {
            log::info!("{owner} has CPUs {cpus} for itself alone again");
        }
        Ok(Repaired { shared: Some(why) }) => cannot(&why),
        Err(error) => cannot(&error),
    }
}
