//! Choosing CPU lists for one owner.
//!
//! *Candidates* are the pool's lists whose CPUs the owner may use; others, and lists with a
//! malformed `tasks`, are skipped. From an exclusive pool one owner gets
//! - for one core the first free candidate by lowest CPU;
//! - for more all or none: on the NUMA node with the fewest free that suffice (ties ascending),
//!   else over the fewest nodes.
//!
//! From a shared pool it gets the candidate with the fewest live tasks.

use std::collections::BTreeMap;

use crate::allocation::Allocation;
use crate::cpu_set::CpuSet;
use crate::plan::Change;
use crate::pool::{CpuList, Pool, PoolName};
use crate::request::Request;
use crate::task::Tasks;

/// NUMA nodes: number → CPUs.
pub type Nodes = BTreeMap<u32, CpuSet>;

/// What to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Choice {
    /// Take these lists: indices into [`Pool::lists`].
    Take(Vec<usize>),
    /// Look into the lists that nobody has looked into, reclaim what the dead hold, choose again.
    LookCloser,
}

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
         caller, {usable}, or a damaged tasks file; the warnings before this one name them"
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
    },
    /// Too few lists that are free.
    #[error(
        "No free cpu lists in pool {pool}: {held} of {total} are held ({wanted} wanted); end a \
         container that holds one, choose another pool, or use another node"
    )]
    NoneFree {
        /// The pool asked.
        pool: PoolName,
        /// How many were asked for.
        wanted: usize,
        /// How many are held by somebody alive.
        held: usize,
        /// How many there are.
        total: usize,
    },
}

/// Chooses CPU lists for a request; `nodes` matters only for more than one core.
pub fn choose(pool: &Pool, request: &Request, nodes: &Nodes) -> Result<Choice, Refusal> {
    let wanted = if pool.exclusive { request.cores.get() } else { 1 };
    let total = pool.lists.len();
    let name = || pool.name.clone();
    if total == 0 {
        return Err(Refusal::NoLists { pool: name() });
    }
    if wanted > total {
        return Err(Refusal::MoreThanThePoolHas { pool: name(), wanted, total });
    }
    let candidates: Vec<usize> =
        (0..total).filter(|&i| skip_reason(&pool.lists[i], &request.usable).is_none()).collect();
    if candidates.len() < wanted {
        let (candidates, usable) = (candidates.len(), request.usable.clone());
        return Err(Refusal::NotUsable { pool: name(), wanted, candidates, total, usable });
    }
    let unread = candidates.iter().any(|&i| pool.lists[i].tasks == Tasks::Unread);
    if !pool.exclusive {
        return Ok(if unread {
            Choice::LookCloser
        } else {
            let least = candidates.into_iter().min_by_key(|&i| pool.lists[i].tasks.live());
            Choice::Take(least.into_iter().collect())
        });
    }
    let free: Vec<usize> =
        candidates.into_iter().filter(|&i| pool.lists[i].tasks.is_free()).collect();
    if free.len() < wanted {
        let held = pool.lists.iter().filter(|list| !list.tasks.is_free()).count();
        return if unread {
            Ok(Choice::LookCloser)
        } else {
            Err(Refusal::NoneFree { pool: name(), wanted, held, total })
        };
    }
    if wanted == 1 {
        return Ok(Choice::Take(vec![free[0]]));
    }
    let by_node = group_by_node(pool, free, nodes);
    let fitting = by_node.iter().filter(|lists| lists.len() >= wanted);
    match fitting.min_by_key(|lists| lists.len()) {
        Some(lists) => Ok(Choice::Take(lists[..wanted].to_vec())),
        None if unread => Ok(Choice::LookCloser),
        None => Ok(Choice::Take(over_fewest_nodes(by_node, wanted))),
    }
}

/// Why a list is no candidate for an owner that may use only `usable`; none if it is one.
pub fn skip_reason(list: &CpuList, usable: &CpuSet) -> Option<String> {
    if let Tasks::Malformed(cause) = &list.tasks {
        return Some(cause.clone());
    }
    (!list.name.cpus().is_subset(usable)).then(|| {
        let outside = list.name.cpus().difference(usable);
        format!("CPUs {outside} are offline or outside {usable}, which is all that may be used")
    })
}

/// Free lists by NUMA node, ascending; a list that spans nodes counts for that of its first CPU.
fn group_by_node(pool: &Pool, free: Vec<usize>, nodes: &Nodes) -> Vec<Vec<usize>> {
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

/// The allocation of the chosen lists, and the changes that make it so.
pub fn take(
    pool: &Pool,
    chosen: &[usize],
    request: &Request,
    created_at: String,
) -> (Allocation, Vec<Change>) {
    let lists: Vec<&CpuList> = chosen.iter().map(|&i| &pool.lists[i]).collect();
    let pid = request.process.pid;
    let allocation = Allocation {
        owner: request.owner.clone(),
        pool: pool.name.clone(),
        lists: lists.iter().map(|list| list.name.clone()).collect(),
        process: request.process.clone(),
        created_at,
        cgroup: request.cgroup.clone(),
        affinity: request.affinity,
        details: request.details.clone(),
    };
    let mut changes = vec![Change::PutRecord(Box::new(allocation.clone()))];
    changes.extend(lists.iter().map(|list| {
        let others = match &list.tasks {
            Tasks::Judged(tasks) => tasks.iter().map(|task| task.pid).collect(),
            Tasks::Empty | Tasks::Unread | Tasks::Malformed(_) => Vec::new(),
        };
        // Our PID in the file already is a dead process's: ours has it now.
        let others = others.into_iter().filter(|&other| other != pid);
        Change::SetTasks {
            pool: pool.name.clone(),
            list: list.name.to_string(),
            pids: others.chain([pid]).collect(),
        }
    }));
    (allocation, changes)
}

#[cfg(test)]
#[path = "allocate_tests.rs"]
mod tests;
