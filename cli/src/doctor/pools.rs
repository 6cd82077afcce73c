//! The configuration directory and its pools.

use std::collections::BTreeMap;

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

/// All CPUs of a kind of pool.
pub(super) fn cpus_of(pools: &[Pool<Glance>], exclusive: bool) -> CpuSet {
    let pools = pools.iter().filter(|pool| pool.exclusive == exclusive);
    let lists = pools.flat_map(|pool| &pool.lists);
    lists.fold(CpuSet::new(), |all, list| all.union(list.name.cpus()))
}

/// All CPUs of exclusive pools.
pub(super) fn exclusive(subject: &Subject) -> CpuSet {
    cpus_of(&pools(subject).0, true)
}

pub(super) fn isolation(subject: &Subject) -> Vec<Finding> {
    let check = "isolation";
    let isolated = match subject.machine.isolated() {
        Ok(isolated) => isolated,
        Err(e) => {
            return vec![Finding::fail(check, format!("{e:#}"), "mend isolcpus, and boot again")];
        }
    };
    let (pools, _) = pools(subject);
    if pools.is_empty() {
        return Vec::new();
    }
    let open = cpus_of(&pools, true).difference(&isolated);
    let mut findings = vec![if open.is_empty() {
        Finding::ok(check, "the CPUs of all exclusive pools are isolated")
    } else {
        Finding::warn(
            check,
            format!(
                "CPUs {open} of exclusive pools are not isolated: the kernel may run others there"
            ),
            format!("boot with isolcpus={}", cpus_of(&pools, true)),
        )
    }];
    let shared: BTreeMap<String, CpuSet> = pools
        .iter()
        .filter(|pool| !pool.exclusive)
        .map(|pool| (pool.name.to_string(), cpus_of(std::slice::from_ref(pool), false)))
        .collect();
    for (pool, cpus) in shared {
        let stuck = cpus.intersection(&isolated);
        if stuck.len() > 1 {
            findings.push(Finding::warn(
                check,
                format!("the shared pool {pool} has the isolated CPUs {stuck}: their load is not balanced"),
                "have its programs place their threads themselves, or take those CPUs out of isolcpus",
            ));
        }
    }
    findings
}
