//! Who holds what, looked at with nothing changed: what `reconcile` would find, and what it leaves
//! alone.

use std::collections::BTreeMap;

use super::judge::Judge;
use super::marks::Marks;
use super::pool_judge::PoolJudge;
use super::reconcile::{cpus_by_pid, live_tasks};
use super::repair::{Live, Lost, Mismatch};
use super::{Error, Node};
use crate::CpuSet;
use crate::allocation::{Allocation, Owner};
use crate::host::environ;
use crate::host::neighbours::is_kernel_thread;
use crate::notice::Notice;
use crate::plan::Slot;
use crate::plan::reconcile::shared_by_mistake;
use crate::pool::Pool;
use crate::state::{Contents, Listing};
use crate::task::{Judged, Pid, Task};

/// What a look at the holders has found.
#[derive(Debug, Default)]
pub struct Survey {
    /// Exclusive lists with more than one live holder.
    pub crowded: Vec<(Slot, Vec<Task>)>,
    /// Live processes in exclusive lists of which no record says whose they are.
    pub nameless: Vec<Nameless>,
    /// Live holders that are not in `tasks` of a list that they hold by their record.
    pub unwritten: Vec<(Slot, Task)>,
    /// Live containers whose record is of kcm 0.1, so that nothing proves which cgroup is theirs.
    pub unproven: Vec<Allocation>,
    /// Live ones that run elsewhere than on their CPUs.
    pub mismatched: Vec<Mismatch>,
    /// Live ones that have their CPUs no more for themselves alone.
    pub lost: Vec<Lost>,
    /// Who could not be looked at, so that lists stay held.
    pub notices: Vec<Notice>,
}

/// A process that holds a list by its number alone.
#[derive(Clone, Debug)]
pub struct Nameless {
    /// The list.
    pub slot: Slot,
    /// The process.
    pub pid: Pid,
    /// What it seems to be.
    pub what: Seeming,
}

/// What a process that no record names seems to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seeming {
    /// A container whose record was lost: its cgroup is marked with this owner.
    Lost(Owner),
    /// Bound to the list's CPUs: most likely whoever was put there.
    Bound,
    /// It may run elsewhere, on these CPUs, or is the kernel's own: most likely it has the number of
    /// one that has ended.
    Elsewhere(CpuSet),
}

impl Node {
    /// Looks at all that hold lists, and changes nothing. Pools and records that cannot be read are
    /// left out.
    pub fn survey(&self) -> Result<Survey, Error> {
        let look = |marks: &Marks| Ok::<_, Error>(self.conf.read(|c| self.look(c, marks))?.0);
        let (mut found, mut live, unsearched) = look(&Marks::default())?;
        if !unsearched.is_empty() {
            let mut notices = Vec::new();
            let marks = self.search(&unsearched, &mut notices);
            (found, live, _) = look(&marks)?;
            found.notices = notices;
        }
        // Without the lock, as `reconcile` does.
        for task in live {
            found.lost.extend(self.lost_partition(&task)?);
            found.mismatched.extend(self.mismatch(task)?);
        }
        found.mismatched.sort_by_key(|m| (m.pid, m.pool.clone(), m.list.to_string()));
        found.lost.sort_by(|a, b| a.allocation.owner.cmp(&b.allocation.owner));
        found.lost.dedup_by(|a, b| a.allocation.owner == b.allocation.owner);
        Ok(found)
    }

    fn look(
        &self,
        contents: &Contents,
        marks: &Marks,
    ) -> Result<(Survey, Vec<Live>, Vec<environ::Mark>), Error> {
        let judge = Judge::new(self, contents)?.after(marks.clone());
        let is_first = !contents.is_of_boot(&judge.boot_id)?;
        let judge = judge.knowing(contents.records()?).first_of_boot(is_first);
        let mut found = Survey::default();
        let mut pools = Vec::new();
        for name in contents.pool_names()? {
            let Ok(Listing { pool, .. }) = contents.pool(&name) else { continue };
            let pool = judge.pool(pool)?;
            let crowded = shared_by_mistake(&pool).into_iter();
            let owned = |(slot, tasks): (Slot, Vec<&Task>)| {
                (slot, tasks.into_iter().cloned().collect::<Vec<_>>())
            };
            found.crowded.extend(crowded.map(owned));
            self.look_at_pool(&pool, &judge, &mut found)?;
            pools.push(pool);
        }
        for record in judge.records() {
            let is_old = record.cgroup.as_ref().is_some_and(|cgroup| cgroup.inode.is_none());
            if is_old && judge.judge.is_alive(record)? {
                found.unproven.push(record.clone());
            }
        }
        Ok((found, live_tasks(&pools, judge.records()), judge.judge.unsearched()))
    }

    fn look_at_pool(
        &self,
        pool: &Pool<Judged>,
        judge: &PoolJudge<'_>,
        found: &mut Survey,
    ) -> Result<(), Error> {
        let cpus: BTreeMap<Pid, CpuSet> = cpus_by_pid(pool);
        for list in &pool.lists {
            let slot = || Slot::new(&pool.name, &list.name);
            for task in list.tasks.tasks.iter().filter(|task| task.is_alive()) {
                if !task.is_written {
                    found.unwritten.push((slot(), task.clone()));
                } else if task.owner.is_none() && pool.exclusive {
                    let its = cpus.get(&task.pid).unwrap_or(list.name.cpus());
                    if let Some(what) = self.seeming(task.pid, its, judge.records())? {
                        found.nameless.push(Nameless { slot: slot(), pid: task.pid, what });
                    }
                }
            }
        }
        Ok(())
    }

    /// What a process seems to be that is in lists of these CPUs; none where it has ended.
    fn seeming(
        &self,
        pid: Pid,
        cpus: &CpuSet,
        records: &[Allocation],
    ) -> Result<Option<Seeming>, Error> {
        if let Some((mark, _)) = self.mark_of(pid)?
            && mark.cpus == *cpus
            && records.iter().all(|record| record.owner != mark.owner)
        {
            return Ok(Some(Seeming::Lost(mark.owner)));
        }
        let Some(seen) = self.seen(pid, None)? else { return Ok(None) };
        let actual = seen.all();
        let is_bound = actual.is_subset(cpus) && !is_kernel_thread(&self.procfs, pid)?;
        Ok(Some(if is_bound { Seeming::Bound } else { Seeming::Elsewhere(actual) }))
    }
}
