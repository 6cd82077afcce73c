//! The planner on a directory in memory: what `Node` does, with the changes of a plan applied one
//! by one until the writer is killed.

use std::collections::{BTreeMap, BTreeSet};

use kcm_core::allocation::Allocation;
use kcm_core::plan::Change;
use kcm_core::plan::allocate::{Nodes, Taken, at_a_glance, choose, take};
use kcm_core::plan::reconcile::{Reclaim, mend, reclaim};
use kcm_core::plan::release::release;
use kcm_core::pool::{CpuList, Pool};
use kcm_core::request::Request;
use kcm_core::task::{Glance, Judged, Life, Process, Task, TasksFile};

use crate::{Harm, LISTS, Subject, request};

#[derive(Clone, Debug)]
pub(crate) struct Planner {
    tasks: BTreeMap<String, TasksFile>,
    records: BTreeMap<String, Allocation>,
    indexes: BTreeMap<String, Allocation>,
    live: BTreeMap<i32, u64>,
    boot: usize,
    /// The boot of the last writer.
    written: usize,
    /// Who came to its CPUs.
    bound: BTreeSet<String>,
    /// How many more changes the writer makes before it is killed.
    left: Option<usize>,
}

/// The writer was killed, or refused.
struct Ended;

impl Default for Planner {
    fn default() -> Self {
        let free = || TasksFile::Pids(Vec::new());
        let tasks = LISTS.iter().map(|list| (list.to_string(), free())).collect();
        Self {
            tasks,
            records: BTreeMap::new(),
            indexes: BTreeMap::new(),
            live: BTreeMap::new(),
            boot: 0,
            written: 0,
            bound: BTreeSet::new(),
            left: None,
        }
    }
}

impl Planner {
    fn apply(&mut self, changes: &[Change]) -> Result<(), Ended> {
        for change in changes {
            match &mut self.left {
                Some(0) => return Err(Ended),
                Some(left) => *left -= 1,
                None => {}
            }
            match change.clone() {
                Change::PutRecord(record) => {
                    self.records.insert(record.owner.to_string(), *record);
                }
                Change::Index(slot, owner) => {
                    self.indexes.insert(slot.list, self.records[owner.as_ref()].clone());
                }
                Change::SetTasks(slot, pids) => {
                    self.tasks.insert(slot.list, TasksFile::Pids(pids));
                }
                Change::RemoveIndex(slot, owner) => {
                    if self.indexes.get(&slot.list).is_some_and(|index| index.owner == owner) {
                        self.indexes.remove(&slot.list);
                    }
                }
                Change::RemoveRecord(owner) => {
                    self.records.remove(owner.as_ref());
                }
                Change::SetAside(slot) => {
                    self.tasks.insert(slot.list, TasksFile::Blank);
                }
                Change::Restore(..) | Change::ClearIndex(_) => panic!("a reconcile's: {change:?}"),
            }
        }
        // Killed after the last change: its caller does not know of it.
        if self.left == Some(0) { Err(Ended) } else { Ok(()) }
    }

    fn is_alive(&self, record: &Allocation) -> bool {
        let Process { pid, start_time, boot_id } = &record.process;
        self.live.get(&pid.as_raw()).copied() == *start_time
            && *boot_id == crate::boot_id(self.boot)
    }

    fn life(&self, record: &Allocation) -> Life {
        match self.is_alive(record) {
            false => Life::Dead,
            true if self.bound.contains(record.owner.as_ref()) => Life::Alive,
            true => Life::NeverBound,
        }
    }

    fn glance(&self) -> Pool<Glance> {
        let lists = self.tasks.iter().map(|(name, file)| {
            let is_empty = *file == TasksFile::Pids(Vec::new());
            let tasks = if is_empty { Glance::Empty } else { Glance::Unread };
            CpuList { name: name.parse().unwrap(), tasks }
        });
        Pool::new("p".parse().unwrap(), true, lists.collect())
    }

    fn judged(&self) -> Pool<Judged> {
        let lists = self.tasks.iter().map(|(name, file)| {
            let tasks = self.holders(name, file);
            CpuList { name: name.parse().unwrap(), tasks: Judged { file: file.clone(), tasks } }
        });
        Pool::new("p".parse().unwrap(), true, lists.collect())
    }

    fn holders(&self, list: &str, file: &TasksFile) -> Vec<Task> {
        let pool = "p".parse().unwrap();
        let index = self.indexes.get(list);
        let lost = index.filter(|index| self.records.get(index.owner.as_ref()) != Some(index));
        let records: Vec<&Allocation> =
            self.records.values().chain(lost).filter(|record| record.names(&pool, list)).collect();
        let pids = match file {
            TasksFile::Pids(pids) => &pids[..],
            _ => &[],
        };
        let is_of_before = self.written != self.boot && index.is_some();
        let mut tasks = Vec::new();
        for &pid in pids {
            let its = records.iter().filter(|record| record.process.pid == pid);
            let task = match its.max_by_key(|record| self.is_alive(record)) {
                Some(record) => {
                    let life = if self.is_alive(record) { Life::Alive } else { Life::Dead };
                    Task { pid, owner: Some(record.owner.clone()), life, is_written: true }
                }
                None => {
                    let alive = !is_of_before && self.live.contains_key(&pid.as_raw());
                    let life = if alive { Life::Alive } else { Life::Dead };
                    Task { pid, owner: None, life, is_written: true }
                }
            };
            tasks.push(task);
        }
        let unwritten = records.iter().filter(|record| !pids.contains(&record.process.pid));
        tasks.extend(unwritten.map(|record| Task {
            pid: record.process.pid,
            owner: Some(record.owner.clone()),
            life: self.life(record),
            is_written: false,
        }));
        tasks
    }

