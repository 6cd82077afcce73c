//! Who holds the lists of a pool: what each `tasks` says, and what the records say.

use std::cell::{Cell, OnceCell};
use std::collections::HashSet;
use std::collections::hash_map::{Entry, HashMap};

use super::Error;
use super::judge::Judge;
use crate::allocation::{Allocation, Owner};
use crate::host::own_cgroup;
use crate::notice::Notice;
use crate::plan::Slot;
use crate::plan::reconcile::{Forgotten, Reclaimed};
use crate::pool::{CpuList, Pool, PoolName};
use crate::state::{Index, Records};
use crate::task::{Glance, Judged, Life, Pid, Task, TasksFile};

/// After so many PIDs without a record, all of the host's are listed once.
const MANY: usize = 64;

/// Judges whole pools, since it has all records before it. Each record is judged once.
pub(super) struct PoolJudge<'a> {
    pub(super) judge: Judge<'a>,
    records: Records,
    /// Which of the records are of a pool.
    by_pool: HashMap<PoolName, Vec<usize>>,
    alive: Vec<OnceCell<bool>>,
    lives: Vec<OnceCell<Life>>,
    /// How many PIDs without a record were looked at.
    looked_at: Cell<usize>,
    living_pids: OnceCell<HashSet<Pid>>,
    /// Whether this is the first writer of its boot.
    first_of_boot: bool,
}

impl<'a> PoolJudge<'a> {
    pub(super) fn new(judge: Judge<'a>, records: Records) -> Self {
        let mut by_pool: HashMap<PoolName, Vec<usize>> = HashMap::new();
        for (i, record) in records.readable.iter().enumerate() {
            match by_pool.get_mut(&record.pool) {
                Some(of_pool) => of_pool.push(i),
                None => drop(by_pool.insert(record.pool.clone(), vec![i])),
            }
        }
        let alive = records.readable.iter().map(|_| OnceCell::new()).collect();
        let lives = records.readable.iter().map(|_| OnceCell::new()).collect();
        let (living_pids, first_of_boot) = (OnceCell::new(), false);
        Self {
            judge,
            records,
            by_pool,
            alive,
            lives,
            looked_at: Cell::new(0),
            living_pids,
            first_of_boot,
        }
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

    /// Gives back the CPUs that the dead had for themselves alone, and removes the empty cgroups that
    /// dead isolates have left.
    pub(super) fn clean_up(
        &self,
        reclaimed: &[Reclaimed],
        forgotten: &[Forgotten],
        notices: &mut Vec<Notice>,
    ) {
        let Some(hierarchy) = &self.judge.node.hierarchy else { return };
        let owners = reclaimed.iter().filter_map(|reclaimed| reclaimed.owner.as_ref());
        let owners: HashSet<&Owner> = owners.chain(forgotten.iter().map(|f| &f.owner)).collect();
        for record in self.records.readable.iter().filter(|r| owners.contains(&r.owner)) {
            self.judge.node.give_partition_back(record, notices);
            if record.is_isolates() {
                record.cgroup.iter().for_each(|left| own_cgroup::remove_if_left(hierarchy, left));
            }
        }
    }

    /// Reads and judges every list of a pool.
    pub(super) fn pool(&self, pool: Pool<Glance>) -> Result<Pool<Judged>, Error> {
        let Pool { name, exclusive, lists } = pool;
        let mut records: HashMap<&str, Vec<usize>> =
            lists.iter().map(|list| (list.name.as_str(), Vec::new())).collect();
        for &i in self.by_pool.get(&name).map_or(&[][..], Vec::as_slice) {
            for list in &self.records.readable[i].lists {
                if let Some(records) = records.get_mut(list.as_str()) {
                    records.push(i);
                }
            }
        }
        let judged = lists.iter().map(|list| {
            let slot = Slot::new(&name, &list.name);
            self.list(&slot, exclusive, &records[list.name.as_str()])
        });
        let judged: Vec<Judged> = judged.collect::<Result<_, Error>>()?;
        let lists = lists.into_iter().zip(judged);
        let lists = lists.map(|(list, tasks)| CpuList { name: list.name, tasks }).collect();
        Ok(Pool { lists, name, exclusive })
    }

    /// One list, which these records name.
    fn list(&self, slot: &Slot, exclusive: bool, records: &[usize]) -> Result<Judged, Error> {
        let file = self.judge.state.tasks_file(slot, exclusive)?.unwrap_or(TasksFile::Blank);
        let (pids, is_damaged) = match &file {
            TasksFile::Pids(pids) => (&pids[..], false),
            TasksFile::Damaged { pids, .. } => (&pids[..], true),
            TasksFile::Blank => (&[][..], false),
        };
        let written: HashSet<Pid> = pids.iter().copied().collect();
        let mut by_record: HashMap<Pid, Task> = HashMap::new();
        let mut unwritten = Vec::new();
        for &i in records {
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
            let is_known = self.records.of(&record.owner).is_some();
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
        let mut tasks = Vec::with_capacity(pids.len() + unwritten.len());
        for &pid in pids {
            let task = match by_record.remove(&pid) {
                Some(task) => task,
                None => {
                    let alive = !is_of_before && self.exists(pid)?;
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
        if let Some(&life) = self.lives[i].get() {
            return Ok(life);
        }
        let life = match self.is_alive(i)? {
            true => self.judge.life(&self.records.readable[i])?,
            false => Life::Dead,
        };
        Ok(*self.lives[i].get_or_init(|| life))
    }

    /// Whether a PID without a record (the original kcm's, or somebody's hand) is any process's.
    fn exists(&self, pid: Pid) -> Result<bool, Error> {
        let procfs = &self.judge.node.procfs;
        if self.looked_at.get() < MANY {
            self.looked_at.set(self.looked_at.get() + 1);
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
