//! The configuration directory and its pools.

use kcm_core::CpuSet;
use kcm_core::allocation::Allocation;
use kcm_core::pool::Pool;
use kcm_core::state::{Contents, Error};
use kcm_core::task::Glance;

use super::{Finding, Subject};
use crate::commands::node_report::look_at;

pub(super) fn directory(subject: &Subject) -> Vec<Finding> {
    let path = subject.conf.path().display();
    // Shared: to look changes nothing. Who holds it to write keeps readers out as well.
    let lock = match subject.conf.read(|_: &Contents| Ok::<(), Error>(())) {
        Ok(((), None)) => Finding::ok("lock", format!("{path}/lock is free, and can be had")),
        Ok(((), Some(notice))) => {
            let remedy = format!(
                "run it as root; a lock that is missing is made by {}",
                subject.command("reconcile")
            );
            Finding::fail("lock", notice.text, remedy)
        }
        Err(e @ Error::NotInitialised { .. }) => {
            let message = format!("there are no pools in {path}");
            log::debug!("{e}");
            return vec![Finding::fail(
                "directory",
                message,
                format!("kcm init --conf-dir={path}"),
            )];
        }
        Err(e) => {
            let remedy =
                "run it as root; if it is, end whoever holds the lock, or mend the directory";
            Finding::fail("lock", e.to_string(), remedy)
        }
    };
    let online = subject.machine.online().unwrap_or_default();
    let (description, check) = look_at(&subject.conf, &online);
    let directory = match (description, check.errors.is_empty()) {
        (Some(_), true) => Finding::ok("directory", format!("{path} is in order")),
        _ => Finding::fail(
            "directory",
            check.errors.join("; "),
            "mend what is named; kcm node-report shows it all",
        ),
    };
    vec![lock, directory]
}

/// The pools and the records, as far as they can be read.
pub(super) fn pools(subject: &Subject) -> (Vec<Pool<Glance>>, Vec<Allocation>) {
    let read = subject.conf.read(|contents: &Contents| {
        let names = contents.pool_names()?.into_iter();
        let pools = names.filter_map(|name| contents.pool(&name).ok()).map(|listing| listing.pool);
        Ok::<_, Error>((pools.collect(), contents.records()?.readable))
    });
    read.map(|(found, _)| found).unwrap_or_default()
}

/// All CPUs of a pool.
pub(super) fn cpus_of(pool: &Pool<Glance>) -> CpuSet {
    pool.lists.iter().fold(CpuSet::new(), |all, list| all.union(list.name.cpus()))
}

/// All CPUs of exclusive pools.
pub(super) fn exclusive(subject: &Subject) -> CpuSet {
    exclusive_of(&pools(subject).0)
}

/// All CPUs of those that are exclusive.
pub(super) fn exclusive_of(pools: &[Pool<Glance>]) -> CpuSet {
    let exclusive = pools.iter().filter(|pool| pool.exclusive);
    exclusive.fold(CpuSet::new(), |all, pool| all.union(&cpus_of(pool)))
}
