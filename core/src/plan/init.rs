//! What `kcm init` makes of a machine: three pools and who gets which cores.
//!
//! - *dataplane* is exclusive, a CPU list for each core; *controlplane* and *infra* are shared, one
//!   CPU list with all their cores.
//! - Where a core is isolated, dataplane and then controlplane take isolated cores, infra takes
//!   every core that is not; isolated cores beyond those requested stay in no pool, since the
//!   kernel gives them no work. Where none is, the three take all cores in that order.
//! - A partially isolated core counts as not isolated.
//! - Cores are taken in socket order, then core order.

use crate::CpuSet;
use crate::notice::Notice;
use crate::partition::Policy;
use crate::topology::{Core, Topology};

/// How many physical cores two of the pools shall have; *infra* gets the rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InitRequest {
    /// Cores of the *dataplane* pool; 0 makes it a pool without CPU lists.
    pub dataplane_cores: usize,
    /// Cores of the *controlplane* pool; 0 makes it a pool without CPU lists.
    pub controlplane_cores: usize,
}

/// The pools to make, and what the operator should hear of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InitPlan {
    /// *dataplane*, *controlplane* and *infra*, in this order.
    pub pools: Vec<PlannedPool>,
    /// To be logged, in this order.
    pub notices: Vec<Notice>,
}

/// A pool to make.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlannedPool {
    /// The pool's name.
    pub name: &'static str,
    /// Whether each CPU list has one owner at the most.
    pub exclusive: bool,
    /// The CPU lists: one for each core if exclusive, else one at the most.
    pub cpu_lists: Vec<CpuSet>,
    /// What it says of its containers' partitions; none for what the default is.
    pub partition: Option<Policy>,
}

/// Why the machine has not the cores for a request.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Some cores are isolated, but fewer than dataplane and controlplane ask for.
    #[error(
        "Cannot use isolated cores for data plane and control plane cores: not enough isolated \
         cores {isolated} compared to requested {requested}. Name all CPUs of more cores in \
         isolcpus, or lower --num-dp-cores or --num-cp-cores"
    )]
    NotEnoughIsolated {
        /// Cores whose CPUs are all isolated.
        isolated: usize,
        /// Cores for dataplane and controlplane together.
        requested: usize,
    },
    /// A pool asks for more cores than are left.
    #[error(
        "{requested} cores requested for {pool}. Only {available} cores available. Lower {flag}"
    )]
    NotEnoughCores {
        /// The pool's name.
        pool: &'static str,
        /// The cores that it asks for.
        requested: usize,
        /// The cores that are left for it.
        available: usize,
        /// The flag that asks for them.
        flag: &'static str,
    },
    /// Dataplane and controlplane, or isolation, leave no core over.
    #[error("No more free cores left to assign for infra. {remedy}")]
    NothingLeftForInfra {
        /// What to do.
        remedy: &'static str,
    },
}

/// Plans the pools of a machine.
pub fn init(topology: &Topology, request: InitRequest) -> Result<InitPlan, Refusal> {
    let cores = topology.cores();
    let mut notices: Vec<Notice> = (cores.iter())
        .filter(|core| core.is_partially_isolated())
        .map(partially_isolated)
        .collect();
    let (isolated, others): (Vec<&Core>, Vec<&Core>) =
        cores.iter().partition(|core| core.is_isolated());
    let (dataplane, controlplane, infra) = if isolated.is_empty() {
        notices.push(Notice::info(
            "No physical core is isolated: the pools are taken from all cores, and only core \
             granularity is guaranteed (the kernel may run other work on their CPUs).",
        ));
        share_all(&others, request)?
    } else {
        let (dataplane, controlplane, surplus) = share_isolated(&isolated, request)?;
        if !surplus.is_empty() {
            notices.push(stranded(isolated.len(), request, surplus));
        }
        (dataplane, controlplane, &others[..])
    };
    if infra.is_empty() {
        return Err(Refusal::NothingLeftForInfra {
            remedy: if isolated.is_empty() {
                "Lower --num-dp-cores or --num-cp-cores"
            } else {
                "Every core is isolated: leave at least one out of isolcpus"
            },
        });
    }
    let pools = vec![
        exclusive("dataplane", dataplane),
        shared("controlplane", controlplane),
        shared("infra", infra),
    ];
    for pool in &pools {
        notices.extend(pool.cpu_lists.iter().map(|list| added(list, pool.name)));
        notices.extend(unbalanced(pool, &cores));
    }
    Ok(InitPlan { pools, notices })
}

