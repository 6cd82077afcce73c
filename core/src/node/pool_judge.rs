//! Who holds the lists of a pool: what each `tasks` says, and what the records say.

use std::cell::OnceCell;
use std::collections::HashSet;
use std::collections::hash_map::{Entry, HashMap};

use super::Error;
use super::judge::Judge;
use crate::allocation::{Allocation, Owner};
use crate::host::own_cgroup;
use crate::plan::Slot;
use crate::plan::reconcile::{Forgotten, Reclaimed};
use crate::pool::{CpuList, Pool};
use crate::state::{Index, Records};
use crate::task::{Glance, Judged, Life, Pid, Task, TasksFile};

/// From so many PIDs without a record on, all of the host's are listed once.
const MANY: usize = 64;

/// Judges whole pools, since it has all records before it. Each record is judged once.
pub(super) struct PoolJudge<'a> {
    pub(super) judge: Judge<'a>,
    records: Records,
    owners: HashSet<Owner>,
    /// Which of the records name a list.
    by_slot: HashMap<Slot, Vec<usize>>,
    alive: Vec<OnceCell<bool>>,
    living_pids: OnceCell<HashSet<Pid>>,
    /// Whether this is the first writer of its boot.
    first_of_boot: bool,
}

impl<'a> PoolJudge<'a> {
    pub(super) fn new(judge: Judge<'a>, records: Records) -> Self {
        let mut by_slot: HashMap<Slot, Vec<usize>> = HashMap::new();
        for (i, record) in records.readable.iter().enumerate() {
            for list in &record.lists {
                by_slot.entry(Slot::new(&record.pool, list)).or_default().push(i);
            }
        }
        let owners = records.readable.iter().map(|record| record.owner.clone()).collect();
        let alive = records.readable.iter().map(|_| OnceCell::new()).collect();
        let (living_pids, first_of_boot) = (OnceCell::new(), false);
        Self { judge, records, owners, by_slot, alive, living_pids, first_of_boot }
    }

    /// Before anybody else has written in this boot: a PID in the `tasks` of a list that kcm gave
    /// away is of an earlier boot then, unless a record says otherwise.
    pub(super) fn first_of_boot(self, first_of_boot: bool) -> Self {
        Self { first_of_boot, ..self }
    }

    /// All records that could be read.
    pub(super) fn records(&self) -> &[Allocation] {
        &self.records.readable
    }

    /// Removes the empty cgroups that dead isolates have left.
    pub(super) fn remove_cgroups(&self, reclaimed: &[Reclaimed], forgotten: &[Forgotten]) {
        let Some(hierarchy) = &self.judge.node.hierarchy else { return };
        let owners = reclaimed.iter().filter_map(|reclaimed| reclaimed.owner.as_ref());
        let owners: HashSet<&Owner> = owners.chain(forgotten.iter().map(|f| &f.owner)).collect();
        let records = self.records.readable.iter();
        for record in records.filter(|r| r.is_isolates() && owners.contains(&r.owner)) {
            record.cgroup.iter().for_each(|left| own_cgroup::remove_if_left(hierarchy, left));
        }
    }

    /// Reads and judges every list of a pool.
    pub(super) fn pool(&self, pool: Pool<Glance>) -> Result<Pool<Judged>, Error> {
        let Pool { name, exclusive, lists } = pool;
        let lists = lists.into_iter().map(|list| {
            let tasks = self.list(&Slot::new(&name, &list.name), exclusive)?;
            Ok(CpuList { name: list.name, tasks })
        });
        Ok(Pool { lists: lists.collect::<Result<_, Error>>()?, name, exclusive })
    }

    fn list(&self, slot: &Slot, exclusive: bool) -> Result<Judged, Error> {
        let file = self.judge.state.tasks_file(slot)?.unwrap_or(TasksFile::Blank);
        let (pids, is_damaged) = match &file {
            TasksFile::Pids(pids) => (&pids[..], false),
            TasksFile::Damaged { pids, .. } => (&pids[..], true),
            TasksFile::Blank => (&[][..], false),
        };
        let written: HashSet<Pid> = pids.iter().copied().collect();
        let mut by_record: HashMap<Pid, Task> = HashMap::new();
        let mut unwritten = Vec::new();
        for &i in self.by_slot.get(slot).map_or(&[][..], Vec::as_slice) {
            let record = &self.records.readable[i];
            let pid = record.process.pid;
            if !written.contains(&pid) {
                unwritten.push(task(record, self.life(i)?, false));
                continue;
            }
            let life = if self.is_alive(i)? { Life::Alive } else { Life::Dead };
            // Of several that had this PID, one may live.
            if life == Life::Alive || !by_record.contains_key(&pid) {
                by_record.insert(pid, task(record, life, true));
            }
        }
        let index = match exclusive {
            true => self.judge.state.index(slot, &self.records)?,
            false => Index::None,
        };
        // Its record was taken away, and only its index is left.
        if let Index::Other(record) = &index
            && record.names(&slot.pool, &slot.list)
        {
            let pid = record.process.pid;
            // Its owner may have another record by now, which stays.
            let is_known = self.owners.contains(&record.owner);
            let nameless = |task: Task| Task { owner: task.owner.filter(|_| !is_known), ..task };
            if !written.contains(&pid) {
                unwritten.push(nameless(task(record, self.judge.life(record)?, false)));
            } else if let Entry::Vacant(vacant) = by_record.entry(pid) {
                let alive = self.judge.is_alive(record)?;
                let life = if alive { Life::Alive } else { Life::Dead };
                vacant.insert(nameless(task(record, life, true)));
            }
        }
        let is_of_before = self.first_of_boot
            && (!matches!(index, Index::None) || self.judge.state.is_as_allocated(slot)?);
        let many = pids.len() > MANY;
        let mut tasks = Vec::with_capacity(pids.len() + unwritten.len());
        for &pid in pids {
            let task = match by_record.remove(&pid) {
                Some(task) => task,
                None => {
                    let alive = !is_of_before && self.exists(pid, many)?;
                    let life = if alive { Life::Alive } else { Life::Dead };
                    Task { pid, owner: None, life, is_written: true }
                }
            };
            // Nothing is taken out of a damaged file: it is kept, and written anew.
            if task.is_alive() || !is_damaged {
                tasks.push(task);
            }
        }
        tasks.append(&mut unwritten);
        Ok(Judged { file, tasks })
    }

    fn is_alive(&self, i: usize) -> Result<bool, Error> {
        if let Some(&alive) = self.alive[i].get() {
            return Ok(alive);
        }
        let alive = self.judge.is_alive(&self.records.readable[i])?;
        Ok(*self.alive[i].get_or_init(|| alive))
    }

    fn life(&self, i: usize) -> Result<Life, Error> {
        match self.is_alive(i)? {
            true => self.judge.life(&self.records.readable[i]),
            false => Ok(Life::Dead),
        }
    }

    /// Whether a PID without a record (the original kcm's, or somebody's hand) is any process's.
    fn exists(&self, pid: Pid, many: bool) -> Result<bool, Error> {
        let procfs = &self.judge.node.procfs;
        if !many {
            return Ok(procfs.stat(pid)?.is_some());
        }
        if let Some(living) = self.living_pids.get() {
            return Ok(living.contains(&pid));
        }
        let living = procfs.pids()?;
        Ok(self.living_pids.get_or_init(|| living).contains(&pid))
    }
}

fn task(record: &Allocation, life: Life, is_written: bool) -> Task {
    let owner: Option<Owner> = Some(record.owner.clone());
    Task { pid: record.process.pid, owner, life, is_written }
}
