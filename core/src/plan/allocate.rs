//! Choosing CPU lists for one owner.
//!
//! *Candidates* are the pool's lists whose CPUs the owner may use; others, and lists with a damaged
//! `tasks`, are skipped. From an exclusive pool one owner gets
//! - for one core the first free candidate by lowest CPU;
//! - for more all or none: on the NUMA node with the fewest free that suffice (ties ascending),
//!   else over the fewest nodes.
//!
//! From a shared pool it gets the candidate with the fewest live tasks. One that is restored from a
//! checkpoint gets the lists that it had, if they are free candidates.
//!
//! There are two ways to choose. [`at_a_glance`] sees only which `tasks` are empty, which is enough
//! nearly always and opens nothing; [`choose`] has everything before it, and so an answer.

use std::collections::BTreeMap;

use crate::allocation::Allocation;
use crate::cpu_set::CpuSet;
use crate::partition::Kind;
use crate::plan::{Change, Slot};
use crate::pool::{CpuList, CpuListName, Pool, PoolName};
use crate::request::Request;
use crate::task::{Glance, Judged, Pid};

/// NUMA nodes: number → CPUs.
pub type Nodes = BTreeMap<u32, CpuSet>;

/// Why an owner gets nothing. The text is for whoever asked: it names no other owner.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// More cores than the pool has lists.
    #[error(
        "{wanted} cores requested of pool {pool}, which has {total}; ask for {total} at most, or \
         have the node set up with more (kcm init --num-dp-cores)"
    )]
    MoreThanThePoolHas {
        /// The pool asked.
        pool: PoolName,
        /// How many were asked for.
        wanted: usize,
        /// How many the pool has.
        total: usize,
    },
    /// A pool without lists.
    #[error(
        "pool {pool} has no CPU lists on this node; choose another pool, or run kcm init with more cores"
    )]
    NoLists {
        /// The pool asked.
        pool: PoolName,
    },
    /// Too few lists that the owner may use.
    #[error(
        "only {candidates} of {total} CPU lists of pool {pool} can be used here ({wanted} wanted): \
         the others have CPUs that are offline or outside the cpuset of the parent cgroup or of the \
         caller, {usable}, or a damaged tasks file; {}the warnings before this one name them",
        give_back(lacking)
    )]
    NotUsable {
        /// The pool asked.
        pool: PoolName,
        /// How many were asked for.
        wanted: usize,
        /// How many can be used.
        candidates: usize,
        /// How many there are.
        total: usize,
        /// What may be used.
        usable: CpuSet,
        /// CPUs of the lists that may not be.
        lacking: CpuSet,
    },
    /// Too few lists that are free.
    #[error(
        "No free cpu lists in pool {pool}: {held} of {total} are held{}, {wanted} wanted; end a \
         container that holds one, choose another pool, or use another node",
        unusable(*out_of_use)
    )]
    NoneFree {
        /// The pool asked.
        pool: PoolName,
        /// How many were asked for.
        wanted: usize,
        /// How many are held by somebody alive.
        held: usize,
        /// How many nobody holds, and cannot be used here all the same.
        out_of_use: usize,
        /// How many there are.
        total: usize,
    },
}

/// What gives back CPUs that may not be used.
fn give_back(lacking: &CpuSet) -> String {
    if lacking.is_empty() {
        return String::new();
    }
    format!(
        "CPUs {lacking} are not to be had: write 1 into /sys/devices/system/cpu/cpu<number>/online where \
         that says 0, else widen the parent cgroup's cpuset; "
    )
}

fn unusable(lists: usize) -> String {
    match lists {
        0 => String::new(),
        1 => " and 1 cannot be used here (a warning says why)".to_owned(),
        _ => format!(" and {lists} cannot be used here (warnings say why)"),
    }
}