type Shares<'a, 'c> = (&'a [&'c Core], &'a [&'c Core], &'a [&'c Core]);

/// Splits the isolated cores into dataplane, controlplane and surplus.
fn share_isolated<'a, 'c>(
    isolated: &'a [&'c Core],
    request: InitRequest,
) -> Result<Shares<'a, 'c>, Refusal> {
    let too_few =
        Refusal::NotEnoughIsolated { isolated: isolated.len(), requested: requested(request) };
    let (dataplane, rest) =
        isolated.split_at_checked(request.dataplane_cores).ok_or_else(|| too_few.clone())?;
    let (controlplane, surplus) =
        rest.split_at_checked(request.controlplane_cores).ok_or(too_few)?;
    Ok((dataplane, controlplane, surplus))
}

/// Splits all cores into dataplane, controlplane and infra.
fn share_all<'a, 'c>(
    cores: &'a [&'c Core],
    request: InitRequest,
) -> Result<Shares<'a, 'c>, Refusal> {
    let take = |from: &'a [&'c Core], requested, pool, flag| {
        from.split_at_checked(requested).ok_or(Refusal::NotEnoughCores {
            pool,
            requested,
            available: from.len(),
            flag,
        })
    };
    let (dataplane, rest) = take(cores, request.dataplane_cores, "dataplane", "--num-dp-cores")?;
    let (controlplane, infra) =
        take(rest, request.controlplane_cores, "controlplane", "--num-cp-cores or --num-dp-cores")?;
    Ok((dataplane, controlplane, infra))
}

fn requested(request: InitRequest) -> usize {
    request.dataplane_cores.saturating_add(request.controlplane_cores)
}

fn exclusive(name: &'static str, cores: &[&Core]) -> PlannedPool {
    PlannedPool {
        name,
        exclusive: true,
        cpu_lists: cores.iter().map(|core| core.cpus.clone()).collect(),
        partition: None,
    }
}

fn shared(name: &'static str, cores: &[&Core]) -> PlannedPool {
    let cpus = cpus_of(cores);
    PlannedPool {
        name,
        exclusive: false,
        cpu_lists: Some(cpus).filter(|cpus| !cpus.is_empty()).into_iter().collect(),
        partition: None,
    }
}

fn cpus_of(cores: &[&Core]) -> CpuSet {
    cores.iter().flat_map(|core| core.cpus.iter()).collect()
}

fn added(list: &CpuSet, pool: &str) -> Notice {
    Notice::info(format!("Adding cpu list {list} to {pool} pool."))
}

fn partially_isolated(core: &Core) -> Notice {
    let Core { id, cpus, isolated, .. } = core;
    let missing = cpus.difference(isolated);
    Notice::warning(format!(
        "Physical core {id} is partially isolated: of its CPUs {cpus} only {isolated} are. It \
         counts as not isolated. To isolate it, add {missing} to isolcpus."
    ))
}

fn stranded(isolated: usize, request: InitRequest, surplus: &[&Core]) -> Notice {
    Notice::warning(format!(
        "Not all isolated cores will be used by data and control plane. {isolated} are isolated, \
         {} are requested: the CPUs {} are in no pool, and the kernel gives them no work.",
        requested(request),
        cpus_of(surplus),
    ))
}

/// A warning where threads of a shared pool stay on the CPU that they were started on, since the
/// scheduler balances no load there (the kernel's admin-guide/kernel-parameters, `isolcpus`).
fn unbalanced(pool: &PlannedPool, cores: &[Core]) -> Option<Notice> {
    let isolated: CpuSet = cores.iter().flat_map(|core| core.isolated.iter()).collect();
    let cpus = pool.cpu_lists.first().filter(|_| !pool.exclusive)?;
    let isolated = cpus.intersection(&isolated);
    (isolated.len() > 1).then(|| {
        Notice::warning(format!(
            "The shared pool {} has the isolated CPUs {isolated}: the kernel does not balance load \
             between isolated CPUs, so programs in it must place their threads themselves.",
            pool.name,
        ))
    })
}

#[cfg(test)]
mod tests;
