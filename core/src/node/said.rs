//! What a node says of what it found and did.

use crate::CpuSet;
use crate::notice::Notice;
use crate::plan::allocate::may_use;
use crate::plan::reconcile::{Forgotten, Reclaimed};
use crate::pool::{CpuList, Pool};
use crate::request::Request;
use crate::task::{Judged, Life};

/// Why lists of a pool are out of use.
pub(super) fn damages(pool: &Pool<Judged>) -> impl Iterator<Item = String> {
    pool.lists.iter().filter_map(|list| list.tasks.damage().map(str::to_owned))
}

/// One line for all of these lists that the owner may not use: there may be many.
pub(super) fn skipped<T>(
    pool: &Pool<T>,
    request: &Request,
    of: impl Fn(&T) -> bool,
) -> Option<Notice> {
    let usable = &request.usable;
    let is_skipped = |list: &&CpuList<T>| !may_use(list, usable) && of(&list.tasks);
    let skipped: Vec<_> = pool.lists.iter().filter(is_skipped).collect();
    let all = skipped.iter().fold(CpuSet::new(), |all, list| all.union(list.name.cpus()));
    let outside = all.difference(usable);
    let what = match skipped[..] {
        [] => return None,
        [list] => format!("CPU list {} of pool {}", list.name, pool.name),
        _ => format!("{} CPU lists of pool {} (CPUs {all})", skipped.len(), pool.name),
    };
    Some(Notice::warning(format!(
        "skipping {what}: CPUs {outside} are offline or outside {usable}, which is all that may be used"
    )))
}

/// A record that went.
pub(super) fn forgotten_notice(Forgotten { owner, pid, life }: &Forgotten) -> Notice {
    let but = match life {
        Life::NeverBound => "; it lives, but was never bound to its CPUs: its start failed",
        _ => "",
    };
    Notice::warning(format!(
        "removed the record of {owner}: process {pid} is in no tasks file{but}"
    ))
}

/// A line for each owner, and one for all PIDs of which no record says whose they were: there may be
/// thousands.
pub(super) fn reclaimed_notices(reclaimed: &[Reclaimed]) -> Vec<Notice> {
    let mut said = Vec::new();
    let by_list =
        |a: &Reclaimed, b: &Reclaimed| a.list == b.list && a.owner.is_none() == b.owner.is_none();
    let mut crowds = Vec::new();
    for of_list in reclaimed.chunk_by(by_list) {
        if of_list[0].owner.is_none() && of_list.len() > 1 {
            crowds.push(of_list);
            continue;
        }
        for Reclaimed { pool, list, pid, owner } in of_list {
            let owner = owner.as_ref().map(|owner| format!(" of {owner}")).unwrap_or_default();
            let line =
                format!("reclaimed CPU list {list} of pool {pool}: process {pid}{owner} is dead");
            said.push(Notice::warning(line));
        }
    }
    // Nobody wants to know each of them.
    if let Some(Reclaimed { pool, pid, .. }) = crowds.first().map(|of_list| &of_list[0]) {
        let lists: Vec<&str> = crowds.iter().map(|of_list| of_list[0].list.as_str()).collect();
        let more = crowds.iter().map(|of_list| of_list.len()).sum::<usize>() - 1;
        said.push(Notice::warning(format!(
            "reclaimed CPU list {} of pool {pool}: process {pid} and {more} more are dead",
            lists.join(" and ")
        )));
    }
    said
}

/// Who holds a pool's lists: for the log alone, since it names other tenants' containers.
pub(super) fn holders(pool: &Pool<Judged>) -> Option<Notice> {
    let held = pool.lists.iter().filter_map(|list| {
        let live = list.tasks.tasks.iter().filter(|task| task.is_alive());
        let who = live.map(|task| match &task.owner {
            Some(owner) => format!("{owner} (process {})", task.pid),
            None => format!(
                "process {pid} (no record says whose; it holds the list until it ends: ps -fp {pid} \
                 tells what it is, kill {pid} ends it)",
                pid = task.pid
            ),
        });
        let who: Vec<String> = who.collect();
        (!who.is_empty()).then(|| format!("{} by {}", list.name, who.join(" and ")))
    });
    let held: Vec<String> = held.collect();
    let text = || format!("held in pool {}: {}", pool.name, held.join("; "));
    (!held.is_empty()).then(|| Notice::confidential(text()))
}