/// Chooses among the lists of an exclusive pool whose `tasks` are empty: indices into
/// [`Pool::lists`]. None where that does not decide: everything is to be judged then, and
/// [`choose`]d from.
pub fn at_a_glance(
    pool: &Pool<Glance>,
    request: &Request,
    nodes: &Nodes,
) -> Result<Option<Vec<usize>>, Refusal> {
    let may_be_held = |glance: &Glance| *glance == Glance::Unread;
    let candidates = candidates(pool, request, |_| false, may_be_held)?;
    if !pool.exclusive {
        return Ok(None);
    }
    let empty = candidates.into_iter().filter(|&i| pool.lists[i].tasks == Glance::Empty);
    let empty: Vec<usize> = empty.collect();
    if request.had.is_some() {
        return Ok(had(pool, &empty, request));
    }
    Ok(match pick(pool, empty, request.cores.get(), nodes) {
        Some((chosen, Spread::OneNode)) => Some(chosen),
        _ => None,
    })
}

/// Chooses CPU lists for a request: indices into [`Pool::lists`]. `nodes` matters only for more
/// than one core.
pub fn choose(
    pool: &Pool<Judged>,
    request: &Request,
    nodes: &Nodes,
) -> Result<Vec<usize>, Refusal> {
    let is_held = |judged: &Judged| judged.live() > 0;
    let candidates = candidates(pool, request, |judged| judged.damage().is_some(), is_held)?;
    if !pool.exclusive {
        if let Some(lists) = had(pool, &candidates, request) {
            return Ok(lists);
        }
        let least = candidates.into_iter().min_by_key(|&i| pool.lists[i].tasks.live());
        return Ok(least.into_iter().collect());
    }
    let wanted = request.cores.get();
    let free = candidates.into_iter().filter(|&i| pool.lists[i].tasks.is_free());
    let free: Vec<usize> = free.collect();
    if let Some(lists) = had(pool, &free, request) {
        return Ok(lists);
    }
    let none_free = || {
        let held = pool.lists.iter().filter(|list| list.tasks.live() > 0).count();
        let idle = pool.lists.iter().filter(|list| list.tasks.live() == 0);
        let out_of_use = idle
            .filter(|list| list.tasks.damage().is_some() || !may_use(list, &request.usable))
            .count();
        let total = pool.lists.len();
        Refusal::NoneFree { pool: pool.name.clone(), wanted, held, out_of_use, total }
    };
    let (chosen, _) = pick(pool, free, wanted, nodes).ok_or_else(none_free)?;
    Ok(chosen)
}

/// The lists that the owner may use at all, or that somebody holds and that are none of his for that
/// alone (those of a partition are in nobody else's cpuset), if they can be enough.
fn candidates<T>(
    pool: &Pool<T>,
    request: &Request,
    is_damaged: impl Fn(&T) -> bool,
    is_held: impl Fn(&T) -> bool,
) -> Result<Vec<usize>, Refusal> {
    let wanted = if pool.exclusive { request.cores.get() } else { 1 };
    let total = pool.lists.len();
    let name = || pool.name.clone();
    if total == 0 {
        return Err(Refusal::NoLists { pool: name() });
    }
    if wanted > total {
        return Err(Refusal::MoreThanThePoolHas { pool: name(), wanted, total });
    }
    let is_candidate = |list: &CpuList<T>| {
        let is_held = pool.exclusive && is_held(&list.tasks);
        (is_held || may_use(list, &request.usable)) && !is_damaged(&list.tasks)
    };
    let candidates: Vec<usize> = (0..total).filter(|&i| is_candidate(&pool.lists[i])).collect();
    if candidates.len() < wanted {
        let (candidates, usable) = (candidates.len(), request.usable.clone());
        let cpus = pool.lists.iter().map(|list| list.name.cpus().difference(&usable));
        let lacking = cpus.fold(CpuSet::new(), |all, cpus| all.union(&cpus));
        return Err(Refusal::NotUsable {
            pool: name(),
            wanted,
            candidates,
            total,
            usable,
            lacking,
        });
    }
    Ok(candidates)
}

/// Whether an owner that may use only these CPUs may use a list.
pub fn may_use<T>(list: &CpuList<T>, usable: &CpuSet) -> bool {
    list.name.cpus().is_subset(usable)
}

