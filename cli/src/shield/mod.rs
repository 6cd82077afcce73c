//! What a shield is to do on this node, and what it has done.

pub(crate) mod report;
pub(crate) mod table;

use std::collections::BTreeMap;

use anyhow::{Context, bail, ensure};
use kcm_core::CpuSet;
use kcm_core::allocation::Allocation;
use kcm_core::host::shield::Host;
use kcm_core::host::shield_state::StateFile;
use kcm_core::plan::shield::Wish;
use kcm_core::state::{ConfDir, Contents, Error};

use crate::logging;
use crate::machine::Machine;
use report::{Mode, Report};

/// What is asked for beside what the pools say.
#[derive(Clone, Debug, Default)]
pub(crate) struct Flags {
    pub(crate) latency: Option<u32>,
    pub(crate) governor: Option<String>,
}

/// What there is of exclusive pools.
pub(crate) struct Exclusive {
    cpus: CpuSet,
    /// Who holds any of them.
    records: Vec<Allocation>,
    /// Whether each container of theirs is a partition, whoever stands beside it, where the kernel can.
    are_all_partitions: bool,
}

/// What is malformed may be such a pool: it is an error.
pub(crate) fn exclusive(conf: &ConfDir) -> anyhow::Result<Exclusive> {
    let (found, notice) = conf.read(|contents: &Contents| {
        if let Some(odd) = contents.odd()?.into_iter().next() {
            return Err(odd);
        }
        let (mut cpus, mut are_all_partitions) = (CpuSet::new(), true);
        for name in contents.pool_names()? {
            let listing = contents.pool(&name)?;
            if let Some(odd) = listing.odd.into_iter().next() {
                return Err(odd);
            }
            if listing.pool.exclusive {
                let lists = listing.pool.lists.iter();
                cpus = lists.fold(cpus, |all, list| all.union(list.name.cpus()));
                are_all_partitions &= listing.partition.is_some_and(|says| says.is_for_each(false));
            }
        }
        let records = contents.records()?.readable;
        Ok::<_, Error>(Exclusive { cpus, records, are_all_partitions })
    })?;
    logging::notices(notice);
    Ok(found)
}

/// What the shield is to do; refused where there is nothing to shield, or nothing would be left for the
/// node itself.
pub(crate) fn wish_of(
    conf: &ConfDir,
    machine: &Machine,
    host: &Host,
    flags: Flags,
) -> anyhow::Result<Wish> {
    let exclusive = exclusive(conf).context("the shield stays as it is")?;
    let shield = exclusive.cpus.clone();
    let path = conf.path().display();
    ensure!(
        !shield.is_empty(),
        "no exclusive pool in {path} has a CPU list, so there is nothing to shield: make one (kcm init \
         --num-dp-cores=N); if the shield is on, kcm shield off takes it off"
    );
    let (online, possible) = (machine.online()?, machine.possible()?);
    let impossible = shield.difference(&possible);
    ensure!(
        impossible.is_empty(),
        "exclusive pools in {path} have CPUs {impossible}, which this machine cannot have (its CPUs are \
         {possible}): make the pools of this machine"
    );
    if online.is_subset(&shield) {
        bail!(
            "exclusive pools in {path} have every CPU that is online ({online}), and the node needs one \
             for itself: make the pools with fewer dataplane cores"
        );
    }
    let offline = shield.difference(&online);
    if !offline.is_empty() {
        log::warn!(
            "CPUs {offline} of exclusive pools are offline: what is set holds for them when they come back, \
             but for kernel threads and the flags of a CPU: run kcm shield on again then"
        );
    }
    let Flags { latency, governor } = flags;
    let isolated = host.left_by_irqbalance();
    let spared = spared(host, &exclusive);
    Ok(Wish { shield, online, possible, isolated, latency, governor, spared })
}

/// Units that stay as they are: those in which somebody holds a pool's CPUs with no partition of his own,
/// and so would lose them, or in which containers could not be given any.
fn spared(host: &Host, exclusive: &Exclusive) -> BTreeMap<String, String> {
    let mut spared = BTreeMap::new();
    if let Some(engine) = engine_without_partitions(host, exclusive) {
        let why = format!(
            "{engine} has containers in it, and none of them could be given a core without being a \
             partition: have each be one (Linux 6.8, cgroup v2; kcm init --partition=POOL=root), or have \
             the engine put containers elsewhere (docker: --cgroup-parent=machine.slice)"
        );
        spared.insert("system.slice".to_owned(), why);
    }
    let holders = exclusive.records.iter();
    for record in holders.filter(|it| !it.cpus().intersection(&exclusive.cpus).is_empty()) {
        let (owner, cpus) = (&record.owner, record.cpus());
        if let Some(unit) = host.would_lose(record.cgroup_path(), record.process.pid) {
            let why = format!(
                "{owner} is in it, holds CPUs {cpus} with no partition of its own, and would lose them: \
                 run kcm shield on again when that has ended"
            );
            spared.insert(unit.to_owned(), why);
        }
    }
    spared
}

/// An engine with containers in system.slice that could not be given a core there.
pub(crate) fn engine_without_partitions(host: &Host, exclusive: &Exclusive) -> Option<String> {
    let can = host.has_partitions() && exclusive.are_all_partitions;
    (!can).then(|| host.containers_in_system_slice()).flatten()
}

/// What is set, what is not, and what cannot be.
pub(crate) fn status(
    conf: &ConfDir,
    machine: &Machine,
    file: &StateFile,
) -> anyhow::Result<Report> {
    let mut host = machine.shield_host()?;
    let state = file.read(&machine.boot_id()?)?.unwrap_or_default();
    if state.cpus.is_empty() && state.items.is_empty() {
        return Ok(Report::off(&mut host));
    }
    if state.cpus.is_empty() {
        // It was taken off, and something would not be given back.
        let plan = host.plan_off(&state.items)?;
        let mut report = Report::off(&mut host);
        report.shield = Mode::Partly;
        report.planned(&host, plan);
        return Ok(report);
    }
    let flags = Flags { latency: state.latency, governor: state.governor.clone() };
    // It follows the directory that it was put on for.
    let conf = match state.conf_dir == conf.path() || state.conf_dir.as_os_str().is_empty() {
        true => conf.clone(),
        false => ConfDir::new(&state.conf_dir, kcm_core::state::LockTimeout::from_environment()?),
    };
    let wish = match wish_of(&conf, machine, &host, flags) {
        Ok(wish) => wish,
        Err(e) => {
            log::warn!("{e:#}; shown is the shield of CPUs {}", state.cpus);
            let (online, possible) = (machine.online()?, machine.possible()?);
            Wish { shield: state.shielded(), online, possible, ..Wish::default() }
        }
    };
    let plan = host.plan_on(&state.items, &wish)?;
    let mut report = Report::new(&mut host, &wish)?;
    report.is(&host, plan, &state);
    report.finish(&host, &wish)?;
    Ok(report)
}
