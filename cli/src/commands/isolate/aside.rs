//! Where kcm's own process goes: off the CPUs that it gives away. On them it would be noise, and a
//! command with a real-time policy that never yields would keep it from passing on signals.

use kcm_core::host::affinity;
use kcm_core::state::{self, ConfDir};
use kcm_core::{CpuSet, Node};

/// Moves this process off exclusive CPUs. Whether it had to stay on some of those that it gives
/// away: the command runs all the same.
pub(crate) fn move_off(given: &CpuSet, node: &Node, online: &CpuSet) -> bool {
    let pools = Pools::read(&node.conf).inspect_err(|e| log::debug!("{e}")).unwrap_or_default();
    let moved = affinity::reachable(online).and_then(|reachable| {
        let cpus = pools.elsewhere(&reachable).difference(given);
        if cpus.is_empty() { Ok(()) } else { affinity::bind_self(&cpus) }
    });
    if let Err(error) = moved {
        log::debug!("cannot move this process to other CPUs: {error}");
    }
    affinity::own().is_ok_and(|own| !own.intersection(given).is_empty())
}

/// The CPUs of all pools.
#[derive(Debug, Default)]
struct Pools {
    shared: CpuSet,
    exclusive: CpuSet,
}

impl Pools {
    /// Without the lock: lists come and go only when a directory is made.
    fn read(conf: &ConfDir) -> Result<Self, state::Error> {
        let contents = conf.unlocked()?;
        let mut pools = Self::default();
        for name in contents.pool_names()? {
            let pool = contents.pool(&name)?.pool;
            let cpus = match pool.exclusive {
                true => &mut pools.exclusive,
                false => &mut pools.shared,
            };
            *cpus = pool.lists.iter().fold(cpus.clone(), |all, list| all.union(list.name.cpus()));
        }
        Ok(pools)
    }

    /// Of the CPUs that this process can use those of shared pools, else those of no pool.
    fn elsewhere(&self, reachable: &CpuSet) -> CpuSet {
        let shared = self.shared.difference(&self.exclusive).intersection(reachable);
        match shared.is_empty() {
            false => shared,
            true => reachable.difference(&self.shared).difference(&self.exclusive),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kcm_goes_to_shared_cpus_then_to_those_of_no_pool_and_never_to_exclusive_ones() {
        let cpus = |text: &str| CpuSet::parse_possibly_empty(text).unwrap();
        for (shared, exclusive, reachable, expected) in [
            ("0-1", "2-5", "0-7", "0-1"),
            ("0-2", "2-5", "0-7", "0-1"),
            ("8-9", "2-5", "0-7", "0-1,6-7"),
            ("", "0-3", "0-7", "4-7"),
            ("2", "2", "0-2", "0-1"),
            ("", "0-7", "0-7", ""),
            ("", "0-3", "0-3", ""),
        ] {
            let pools = Pools { shared: cpus(shared), exclusive: cpus(exclusive) };
            assert_eq!(pools.elsewhere(&cpus(reachable)), cpus(expected), "{shared} {exclusive}");
        }
    }
}
