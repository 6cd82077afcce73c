//! `--default-pool`: the shared pool of containers that ask for none.

use std::path::Path;
use std::str::FromStr;

use anyhow::ensure;
use kcm_core::pool::PoolName;
use kcm_core::state::{ConfDir, Error, LockTimeout};

use crate::engines::Engine;
use crate::guards::judge::{INFRA, fit, why_a_default_pool};
use crate::guards::look::pools;
use crate::guards::{Known, command};

/// What the flag says.
#[derive(Clone, Debug)]
pub(super) enum DefaultPool {
    Auto,
    Pool(PoolName),
}

impl FromStr for DefaultPool {
    type Err = <PoolName as FromStr>::Err;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "auto" => Ok(Self::Auto),
            pool => pool.parse().map(Self::Pool),
        }
    }
}

impl DefaultPool {
    /// The pool that these engines are to be told of; none where they need none. `partitions`: whether
    /// the kernel can have them.
    pub(super) fn choose(
        &self,
        conf_dir: &Path,
        engines: &[Engine],
        partitions: &Known<bool>,
    ) -> anyhow::Result<Option<PoolName>> {
        let conf = ConfDir::new(conf_dir, LockTimeout::from_environment()?);
        match self {
            Self::Pool(pool) => check(&conf, pool).map(|()| Some(pool.clone())),
            Self::Auto => auto(&conf, engines, partitions),
        }
    }
}

/// A pool that cannot be shared is none for everybody. What cannot be told yet is no error.
fn check(conf: &ConfDir, pool: &PoolName) -> anyhow::Result<()> {
    let is_exclusive = pools(conf)
        .is_ok_and(|(pools, _)| pools.iter().any(|other| other.name == *pool && other.exclusive));
    ensure!(
        !is_exclusive,
        "--default-pool={pool} is exclusive: each container would hold a CPU list; name a shared pool, \
         such as infra"
    );
    Ok(())
}

/// infra, unless all that is exclusive is so to the kernel. It fails on nothing that is wrong with the
/// pools: a node whose pools are to be mended needs its agents.
fn auto(
    conf: &ConfDir,
    engines: &[Engine],
    partitions: &Known<bool>,
) -> anyhow::Result<Option<PoolName>> {
    let infra = INFRA.parse()?;
    let (pools, unreadable) = match pools(conf) {
        Ok(found) => found,
        // It was said that there is none yet.
        Err(Error::NotInitialised { .. }) => return Ok(Some(infra)),
        Err(error) => {
            log::warn!("default pool {infra}, since no pool can be read: {error}");
            return Ok(Some(infra));
        }
    };
    let is_of_pods = engines.iter().all(|engine| engine.is_of_pods());
    let unread = unreadable.first().map(|pool| format!("pool {pool} cannot be read"));
    let Some(why) = why_a_default_pool(partitions, &pools, is_of_pods).or(unread) else {
        log::info!("No default pool: nothing needs one to keep others off exclusive CPUs.");
        return Ok(None);
    };
    if let Err(what) = fit(&pools, INFRA) {
        log::warn!(
            "no default pool, though {why}: it would be {infra}, {what}; mend that, or name a shared pool \
             with --default-pool=POOL ({})",
            command(conf.path(), "describe")
        );
        return Ok(None);
    }
    log::info!("Default pool {infra}: {why}.");
    Ok(Some(infra))
}
