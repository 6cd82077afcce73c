//! createRuntime: allocate, pin, verify; or refuse, with nothing left behind.

use std::os::unix::process::parent_id;
use std::time::Instant;

use anyhow::Context;
use kcm_core::allocation::Allocation;
use kcm_core::host::checkpoints;
use kcm_core::host::mark::{self, Mark};
use kcm_core::host::procfs::Procfs;
use kcm_core::host::quota::Quota;
use kcm_core::host::sysfs;
use kcm_core::node::pin::{Binding, Outcome, pin};
use kcm_core::node::target::{Call, Target};
use kcm_core::node::{Granted, pool_as_made};
use kcm_core::request::Request;
use kcm_core::state::{LockTimeout, Memory};
use kcm_core::task::Pid;
use kcm_core::{CpuSet, Node};

use crate::annotations::{Wish, refuse_in_shared, wish};
use crate::args::Args;
use crate::identity::{Identity, identity, matches_glob};
use crate::node::{at_last, node};
use crate::oci::{Bundle, State};
use crate::{default_pool, logging};

/// Who called, and when.
#[derive(Clone, Copy)]
pub(crate) struct Caller {
    pub(crate) started: Instant,
    /// The runtime's process, or whatever it had us started by.
    pub(crate) runtime: u32,
}

impl Caller {
    /// What it wants of a container.
    pub(crate) fn of(self, state: &State) -> Call {
        Call { runtime: self.runtime, pid: state.pid, is_restored: state.is_restored() }
    }

    /// Where it makes a checkpoint: the container gets the same CPUs again when it is restored.
    pub(crate) fn keep_for_a_restore(self, freed: &Allocation) {
        let runtime = i32::try_from(self.runtime).ok().and_then(|pid| Pid::try_from(pid).ok());
        let procfs = Procfs::new("/proc");
        if runtime.is_some_and(|pid| checkpoints::is_making_one(&procfs, pid))
            && let Err(error) = checkpoints::keep(freed)
        {
            log::warn!("{} may be restored onto other CPUs: {error}", freed.owner);
        }
    }

    /// A runtime that was killed while we waited for the lock starts nothing any more; but crun's
    /// init (1.8.1) lives on without it, and would keep the CPUs.
    fn must_be_alive(&self) -> anyhow::Result<()> {
        let alive = parent_id() == self.runtime;
        anyhow::ensure!(alive, "the runtime that called (process {}) has ended", self.runtime);
        Ok(())
    }
}

pub(crate) fn create(args: &Args, state: &State, caller: Caller) -> anyhow::Result<()> {
    let annotations = state.annotations()?.unwrap_or_default();
    let who = identity(&annotations, state.id());
    if who.is_sandbox {
        return Ok(());
    }
    match wish(&annotations, &who)? {
        Wish::Pool { pool, cores, partition, key, exclusive_only } => {
            let node =
                node(args.conf_dir.clone(), LockTimeout::from_environment()?, caller.started)?;
            let asked = || format!("annotation {key} is {:?}", pool.to_string());
            if let Some(asked_for) = exclusive_only {
                let made = pool_as_made(&node.conf, &pool).with_context(asked)?;
                refuse_in_shared(&asked_for, &pool, made.exclusive)?;
            }
            let mut target = Target::find(&node, caller.of(state))?;
            let bundle = state.bundle()?.unwrap_or_default();
            refuse_two_managers(&bundle)?;
            let request = Request {
                owner: state.owner()?,
                process: target.process.clone(),
                pool: pool.clone(),
                cores,
                usable: target.usable.clone(),
                cgroup: Some(target.cgroup_id.clone()),
                affinity: true,
                partition,
                within: None,
                had: had(state, &target)?,
                details: who.details,
            };
            let mut notices = Vec::new();
            let allocated = node.allocate(&request, &mut notices);
            logging::log_all(&notices);
            let mut granted = allocated.with_context(asked)?;
            let throttling = bundle.quota().filter(|quota| {
                granted.exclusive && !quota.is_above(granted.allocation.cpus().len())
            });
            let pinned = caller
                .must_be_alive()
                .and_then(|()| pin_to(&node, &mut target, &mut granted, throttling.is_some()));
            let outcome = pinned.inspect_err(|_| {
                give_back(&at_last(&node, caller.started), &target, &granted.allocation);
            })?;
            if granted.exclusive {
                lift_quotas(&node, &target, &granted.allocation, throttling);
            }
            report(&node, &granted, &outcome, caller.started);
            // This process ends now, and the kernel closes what is open for less than a call each.
            std::mem::forget((outcome, granted));
            Ok(())
        }
        wish => {
            if let Some(pool) = &args.default_pool
                && !may_opt_out(args, &who, &wish)
            {
                default_pool::bind(args, state, pool, caller);
            }
            Ok(())
        }
    }
}

/// The CPUs that a container had that is being restored, as far as anybody knows.
fn had(state: &State, target: &Target) -> anyhow::Result<Option<CpuSet>> {
    match (&target.had, state.is_restored()) {
        (None, true) => Ok(checkpoints::kept(&state.owner()?)),
        (had, _) => Ok(had.clone()),
    }
}

/// With a default pool, `none` counts only in namespaces that the administrator named: elsewhere
/// it would let any user run on everybody's exclusive CPUs.
fn may_opt_out(args: &Args, who: &Identity, wish: &Wish) -> bool {
    let namespace = who.details.namespace.as_deref();
    let allowed = namespace
        .is_some_and(|namespace| args.allow_none.iter().any(|glob| matches_glob(glob, namespace)));
    if *wish == Wish::None && !allowed {
        log::warn!(
            "the pool annotation 'none' does not count in namespace {}: --allow-none does not name it",
            namespace.unwrap_or("(unknown)")
        );
    }
    *wish == Wish::None && allowed
}

