//! Affinities: of kernel threads, and of those threads that a write to their unit's cpuset would rob
//! of what they have set themselves.

use std::collections::BTreeMap;

use super::{Host, slices};
use crate::CpuSet;
use crate::host::cgroup::{self, Cgroup};
use crate::host::neighbours::{KERNEL_THREAD, flags};
use crate::host::procfs::Procfs;
use crate::host::{Error, affinity, read};
use crate::plan::shield::{Found, Item, Kept, Kind, Thread, cpus};
use crate::task::Pid;

/// Of a task's flags (include/linux/sched.h): nobody may bind it.
const NO_SETAFFINITY: u64 = 0x0400_0000;

/// How the names of those begin that serve unbound workqueues: the mask of those moves them.
const UNBOUND_WORKER: &str = "kworker/u";

/// The kernel threads. Partitions take their CPUs from those, and give them back when they end, as far as
/// nobody has bound a thread to others (cpuset_update_tasks_cpumask, kernel/cgroup/cpuset.c): so one
/// that lacks these alone has what it was given, or all.
pub(super) fn kernel(host: &Host, kept: &[Kept]) -> Result<Vec<Found>, Error> {
    let mut found = Vec::new();
    if !host.sees_processes {
        return Ok(found);
    }
    let partitioned = host.partitioned();
    let kept: BTreeMap<_, _> = kept.iter().map(|kept| (kept.item.key(), kept)).collect();
    for pid in host.procfs.pids()? {
        let flags = flags(&host.procfs, pid)?.unwrap_or_default();
        if flags & KERNEL_THREAD == 0 {
            continue;
        }
        let Some((item, allowed)) = look(&host.procfs, Kind::KernelThread, pid)? else { continue };
        if item.name.starts_with(UNBOUND_WORKER) {
            continue;
        }
        let fixed = (flags & NO_SETAFFINITY != 0).then(|| match allowed.len() {
            1 => "it is this CPU's own: the kernel has one a CPU".to_owned(),
            _ => "the kernel places it, and refuses to move it".to_owned(),
        });
        let all = host.possible.to_string();
        let now = match kept.get(&item.key()) {
            _ if partitioned.is_empty() || fixed.is_some() => None,
            Some(kept) => {
                let values = [Some(&kept.set), Some(&kept.before), kept.earlier.as_ref()];
                let mut values = values.into_iter().flatten();
                values.find(|value| cpus(value).difference(&partitioned) == allowed)
            }
            None => Some(&all).filter(|_| host.possible.difference(&partitioned) == allowed),
        };
        let now = now.cloned().unwrap_or_else(|| allowed.to_string());
        found.push(Found { fixed, ..Found::new(item, now) });
    }
    Ok(found)
}

/// Whether a kernel thread that has `now` was given `value`.
pub(super) fn is_given(host: &Host, now: &str, value: &str) -> bool {
    cpus(value).difference(&host.partitioned()) == cpus(now)
}

/// A thread as an item, with the CPUs that it may run on; none where it has ended.
fn look(procfs: &Procfs, kind: Kind, pid: Pid) -> Result<Option<(Item, CpuSet)>, Error> {
    let (stat, allowed) = (procfs.stat(pid)?, procfs.allowed_cpus(pid, pid)?);
    let (Some(stat), Some(allowed)) = (stat, allowed) else { return Ok(None) };
    let name = read(&procfs.root().join(format!("{pid}/comm")))?.unwrap_or_default();
    let thread = Thread { pid, start_time: stat.start_time };
    Ok(Some((Item::thread(kind, name.trim(), thread), allowed)))
}

/// The first process of this name.
pub(super) fn named(procfs: &Procfs, name: &str) -> Option<Pid> {
    let mut pids: Vec<Pid> = procfs.pids().ok()?.into_iter().collect();
    pids.sort();
    pids.into_iter().find(|pid| {
        let comm = read(&procfs.root().join(format!("{pid}/comm"))).ok().flatten();
        comm.is_some_and(|comm| comm.trim() == name)
    })
}

/// The threads of which an affinity was kept, as far as they still run. One that has lost it to a
/// cpuset write counts as having what it was set to: that is to be given back.
pub(super) fn kept(host: &Host, kept: &[Kept]) -> Result<Vec<Found>, Error> {
    let mut found = Vec::new();
    if !host.sees_processes {
        return Ok(found);
    }
    for kept in kept.iter().filter(|kept| kept.item.kind == Kind::Thread) {
        let Some(thread) = kept.item.thread else { continue };
        let Some((item, allowed)) = look(&host.procfs, Kind::Thread, thread.pid)? else { continue };
        if item.key() == kept.item.key() {
            let is_lost = own_cgroup(host, thread.pid)?
                .is_some_and(|cgroup| cgroup.effective_cpus().is_ok_and(|cpus| cpus == allowed));
            let now = if is_lost { kept.set.clone() } else { allowed.to_string() };
            found.push(Found::new(item, now));
        }
    }
    Ok(found)
}

fn own_cgroup(host: &Host, pid: Pid) -> Result<Option<Cgroup>, Error> {
    match &host.hierarchy {
        Some(hierarchy) => cgroup::of_process(hierarchy, &host.procfs, pid),
        None => Ok(None),
    }
}

/// The threads of the units whose cpuset is about to be written that may run on fewer CPUs than their
/// cgroup has.
pub(super) fn of_units(host: &mut Host, names: &[String]) -> Result<Vec<Found>, Error> {
    let mut units = Vec::new();
    for name in names {
        units.extend(slices::cgroup_of(host, name).ok().flatten());
    }
    let mut effective: BTreeMap<String, CpuSet> = BTreeMap::new();
    let mut found = Vec::new();
    for pid in host.procfs.pids()? {
        let Some(cgroup) = own_cgroup(host, pid)? else { continue };
        if !units.iter().any(|unit| unit.contains(&cgroup)) {
            continue;
        }
        let path = cgroup.path().to_owned();
        let all = match effective.get(&path) {
            Some(all) => all.clone(),
            None => match cgroup.effective_cpus() {
                Ok(all) => effective.entry(path).or_insert(all).clone(),
                Err(_) if !cgroup.exists() => continue,
                Err(e) => return Err(e),
            },
        };
        for thread in host.procfs.threads(pid)? {
            let thread = look(&host.procfs, Kind::Thread, thread)?;
            found.extend(
                thread
                    .filter(|(_, allowed)| *allowed != all)
                    .map(|(item, allowed)| Found::new(item, allowed.to_string())),
            );
        }
    }
    Ok(found)
}

/// The CPUs that a thread may run on; none where it has ended, even if another has its number.
pub(super) fn read_thread(host: &Host, item: &Item) -> Result<Option<String>, Error> {
    let Some(thread) = item.thread else { return Ok(None) };
    let found = look(&host.procfs, item.kind, thread.pid)?;
    Ok(found.filter(|(found, _)| found.key() == item.key()).map(|(_, allowed)| allowed.to_string()))
}

/// Binds a thread.
pub(super) fn bind(host: &Host, item: &Item, value: &str) -> Result<(), String> {
    let Some(thread) = item.thread else { return Ok(()) };
    if read_thread(host, item).map_err(|e| e.to_string())?.is_none() {
        return Ok(());
    }
    affinity::bind(thread.pid, &cpus(value))
        .map_err(|e| format!("the kernel does not bind it to {value}: {e}"))
}
