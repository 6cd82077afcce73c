//! Who else runs on CPUs that are somebody's alone.

use kcm_core::CpuSet;
use kcm_core::allocation::Allocation;
use kcm_core::host::neighbours::{interrupts, processes};
use kcm_core::pool::Pool;
use kcm_core::task::Glance;

use super::pools::{exclusive_of, pools};
use super::{Finding, Subject};
use crate::guards::UNTHROTTLE;

/// So many are named.
const NAMED: usize = 5;

pub(super) fn all(subject: &Subject) -> Vec<Finding> {
    let (pools, records) = pools(subject);
    let exclusive = exclusive_of(&pools);
    if exclusive.is_empty() {
        return Vec::new();
    }
    vec![
        others(subject, &exclusive, &pools, &records),
        served(subject, &exclusive),
        quotas(subject, &pools, &records),
    ]
}

/// Processes that are not the holders' own, which may run nowhere but on what is held.
fn others(
    subject: &Subject,
    exclusive: &CpuSet,
    pools: &[Pool<Glance>],
    records: &[Allocation],
) -> Finding {
    let check = "processes";
    let remedy = "keep them off: isolcpus, CPUAffinity= in systemd, kcm install --default-pool for \
                  containers; restart what was started before";
    let found = subject.machine.procfs().and_then(|procfs| Ok(processes(&procfs, exclusive)?));
    let found = match found {
        Ok(found) => found,
        Err(e) => return Finding::fail(check, format!("{e:#}"), "see procfs above"),
    };
    let is_exclusive =
        |record: &&Allocation| pools.iter().any(|pool| pool.exclusive && pool.name == record.pool);
    let held: Vec<CpuSet> = records.iter().filter(is_exclusive).map(Allocation::cpus).collect();
    let strangers: Vec<String> = found
        .iter()
        .filter(|other| !held.iter().any(|cpus| other.cpus.is_subset(cpus)))
        .map(|other| format!("{} ({})", other.name, other.pid))
        .collect();
    match strangers.len() {
        0 => Finding::ok(check, format!("only holders run on CPUs {exclusive} of exclusive pools")),
        count => Finding::warn(
            check,
            format!(
                "{count} processes may run on CPUs {exclusive} of exclusive pools: {}{}",
                strangers[..count.min(NAMED)].join(", "),
                if count > NAMED { ", …" } else { "" }
            ),
            remedy,
        ),
    }
}

fn served(subject: &Subject, exclusive: &CpuSet) -> Finding {
    let check = "interrupts";
    let found = subject.machine.procfs().and_then(|procfs| Ok(interrupts(&procfs, exclusive)?));
    match found {
        Ok(all) if all.is_empty() => {
            Finding::ok(check, format!("none is served by CPUs {exclusive} of exclusive pools"))
        }
        Ok(all) => {
            let first: Vec<String> = all.iter().take(NAMED).map(u32::to_string).collect();
            Finding::warn(
                check,
                format!(
                    "{} interrupts are served by CPUs {exclusive} of exclusive pools: {}{}",
                    all.len(),
                    first.join(", "),
                    if all.len() > NAMED { ", …" } else { "" }
                ),
                "write other CPUs to /proc/irq/<number>/smp_affinity_list, or have irqbalance ban these",
            )
        }
        Err(e) => Finding::fail(check, format!("{e:#}"), "see procfs above"),
    }
}

fn quotas(subject: &Subject, pools: &[Pool<Glance>], records: &[Allocation]) -> Finding {
    let check = "quotas";
    let Ok(hierarchy) = subject.machine.hierarchy() else {
        return Finding::fail(check, "no cgroup can be seen", "see cgroups above");
    };
    let mut limited = Vec::new();
    for record in records {
        let is_exclusive = pools.iter().any(|pool| pool.exclusive && pool.name == record.pool);
        let cgroup = record.cgroup_path().filter(|_| is_exclusive);
        let throttle =
            cgroup.and_then(|path| hierarchy.at(path).throttle(&record.cpus()).ok().flatten());
        limited.extend(throttle.map(|throttle| format!("{} ({throttle})", record.owner)));
    }
    if limited.is_empty() {
        return Finding::ok(check, "no holder of exclusive CPUs is throttled by a CFS quota");
    }
    Finding::warn(
        check,
        format!("may be throttled on CPUs that nobody else uses: {}", limited.join(", ")),
        UNTHROTTLE,
    )
}