    fn free(&mut self, record: &Allocation) -> Result<(), Ended> {
        let lists = record.lists.iter().map(|list| match &self.tasks[list.as_str()] {
            TasksFile::Pids(pids) => Some(pids.clone()),
            _ => None,
        });
        let tasks: Vec<_> = lists.collect();
        let others: Vec<Allocation> = match self.live.get(&record.process.pid.as_raw()) {
            Some(_) => self.records.values().cloned().collect(),
            None => Vec::new(),
        };
        self.apply(&release(record, &tasks, &others))
    }

    fn enter_boot(&mut self) -> Result<(), Ended> {
        if self.written != self.boot {
            let Reclaim { changes, .. } = reclaim(self.judged());
            self.apply(&changes)?;
            self.written = self.boot;
        }
        Ok(())
    }

    fn try_allocate(&mut self, request: &Request) -> Result<Vec<String>, Ended> {
        self.enter_boot()?;
        if let Some(record) = self.records.get(request.owner.as_ref()).cloned() {
            self.free(&record)?;
        }
        let nodes: Nodes = [(0, "0-7".parse().unwrap()), (1, "8-15".parse().unwrap())].into();
        let glance = self.glance();
        let chosen = at_a_glance(&glance, request, &nodes).map_err(|_| Ended)?;
        let chosen = chosen.filter(|lists| {
            lists.iter().all(|&i| !self.indexes.contains_key(glance.lists[i].name.as_str()))
        });
        let (lists, mut changes): (Vec<Taken>, _) = match chosen {
            Some(chosen) => {
                let lists = chosen.iter().map(|&i| (glance.lists[i].name.clone(), Vec::new()));
                (lists.collect(), Vec::new())
            }
            None => {
                let Reclaim { pool, changes, .. } = reclaim(self.judged());
                let chosen = choose(&pool, request, &nodes).map_err(|_| Ended)?;
                let lists = chosen.iter().map(|&i| &pool.lists[i]);
                (lists.map(|list| (list.name.clone(), list.tasks.living())).collect(), changes)
            }
        };
        let (allocation, taking) = take(&request.pool, true, &lists, request, None, String::new());
        changes.extend(taking);
        self.apply(&changes)?;
        self.bound.insert(allocation.owner.to_string());
        Ok(allocation.lists.iter().map(ToString::to_string).collect())
    }
}

impl Subject for Planner {
    fn allocate(&mut self, request: &Request, killed_after: Option<usize>) -> Option<Vec<String>> {
        self.bound.remove(request.owner.as_ref());
        self.left = killed_after;
        self.try_allocate(request).ok()
    }

    fn release(&mut self, owner: &str, killed_after: Option<usize>) {
        self.left = killed_after;
        if let Some(record) = self.records.get(owner).cloned()
            && !self.is_alive(&record)
        {
            let _ = self.free(&record);
        }
    }

    fn live(&mut self, live: &BTreeMap<i32, u64>) {
        self.live = live.clone();
    }

    fn harm(&mut self, list: &str, harm: Harm) {
        let file = match harm {
            Harm::Emptied => TasksFile::Pids(Vec::new()),
            Harm::Removed | Harm::Blanked => TasksFile::Blank,
            Harm::Garbled => TasksFile::Damaged { cause: "x".into(), pids: Vec::new() },
        };
        self.tasks.insert(list.to_owned(), file);
    }

    fn lose_record(&mut self, owner: &str) {
        self.records.remove(owner);
    }

    fn reconcile(&mut self) {
        self.left = None;
        let Reclaim { pool, changes, .. } = reclaim(self.judged());
        let _ = self.apply(&changes);
        let _ = self.apply(&mend(&pool).0);
        self.written = self.boot;
        // What `Node` does for records and indexes.
        for list in &pool.lists {
            let name = list.name.as_str();
            let mut live = list.tasks.tasks.iter().filter(|task| task.is_alive());
            match live.find_map(|task| task.owner.clone()) {
                None => drop(self.indexes.remove(name)),
                Some(owner) => {
                    let lost = self.indexes.get(name).filter(|index| index.owner == owner);
                    let record = self.records.get(owner.as_ref()).or(lost).unwrap().clone();
                    self.indexes.insert(name.to_owned(), record.clone());
                    self.records.insert(owner.to_string(), record);
                }
            }
        }
    }

    fn power_cut(&mut self, blank_tasks: bool, blank_records: bool, boot: usize) {
        self.boot = boot;
        let written = |file: &TasksFile| *file != TasksFile::Pids(Vec::new());
        if blank_tasks {
            let blanked = self.tasks.values_mut().filter(|file| written(file));
            blanked.for_each(|file| *file = TasksFile::Blank);
        }
        if blank_records {
            // Unreadable, so absent; an index is there, and says nothing.
            self.records.clear();
            let nobody = |index: &mut Allocation| index.process.boot_id = String::new();
            self.indexes.values_mut().for_each(nobody);
        }
    }

    fn look(&self) -> String {
        format!("{self:?}")
    }

    fn could_have(&mut self, cores: usize) -> bool {
        let mut copy = self.clone();
        copy.live.insert(99, 0);
        copy.allocate(&request("another", 99, 0, cores, self.boot), None).is_some()
    }
}
