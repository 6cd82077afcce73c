//! What there is on a node that may keep others off exclusive CPUs. Nothing is changed, and no program
//! is run: it is looked at in each round of those that go on.

use std::path::Path;

use anyhow::Context;
use kcm_core::CpuSet;
use kcm_core::allocation::Allocation;
use kcm_core::host::cgroup::Hierarchy;
use kcm_core::host::partition::State;
use kcm_core::host::procfs::Procfs;
use kcm_core::host::shield_state::{FOLDER, StateFile};
use kcm_core::pool::PoolName;
use kcm_core::state::{ConfDir, Contents, Error};

use super::judge::INFRA;
use super::{Engine, Facts, Holder, Known, Pool};
use crate::engines;
use crate::machine::Machine;

/// All of it; an error where no pool can be read.
pub(crate) fn look(machine: &Machine, conf: &ConfDir) -> Result<Facts, Error> {
    look_at(machine, conf, |_| true)
}

/// Of pools only these, and those that are or could be somebody's default pool.
pub(crate) fn look_at(
    machine: &Machine,
    conf: &ConfDir,
    is_asked: impl Fn(&PoolName) -> bool,
) -> Result<Facts, Error> {
    let engines = engines::Engine::here().into_iter().map(|it| engine(it, conf.path()));
    let engines: Vec<Engine> = engines.collect();
    let is_default = |pool: &PoolName| {
        let called = engines.iter().filter_map(|engine| engine.called.as_ref().ok()?.as_ref());
        let mut defaults = called.filter_map(|called| called.default_pool.as_deref());
        pool.as_ref() == INFRA || defaults.any(|default| default == pool.as_ref())
    };
    let is_asked = |pool: &PoolName| is_asked(pool) || is_default(pool);
    let read =
        |contents: &Contents| Ok((pools_in(contents, is_asked)?, contents.records()?.readable));
    let (((pools, unreadable), records), _) = conf.read::<_, Error>(read)?;
    Ok(Facts {
        conf_dir: conf.path().to_owned(),
        pools,
        unreadable,
        holders: known(holders(machine, conf, &records)),
        partitions: known(machine.can_have_partitions()),
        isolated: known(machine.isolated()),
        shielded: known(shielded(machine)),
        engines,
    })
}

/// The pools that can be read, and the names of the others.
pub(crate) fn pools(conf: &ConfDir) -> Result<(Vec<Pool>, Vec<PoolName>), Error> {
    conf.read(|contents| pools_in(contents, |_| true)).map(|(pools, _)| pools)
}

fn pools_in(
    contents: &Contents,
    is_asked: impl Fn(&PoolName) -> bool,
) -> Result<(Vec<Pool>, Vec<PoolName>), Error> {
    let (mut pools, mut unreadable) = (Vec::new(), Vec::new());
    for name in contents.pool_names()?.into_iter().filter(is_asked) {
        let Ok(listing) = contents.pool(&name) else {
            unreadable.push(name);
            continue;
        };
        let lists = listing.pool.lists.iter();
        pools.push(Pool {
            cpus: lists.fold(CpuSet::new(), |all, list| all.union(list.name.cpus())),
            exclusive: listing.pool.exclusive,
            name,
            says: listing.partition,
        });
    }
    Ok((pools, unreadable))
}

/// Of these records, those of somebody who is there still. A container that a hook is at work on, which
/// has its record locked meanwhile, is yet to come; `isolate` has its own locked for as long as it lives.
fn holders(
    machine: &Machine,
    conf: &ConfDir,
    records: &[Allocation],
) -> anyhow::Result<Vec<Holder>> {
    let (procfs, hierarchy) = (machine.procfs()?, machine.hierarchy()?);
    anyhow::ensure!(
        hierarchy.is_whole(),
        "only a part of the cgroups can be seen; mount the host's cgroup file system, and set \
         KCM_CGROUP_FS to where it is"
    );
    let (boot_id, contents) = (procfs.boot_id()?, conf.unlocked()?);
    let mut holders = Vec::new();
    for record in records.iter().filter(|record| record.process.boot_id == boot_id) {
        if record.is_isolates() || !contents.is_held(record)? {
            holders.extend(holder(&procfs, &hierarchy, record)?);
        }
    }
    Ok(holders)
}

fn holder(
    procfs: &Procfs,
    hierarchy: &Hierarchy,
    record: &Allocation,
) -> anyhow::Result<Option<Holder>> {
    let (is_there, is_partition, throttle) = match &record.cgroup {
        Some(id) => {
            let cgroup = hierarchy.at(&id.path);
            let is_it = id.inode.is_none() || cgroup.inode()? == id.inode;
            let is_partition = matches!(cgroup.partition()?, Some(State::Valid(_)));
            (is_it && cgroup.is_populated()?, is_partition, cgroup.throttle(&record.cpus())?)
        }
        None => {
            let is_alive = procfs.is_alive(&record.process, procfs.clock_is_the_hosts())?;
            (is_alive, false, None)
        }
    };
    let (owner, pool) = (record.owner.to_string(), record.pool.clone());
    Ok(is_there.then_some(Holder { owner, pool, is_partition, throttle }))
}

fn shielded(machine: &Machine) -> anyhow::Result<CpuSet> {
    let file = StateFile::default();
    // In a container, to which the node's own has to be shown.
    anyhow::ensure!(
        machine.is_the_hosts() || Path::new(FOLDER).is_dir(),
        "the node's {FOLDER} is not mounted here"
    );
    let state = file.read(&machine.boot_id().context("the boot cannot be told")?)?;
    Ok(state.map(|state| state.shielded()).unwrap_or_default())
}

fn engine(engine: engines::Engine, conf_dir: &Path) -> Engine {
    Engine {
        name: engine.name(),
        is_of_pods: engine.is_of_pods(),
        called: known(engine.called(conf_dir)),
    }
}

fn known<T>(found: anyhow::Result<T>) -> Known<T> {
    found.map_err(|error| format!("{error:#}"))
}
