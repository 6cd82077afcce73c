//! Containers that ask for no pool run on the default pool's CPUs, so that none runs on exclusive
//! ones. They hold nothing: no lock, no record, no task. And whatever is wrong with kcm, they
//! start: a broken configuration directory must not stop a node's every container.

use anyhow::Context;
use kcm_core::node::pin::{Binding, pin};
use kcm_core::node::target::Target;
use kcm_core::node::{pool_as_made, union_of};
use kcm_core::pool::PoolName;
use kcm_core::state::LockTimeout;

use crate::args::Args;
use crate::create::Caller;
use crate::node::node;
use crate::oci::State;

pub(crate) fn bind(args: &Args, state: &State, pool: &PoolName, caller: Caller) {
    if let Err(error) = try_bind(args, state, pool, caller) {
        log::error!("container {:?} is not bound to default pool {pool}: {error:#}", state.id());
    }
}

fn try_bind(args: &Args, state: &State, pool: &PoolName, caller: Caller) -> anyhow::Result<()> {
    if let Some(cpus) = state.bundle()?.unwrap_or_default().cpus() {
        log::info!("container {:?} stays on CPUs {cpus}, which it was given already", state.id());
        return Ok(());
    }
    let node = node(args.conf_dir.clone(), LockTimeout::default(), caller.started)?;
    let pool = pool_as_made(&node.conf, pool)?;
    anyhow::ensure!(
        !pool.exclusive,
        "a default pool must be shared, and {} is exclusive",
        pool.name
    );
    let mut target = Target::find(&node, caller.of(state))?;
    let cpus = union_of(&pool, &target.usable);
    anyhow::ensure!(
        !cpus.is_empty(),
        "none of its CPUs is in {}, which is all that the parent cgroup may use",
        target.usable
    );
    pin(&node, &mut target, Binding::plain(&cpus)).context("it may run anywhere")?;
    log::debug!(
        "{:?} is on default CPUs {cpus} in {} us",
        state.id(),
        caller.started.elapsed().as_micros()
    );
    Ok(())
}
