//! poststop: give back what a dead container holds.
//!
//! It never fails a deletion for what the next allocation mends: an error is logged, and that is
//! all.

use kcm_core::node::Released;
use kcm_core::state::LockTimeout;

use crate::annotations::mentions_pool;
use crate::args::Args;
use crate::create::Caller;
use crate::logging;
use crate::node::node;
use crate::oci::State;

pub(crate) fn poststop(args: &Args, state: &State, caller: Caller) -> anyhow::Result<()> {
    // Where nothing tells (a bundle that is gone) the container may hold something all the same.
    if let Ok(Some(annotations)) = state.annotations()
        && !mentions_pool(&annotations)
    {
        return Ok(());
    }
    let mut notices = Vec::new();
    let result = release(args, state, caller, &mut notices);
    logging::log_all(&notices);
    match result {
        Ok(Released::Freed(freed)) => {
            caller.keep_for_a_restore(&freed);
            log::info!(
                "released CPUs {} of pool {} from {} in {} us",
                freed.cpus(),
                freed.pool,
                freed.owner,
                caller.started.elapsed().as_micros()
            );
        }
        Ok(Released::Unknown) => {}
        Ok(Released::StillAlive(held)) => log::info!(
            "{} keeps CPUs {} of pool {}: process {} or its cgroup is still alive",
            held.owner,
            held.cpus(),
            held.pool,
            held.process.pid
        ),
        Err(error) => log::error!(
            "cannot release the CPUs of {:?}: {error:#}; the next allocation will take them back",
            state.id()
        ),
    }
    Ok(())
}

fn release(
    args: &Args,
    state: &State,
    caller: Caller,
    notices: &mut Vec<kcm_core::notice::Notice>,
) -> anyhow::Result<Released> {
    let node = node(args.conf_dir.clone(), LockTimeout::from_environment()?, caller.started)?;
    let released = node.release(&state.owner()?, notices);
    let ended = match &released {
        Ok(Released::Freed(freed)) => Some(freed),
        // Somebody else may have freed it meanwhile.
        _ => None,
    };
    node.put_quotas_of_pods_back(ended, notices);
    Ok(released?)
}