fn refuse_two_managers(bundle: &Bundle) -> anyhow::Result<()> {
    match bundle.cpus() {
        None => Ok(()),
        Some(cpus) => anyhow::bail!(
            "the container is given CPUs {cpus} already (linux.resources.cpu.cpus), by the kubelet's \
             static CPU manager or by --cpuset-cpus; two managers would fight over its cpuset: set \
             cpuManagerPolicy to none, or leave out the kcm.intel.com/pool annotation or --cpuset-cpus; \
             what podman update or docker update gave, no update takes back: make the container anew \
             (podman rm, then podman run, without --cpuset-cpus)"
        ),
    }
}

fn pin_to(
    node: &Node,
    target: &mut Target,
    granted: &mut Granted,
    is_unthrottled: bool,
) -> anyhow::Result<Outcome> {
    let cpus = granted.allocation.cpus();
    let memory_nodes = match granted.memory {
        Memory::AsItIs => None,
        Memory::Local => nodes_of(node, &granted.allocation, &cpus)?,
    };
    let usable = target.usable.clone();
    let binding = Binding {
        usable: Some(&usable),
        memory_nodes: memory_nodes.as_ref(),
        is_unthrottled,
        ..Binding::granted(granted, &cpus)
    };
    let outcome = pin(node, target, binding)?;
    // Only now, since it says that the container was bound.
    mark::set(&target.cgroup, &Mark::on(&granted.allocation))?;
    let mut notices = Vec::new();
    let confirmed = node.confirm(granted, &mut notices);
    logging::log_all(&notices);
    Ok(confirmed.map(|()| outcome)?)
}

/// The NUMA nodes that the CPUs are on and that have memory; none where the kernel has no nodes.
fn nodes_of(node: &Node, allocation: &Allocation, cpus: &CpuSet) -> anyhow::Result<Option<CpuSet>> {
    let nodes = sysfs::numa_nodes(&node.sys_root)?;
    if nodes.is_empty() {
        return Ok(None);
    }
    let ours = nodes.iter().filter(|(_, has)| !has.intersection(cpus).is_empty());
    let ours: CpuSet = ours.map(|(&number, _)| number).collect();
    let with_memory = sysfs::nodes_with_memory(&node.sys_root)?;
    let local = with_memory.map_or(ours.clone(), |nodes| nodes.intersection(&ours));
    let mems = || node.conf.path().join("pools").join(allocation.pool.as_ref()).join("mems");
    anyhow::ensure!(
        !local.is_empty(),
        "pool {} wants memory of the NUMA nodes of its CPUs ({} says local), and node {ours} of CPUs \
         {cpus} has none; remove that file, or have the pool made of CPUs whose node has memory",
        allocation.pool,
        mems().display(),
    );
    Ok(Some(local))
}

/// A container that is not on its CPUs does not start, and holds none.
fn give_back(node: &Node, target: &Target, allocation: &Allocation) {
    let mut notices = Vec::new();
    node.leave_partition(&target.cgroup, allocation, &mut notices);
    if let Err(error) = node.give_back(allocation, &mut notices) {
        let error = anyhow::Error::from(error);
        log::error!("cannot give back the CPUs of {}: {error:#}", allocation.owner);
    }
    logging::log_all(&notices);
}

/// A container that has CPUs for itself alone may use all of their time, whatever its own limit and its
/// pod's say: nobody else would.
fn lift_quotas(node: &Node, target: &Target, allocation: &Allocation, own: Option<Quota>) {
    let owner = &allocation.owner;
    let its_own = own.map_or(Ok(None), |quota| node.lift_quota(target).map(|()| Some(quota)));
    let pods = node.lift_quota_of_pod(&target.cgroup);
    for (lifted, whose) in [(its_own, ""), (pods, " of its pod")] {
        match lifted {
            Ok(None) => {}
            Ok(Some(quota)) => {
                log::info!("{owner} is not throttled by the CFS quota{whose} ({quota})");
            }
            Err(error) => log::warn!(
                "{owner} may be throttled by a CFS quota (a CPU limit) on cores that nobody else uses: \
                 {error}; leave out the limit, or have the kubelet run with --cpu-cfs-quota=false"
            ),
        }
    }
}

fn report(node: &Node, granted: &Granted, outcome: &Outcome, started: Instant) {
    let Granted { allocation, exclusive, .. } = granted;
    let Allocation { owner, pool, .. } = allocation;
    let cpus = allocation.cpus();
    let name = allocation.details.display().map(|name| format!(" ({name})")).unwrap_or_default();
    let alone = match outcome {
        Outcome::Partition(kind, _) => format!(", for itself alone (partition {kind})"),
        Outcome::Plain | Outcome::Shared(_) => String::new(),
    };
    log::info!(
        "allocated CPUs {cpus} of {} pool {pool} to {owner}{name}{alone} in {} us",
        if *exclusive { "exclusive" } else { "shared" },
        started.elapsed().as_micros()
    );
    if let Outcome::Shared(why) = outcome {
        log::warn!(
            "others may run on CPUs {cpus} of {owner}{name}, which are no cpuset partition: {why}"
        );
    }
    if !exclusive {
        let isolated = sysfs::read_isolated(&node.sys_root).unwrap_or_default();
        let ours = cpus.intersection(&isolated);
        if ours.len() > 1 {
            log::warn!(
                "CPUs {ours} of shared pool {pool} are isolated: the kernel does not balance load \
                 between them, so {owner}{name} must place its threads itself"
            );
        }
    }
}