/// The lists that the owner had when its checkpoint was made, if they are all among these and as
/// many as it asks for.
fn had<T>(pool: &Pool<T>, among: &[usize], request: &Request) -> Option<Vec<usize>> {
    let cpus = request.had.as_ref()?;
    let lists = among.iter().copied().filter(|&i| may_use(&pool.lists[i], cpus));
    let lists: Vec<usize> = lists.collect();
    let wanted = if pool.exclusive { request.cores.get() } else { 1 };
    let all = lists.iter().fold(CpuSet::new(), |all, &i| all.union(pool.lists[i].name.cpus()));
    (lists.len() == wanted && all == *cpus).then_some(lists)
}

/// Whether what was picked lies on one NUMA node.
enum Spread {
    OneNode,
    Several,
}

/// So many of the free lists, as near to each other as they can be; none where they are too few.
fn pick<T>(
    pool: &Pool<T>,
    free: Vec<usize>,
    wanted: usize,
    nodes: &Nodes,
) -> Option<(Vec<usize>, Spread)> {
    if free.len() < wanted {
        return None;
    }
    if wanted == 1 {
        return Some((free[..1].to_vec(), Spread::OneNode));
    }
    let by_node = group_by_node(pool, free, nodes);
    let fitting = by_node.iter().filter(|lists| lists.len() >= wanted);
    match fitting.min_by_key(|lists| lists.len()) {
        Some(lists) => Some((lists[..wanted].to_vec(), Spread::OneNode)),
        None => Some((over_fewest_nodes(by_node, wanted), Spread::Several)),
    }
}

/// Free lists by NUMA node, ascending; a list that spans nodes counts for that of its first CPU.
fn group_by_node<T>(pool: &Pool<T>, free: Vec<usize>, nodes: &Nodes) -> Vec<Vec<usize>> {
    let mut groups: BTreeMap<Option<u32>, Vec<usize>> = BTreeMap::new();
    for i in free {
        let first = pool.lists[i].name.cpus().first();
        let node = nodes.iter().find(|(_, cpus)| first.is_some_and(|cpu| cpus.contains(cpu)));
        groups.entry(node.map(|(&number, _)| number)).or_default().push(i);
    }
    groups.into_values().collect()
}

fn over_fewest_nodes(mut by_node: Vec<Vec<usize>>, wanted: usize) -> Vec<usize> {
    by_node.sort_by_key(|lists| std::cmp::Reverse(lists.len())); // stable: ties stay ascending
    let mut chosen: Vec<usize> = by_node.into_iter().flatten().take(wanted).collect();
    chosen.sort_unstable();
    chosen
}

/// A list that is taken: its name, and who is in it beside whoever takes it (of a shared pool).
pub type Taken = (CpuListName, Vec<Pid>);

/// The allocation of the chosen lists, and the changes that make it so.
pub fn take(
    pool: &PoolName,
    exclusive: bool,
    lists: &[Taken],
    request: &Request,
    partition: Option<Kind>,
    created_at: String,
) -> (Allocation, Vec<Change>) {
    let allocation = Allocation {
        owner: request.owner.clone(),
        pool: pool.clone(),
        lists: lists.iter().map(|(name, _)| name.clone()).collect(),
        process: request.process.clone(),
        created_at,
        cgroup: request.cgroup.clone(),
        affinity: request.affinity,
        partition,
        details: request.details.clone(),
    };
    let changes = put(&allocation, exclusive, lists);
    (allocation, changes)
}

/// The changes that make an allocation so.
pub fn put(allocation: &Allocation, exclusive: bool, lists: &[Taken]) -> Vec<Change> {
    let Allocation { owner, pool, process, .. } = allocation;
    let mut changes = vec![Change::PutRecord(Box::new(allocation.clone()))];
    if exclusive {
        let slots = lists.iter().map(|(name, _)| Slot::new(pool, name));
        changes.extend(slots.map(|slot| Change::Index(slot, owner.clone())));
    }
    changes.extend(lists.iter().map(|(name, others)| {
        // Our PID in the file already is a dead process's: ours has it now.
        let others = others.iter().copied().filter(|&other| other != process.pid);
        Change::SetTasks(Slot::new(pool, name), others.chain([process.pid]).collect())
    }));
    changes
}

#[cfg(test)]
#[path = "allocate_tests.rs"]
mod tests;
