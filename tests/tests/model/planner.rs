//! The planner on a directory in memory: what `Node` does, with the changes of a plan applied one
//! by one until the writer is killed.

use std::collections::BTreeMap;

use kcm_core::allocation::Allocation;
use kcm_core::plan::Change;
use kcm_core::plan::allocate::{Choice, Nodes, choose, take};
use kcm_core::plan::reconcile::reclaim;
use kcm_core::plan::release::release;
use kcm_core::pool::{CpuList, Pool};
use kcm_core::request::Request;
use kcm_core::task::{Pid, Process, Task, Tasks};

use crate::{LISTS, Subject, request};

#[derive(Clone, Debug)]
pub(crate) struct Planner {
    tasks: BTreeMap<String, Vec<Pid>>,
    records: BTreeMap<String, Allocation>,
    live: BTreeMap<i32, u64>,
    /// How many more changes the writer makes before it is killed.
    left: Option<usize>,
}

/// The writer was killed, or refused.
struct Ended;

impl Default for Planner {
    fn default() -> Self {
        let tasks = LISTS.iter().map(|list| (list.to_string(), Vec::new())).collect();
        Self { tasks, records: BTreeMap::new(), live: BTreeMap::new(), left: None }
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
                Change::SetTasks { list, pids, .. } => {
                    self.tasks.insert(list, pids);
                }
                Change::RemoveRecord(owner) => {
                    self.records.remove(owner.as_ref());
                }
            }
        }
        // Killed after the last change: its caller does not know of it.
        if self.left == Some(0) { Err(Ended) } else { Ok(()) }
    }

    fn is_alive(&self, process: &Process) -> bool {
        self.live.get(&process.pid.as_raw()).copied() == process.start_time
    }

    fn pool(&self, judge: bool) -> Pool {
        let lists = self.tasks.iter().map(|(name, pids)| {
            let tasks = match (pids.is_empty(), judge) {
                (true, _) => Tasks::Empty,
                (_, false) => Tasks::Unread,
                (_, true) => {
                    Tasks::Judged(pids.iter().map(|&pid| self.judged(name, pid)).collect())
                }
            };
            CpuList { name: name.parse().unwrap(), tasks }
        });
        Pool::new("p".parse().unwrap(), true, lists.collect())
    }

    fn judged(&self, list: &str, pid: Pid) -> Task {
        let pool = "p".parse().unwrap();
        let mut its: Vec<&Allocation> =
            self.records.values().filter(|record| record.holds(&pool, list, pid)).collect();
        its.sort_by_key(|record| self.is_alive(&record.process));
        match its.last() {
            Some(record) => {
                let alive = self.is_alive(&record.process);
                Task { pid, owner: Some(record.owner.clone()), alive }
            }
            None => Task { pid, owner: None, alive: self.live.contains_key(&pid.as_raw()) },
        }
    }

    fn free(&mut self, record: &Allocation) -> Result<(), Ended> {
        let lists = record.lists.iter();
        let tasks: Vec<_> = lists.map(|list| self.tasks.get(list.as_str()).cloned()).collect();
        let others: Vec<Allocation> = match self.live.get(&record.process.pid.as_raw()) {
            Some(_) => self.records.values().cloned().collect(),
            None => Vec::new(),
        };
        self.apply(&release(record, &tasks, &others))
    }

    fn try_allocate(&mut self, request: &Request) -> Result<Vec<String>, Ended> {
        if let Some(record) = self.records.get(request.owner.as_ref()).cloned() {
            self.free(&record)?;
        }
        let nodes: Nodes = [(0, "0-7".parse().unwrap()), (1, "8-15".parse().unwrap())].into();
        let (mut pool, mut changes) = (self.pool(false), Vec::new());
        let mut choice = choose(&pool, request, &nodes).map_err(|_| Ended)?;
        if choice == Choice::LookCloser {
            (pool, changes, _) = reclaim(self.pool(true));
            choice = choose(&pool, request, &nodes).map_err(|_| Ended)?;
        }
        let Choice::Take(chosen) = choice else { panic!("everything was looked into") };
        let (allocation, taking) = take(&pool, &chosen, request, String::new());
        changes.extend(taking);
        self.apply(&changes)?;
        Ok(allocation.lists.iter().map(ToString::to_string).collect())
    }
}

impl Subject for Planner {
    fn allocate(&mut self, request: &Request, killed_after: Option<usize>) -> Option<Vec<String>> {
        self.left = killed_after;
        self.try_allocate(request).ok()
    }

    fn release(&mut self, owner: &str, killed_after: Option<usize>) {
        self.left = killed_after;
        if let Some(record) = self.records.get(owner).cloned()
            && !self.is_alive(&record.process)
        {
            let _ = self.free(&record);
        }
    }

    fn live(&mut self, live: &BTreeMap<i32, u64>) {
        self.live = live.clone();
    }

    fn tasks(&self) -> BTreeMap<String, Vec<i32>> {
        let raw = |pids: &Vec<Pid>| pids.iter().map(|pid| pid.as_raw()).collect();
        self.tasks.iter().map(|(list, pids)| (list.clone(), raw(pids))).collect()
    }

    fn could_have(&mut self, cores: usize) -> bool {
        let mut copy = self.clone();
        copy.live.insert(99, 0);
        copy.allocate(&request("another", 99, 0, cores), None).is_some()
    }
}
