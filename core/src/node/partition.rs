//! A container's own CPUs as a cpuset partition: taken under the lock, given back with them, and made
//! anew where one no longer holds.

use std::collections::BTreeMap;

use super::{Error, Node, NotRepaired, pool_as_made};
use crate::CpuSet;
use crate::allocation::{Allocation, CgroupId};
use crate::host::cgroup::{Cgroup, Hierarchy};
use crate::host::mark::{self, Mark};
use crate::host::partition::{self, Cleared, InTheWay, NotTaken, State, Taken};
use crate::host::sysfs;
use crate::host::workqueues::Workqueues;
use crate::notice::Notice;
use crate::partition::{Kind, Policy, Wish};
use crate::plan::allocate::Refusal;
use crate::pool::CpuList;
use crate::request::Request;
use crate::state::{self, Under};
use crate::task::Glance;

/// Why a cgroup is no partition.
#[derive(Debug, thiserror::Error)]
pub enum NoPartition {
    /// The kernel does not make it one.
    #[error("{why}{}", who(in_the_way))]
    NotTaken {
        /// What it says.
        why: NotTaken,
        /// Who has a claim on the CPUs.
        in_the_way: Vec<InTheWay>,
    },
    /// The configuration directory's lock.
    #[error(transparent)]
    State(#[from] state::Error),
    /// The kernel's files.
    #[error(transparent)]
    Host(#[from] crate::host::Error),
}

/// A holder that has its CPUs for itself alone no more, as was asked for.
#[derive(Debug)]
pub struct Left {
    /// What it holds.
    pub record: Allocation,
    /// Why it may have them so still, if so.
    pub result: Result<(), NotRepaired>,
}

fn who(in_the_way: &[InTheWay]) -> String {
    let all: Vec<String> = in_the_way.iter().map(ToString::to_string).collect();
    match all[..] {
        [] => String::new(),
        _ => format!(": {}; end it, or give it other CPUs", all.join(", and ")),
    }
}

impl Node {
    /// What an owner is to have of a pool that says this; a notice, or an error where the pool requires
    /// it, if this node's kernel cannot.
    pub(super) fn wish(
        &self,
        request: &Request,
        exclusive: bool,
        policy: Policy,
        notices: &mut Vec<Notice>,
    ) -> Result<Wish, Error> {
        if !exclusive || !request.affinity {
            return Ok(Wish::PLAIN);
        }
        let wish = policy.wish(&request.pool, request.partition)?;
        let Some(kind) = wish.kind else { return Ok(wish) };
        let why = match (&self.hierarchy, &request.cgroup) {
            (Some(hierarchy), Some(own)) if hierarchy.has_partitions() => {
                let is_for_it = wish.named || hierarchy.at(&own.path).is_beside_nobody();
                return Ok(if is_for_it { wish } else { Wish::PLAIN });
            }
            (_, None) => "there is no cgroup of its own",
            _ => "this kernel has none: they need cgroup v2 and Linux 6.8",
        };
        if wish.required {
            return Err(Error::NoPartitions { pool: request.pool.clone(), kind, why });
        }
        if wish.named {
            notices.push(Notice::warning(format!(
                "{} gets no cpuset partition ({kind}), since {why}: others may run on its CPUs",
                request.owner
            )));
        }
        Ok(Wish::PLAIN)
    }

    /// What an owner could be given beyond what it may use now: CPUs that another's partition has, or
    /// had a moment ago, are none of anybody else's, and what the shield keeps off its slice a partition
    /// has all the same. None where that is nothing more.
    pub(super) fn obtainable(
        &self,
        request: &Request,
        shield: &BTreeMap<String, CpuSet>,
    ) -> Result<Option<CpuSet>, Error> {
        let hierarchy = self.hierarchy.as_ref().filter(|hierarchy| hierarchy.has_partitions());
        let (Some(hierarchy), Some(cgroup)) = (hierarchy, &request.cgroup) else { return Ok(None) };
        let contents = self.conf.unlocked()?;
        let pool = contents.pool(&request.pool)?.pool;
        let policy = contents.partition(&request.pool)?;
        let wish = self.wish(request, pool.exclusive, policy, &mut Vec::new())?;
        let online = sysfs::online(&self.sys_root)?;
        let none = BTreeMap::new();
        let shield = if wish.kind.is_some() { shield } else { &none };
        let mut all = hierarchy.at(&cgroup.path).obtainable_cpus(&online, shield)?;
        if let Some(within) = &request.within {
            all = all.intersection(within);
        }
        let is_one_more = |list: &CpuList<Glance>| {
            let cpus = list.name.cpus();
            cpus.is_subset(&all) && !cpus.is_subset(&request.usable)
        };
        Ok(pool.lists.iter().any(is_one_more).then_some(all))
    }

    /// Why an owner is refused, where the shield is the reason.
    pub(super) fn shielded(
        &self,
        request: &Request,
        shield: &BTreeMap<String, CpuSet>,
        refusal: Refusal,
    ) -> Error {
        let kept = || {
            let own = self.hierarchy.as_ref()?.own();
            let path = request.cgroup.as_ref().map_or(own.path(), |cgroup| &cgroup.path);
            let (unit, left) = shield.get_key_value(path.split('/').nth(1)?)?;
            let lists = pool_as_made(&self.conf, &request.pool).ok()?.lists;
            let all = lists.iter().fold(CpuSet::new(), |all, list| all.union(list.name.cpus()));
            let cpus = all.difference(&request.usable).difference(left);
            (!cpus.is_empty()).then(|| (unit.clone(), cpus))
        };
        match kept() {
            Some((unit, cpus)) => {
                Error::Shielded { unit, cpus, pool: request.pool.clone(), refusal: refusal.into() }
            }
            None => refusal.into(),
        }
    }

    /// Whether this node's kernel can have partitions.
    pub fn has_partitions(&self) -> bool {
        self.hierarchy.as_ref().is_some_and(Hierarchy::has_partitions)
    }

    /// Makes a cgroup a partition, after what nobody uses any more was taken out of its way.
    pub(super) fn take_partition(
        &self,
        under: Under<'_>,
        cgroup: &Cgroup,
        cpus: &CpuSet,
        kind: Kind,
    ) -> Result<Taken, NoPartition> {
        self.conf.hold(under, || {
            let taken = take_cleared(cgroup, cpus, kind)?;
            // Nobody's task runs there now, whatever becomes of the kernel's own work.
            if let Err(error) = Workqueues::new(&self.sys_root).keep_off(cpus) {
                log::debug!("work of the kernel's own may run on CPUs {cpus}: {error}");
            }
            Ok(taken)
        })
    }

    /// Takes out of a cgroup's way what nobody uses any more of these CPUs. Who else has a claim on them.
    pub(super) fn clear_way(
        &self,
        under: Under<'_>,
        cgroup: &Cgroup,
        cpus: &CpuSet,
    ) -> Result<Vec<InTheWay>, NoPartition> {
        self.conf.hold(under, || Ok(partition::clear(cgroup, cpus)?.in_the_way))
    }

    /// Has the cgroup of an owner that is not to have its CPUs be a partition no more.
    pub fn leave_partition(&self, cgroup: &Cgroup, record: &Allocation, notices: &mut Vec<Notice>) {
        let Some(hierarchy) = self.hierarchy.as_ref().filter(|_| record.partition.is_some()) else {
            return;
        };
        let left = self.conf.hold(Under::Nothing, || {
            Ok::<_, NoPartition>(partition::leave(hierarchy, cgroup, &record.cpus())?)
        });
        if let Err(error) = left {
            notices.push(still_aside(record, &error));
        }
    }

    /// Has no holder have its CPUs for itself alone any more: for when nobody will be there to give them
    /// back at its end. Each stays on its CPUs. Who they were, and why one could not be helped.
    pub fn leave_partitions(&self) -> Result<Vec<Left>, Error> {
        let Some(hierarchy) = &self.hierarchy else { return Ok(Vec::new()) };
        self.conf.update(|state| {
            let records = state.records()?.readable.into_iter();
            let mut left = Vec::new();
            for record in records.filter(|record| record.partition.is_some()) {
                let cpus = record.cpus();
                let result = match self.cgroup_of(hierarchy, &record) {
                    Ok(cgroup) => partition::leave(hierarchy, &cgroup, &cpus),
                    // It is gone.
                    Err(NotRepaired::Changed) => {
                        let gone = hierarchy.at(record.cgroup_path().unwrap_or("/"));
                        partition::give_back(hierarchy, &gone, &cpus)?;
                        continue;
                    }
                    Err(why) => {
                        left.push(Left { record, result: Err(why) });
                        continue;
                    }
                };
                left.push(Left { record, result: result.map_err(NotRepaired::from) });
            }
            Ok(left)
        })
    }

    /// What kind of partition a cgroup is, whose record was lost.
    pub(super) fn partition_of(&self, id: &CgroupId) -> Result<Option<Kind>, Error> {
        let Some(hierarchy) = &self.hierarchy else { return Ok(None) };
        Ok(match hierarchy.at(&id.path).partition()? {
            Some(State::Valid(kind) | State::Invalid(kind, _)) => Some(kind),
            Some(State::Member) | None => None,
        })
    }

    /// Under the lock: has nothing be set aside any more for what a record says, nor by its cgroup itself
    /// if that is there still.
    pub(super) fn give_partition_back(&self, record: &Allocation, notices: &mut Vec<Notice>) {
        let (Some(hierarchy), Some(id), Some(_)) =
            (&self.hierarchy, &record.cgroup, record.partition)
        else {
            return;
        };
        let cgroup = hierarchy.at(&id.path);
        // A record proves nothing: of a cgroup that nobody is in the mark does, or, where it was not set
        // yet, that it was given these very CPUs.
        let is_left = || {
            let is_it = id.inode.is_some() && cgroup.inode()? == id.inode;
            let is_its_own = || {
                let is_marked = mark::of(&cgroup)?.is_some_and(|mark| mark == Mark::on(record));
                Ok::<_, crate::host::Error>(is_marked || cgroup.own_cpus()? == record.cpus())
            };
            Ok(is_it && !cgroup.is_populated()? && is_its_own()?)
        };
        let given_back = is_left().and_then(|is_left| match is_left {
            true => partition::leave(hierarchy, &cgroup, &record.cpus()),
            false => partition::give_back(hierarchy, &cgroup, &record.cpus()),
        });
        if let Err(error) = given_back {
            notices.push(still_aside(record, &error));
        }
    }
}

fn take_cleared(cgroup: &Cgroup, cpus: &CpuSet, kind: Kind) -> Result<Taken, NoPartition> {
    let why = match partition::take(cgroup, cpus, kind) {
        Ok(taken) => return Ok(taken),
        Err(NotTaken::Host(error)) => return Err(error.into()),
        Err(why) => why,
    };
    let Cleared { cleared, in_the_way } = partition::clear(cgroup, cpus)?;
    if cleared.is_empty() {
        return Err(NoPartition::NotTaken { why, in_the_way });
    }
    log::debug!("CPUs {cpus} were set aside for nobody in {}", cleared.join(", "));
    let taken = partition::take(cgroup, cpus, kind);
    taken.map_err(|why| NoPartition::NotTaken { why, in_the_way })
}

fn still_aside(record: &Allocation, error: &dyn std::fmt::Display) -> Notice {
    let Allocation { owner, .. } = record;
    Notice::warning(format!(
        "CPUs {} of {owner} may still be set aside: {error}; whoever gets them next tries again",
        record.cpus()
    ))
}
