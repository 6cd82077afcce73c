//! Reading the configuration directory.

use std::rc::Rc;
use std::time::SystemTime;

use super::dir::Dir;
use super::error::Error;
use crate::allocation::{Allocation, Owner};
use crate::pool::{CpuList, CpuListName, Pool, PoolName};
use crate::task::{Pid, Tasks, parse_tasks};

pub(super) const POOLS: &str = "pools";
pub(super) const ALLOCATIONS: &str = "allocations";
pub(super) const TASKS: &str = "tasks";
pub(super) const EXCLUSIVE: &str = "exclusive";
const MEMS: &str = "mems";
pub(super) const RECORD_SUFFIX: &str = ".json";

/// Room for 100,000 PIDs; a larger `tasks` file is none of kcm's.
const TASKS_LIMIT: u64 = 1 << 20;
const RECORD_LIMIT: u64 = 1 << 16;
const FLAG_LIMIT: u64 = 1 << 12;

/// The configuration directory, open for reading.
#[derive(Debug)]
pub struct Contents {
    pub(super) dir: Dir,
    pub(super) pools: Dir,
    /// None where nothing was ever allocated.
    pub(super) allocations: Option<Rc<Dir>>,
}

/// One pool as it lies on disk.
#[derive(Debug)]
pub struct Listing {
    /// The pool; each list's tasks are [`Tasks::Empty`] or [`Tasks::Unread`].
    pub pool: Pool,
    /// What it says of its containers' memory.
    pub memory: Memory,
    /// What is in the pool's folder and is no CPU list.
    pub odd: Vec<Error>,
}

/// All allocation records.
#[derive(Debug, Default)]
pub struct Records {
    /// Those that can be read, by owner.
    pub readable: Vec<Allocation>,
    /// The others: whose each would be, and why it cannot be read.
    pub unreadable: Vec<(Owner, Error)>,
}

/// What a pool says of the memory of its containers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Memory {
    /// Left as it is.
    AsItIs,
    /// Bound to the NUMA nodes of the allocated CPUs.
    Local,
}

impl Contents {
    pub(super) fn new(dir: Dir) -> Result<Self, Error> {
        let Some(pools) = dir.dir(POOLS)? else {
            return Err(Error::NotInitialised { path: dir.path().to_owned() });
        };
        let allocations = dir.dir(ALLOCATIONS)?.map(Rc::new);
        Ok(Self { dir, pools, allocations })
    }

    /// The names of all pools, sorted.
    pub fn pool_names(&self) -> Result<Vec<PoolName>, Error> {
        let entries = self.pools.entries()?.into_iter();
        let mut names: Vec<PoolName> =
            entries.filter(|e| e.is_dir).filter_map(|e| e.name.parse().ok()).collect();
        names.sort();
        Ok(names)
    }

    /// What is among the pools and is none.
    pub fn odd(&self) -> Result<Vec<Error>, Error> {
        let odd = self.pools.entries()?.into_iter().filter_map(|entry| {
            let cause = match entry.name.parse::<PoolName>() {
                Ok(_) if entry.is_dir => return None,
                Ok(_) => "no folder, so no pool (a symbolic link is not followed)".into(),
                Err(e) => e.to_string(),
            };
            Some(Error::Malformed { path: self.pools.child(&entry.name), cause })
        });
        Ok(odd.collect())
    }

    /// One pool, without looking into its `tasks` files: one `fstatat(2)` a list.
    pub fn pool(&self, name: &PoolName) -> Result<Listing, Error> {
        let Some(dir) = self.pools.dir(name.as_ref())? else {
            return Err(Error::UnknownPool { name: name.clone(), known: self.pool_names()? });
        };
        let exclusive = dir.read(EXCLUSIVE, FLAG_LIMIT)?.is_some_and(|c| c.text.starts_with('1'));
        let (mut lists, mut odd) = (Vec::new(), Vec::new());
        let mut memory = Memory::AsItIs;
        for entry in dir.entries()? {
            match entry.name.as_str() {
                EXCLUSIVE => continue,
                MEMS => {
                    memory = read_memory(&dir)?;
                    continue;
                }
                _ => {}
            }
            if !entry.is_dir {
                odd.push(Error::Malformed {
                    path: dir.child(&entry.name),
                    cause: "neither a CPU list's folder nor a file that kcm knows".into(),
                });
                continue;
            }
            match entry.name.parse::<CpuListName>() {
                Ok(list) => lists.push(CpuList { tasks: peek(&dir, &entry.name), name: list }),
                Err(e) => {
                    let path = dir.child(&entry.name);
                    odd.push(Error::Malformed { path, cause: e.to_string() });
                }
            }
        }
        Ok(Listing { pool: Pool::new(name.clone(), exclusive, lists), memory, odd })
    }

    /// The PIDs in a list's `tasks` and when that was last written; none where the list is gone.
    pub fn tasks(
        &self,
        pool: &PoolName,
        list: &str,
    ) -> Result<Option<(Vec<Pid>, SystemTime)>, Error> {
        let Some(pool_dir) = self.pools.dir(pool.as_ref())? else { return Ok(None) };
        let Some(dir) = pool_dir.dir(list)? else { return Ok(None) };
        let Some(content) = dir.read(TASKS, TASKS_LIMIT)? else {
            return Ok(Some((Vec::new(), SystemTime::now())));
        };
        let pids = parse_tasks(&content.text)
            .map_err(|e| Error::Malformed { path: dir.child(TASKS), cause: e.to_string() })?;
        Ok(Some((pids, content.modified)))
    }

    /// The owner's record; none where there is none.
    pub fn record(&self, owner: &Owner) -> Result<Option<Allocation>, Error> {
        match &self.allocations {
            Some(dir) => read_record(dir, owner),
            None => Ok(None),
        }
    }

    /// Whether any process that inherited the owner's record lives: `isolate`'s own or a descendant
    /// of it.
    pub fn is_held(&self, owner: &Owner) -> Result<bool, Error> {
        match &self.allocations {
            Some(dir) => dir.is_write_locked(&record_name(owner)),
            None => Ok(false),
        }
    }

    /// All records.
    pub fn records(&self) -> Result<Records, Error> {
        let mut records = Records::default();
        let Some(dir) = &self.allocations else { return Ok(records) };
        for entry in dir.entries()? {
            let owner = entry.name.strip_suffix(RECORD_SUFFIX).and_then(|name| name.parse().ok());
            let Some(owner) = owner else { continue };
            match read_record(dir, &owner) {
                Ok(record) => records.readable.extend(record),
                Err(error) => records.unreadable.push((owner, error)),
            }
        }
        records.readable.sort_by(|a, b| a.owner.cmp(&b.owner));
        Ok(records)
    }
}

fn read_memory(pool: &Dir) -> Result<Memory, Error> {
    match pool.read(MEMS, FLAG_LIMIT)? {
        Some(content) if content.text.trim() == "local" => Ok(Memory::Local),
        Some(content) if !content.text.trim().is_empty() => Err(Error::Malformed {
            path: pool.child(MEMS),
            cause: "the one word that it may hold is: local".into(),
        }),
        _ => Ok(Memory::AsItIs),
    }
}

fn peek(pool: &Dir, list: &str) -> Tasks {
    match pool.size(&format!("{list}/{TASKS}")) {
        Ok(0) => Tasks::Empty,
        Ok(_) => Tasks::Unread,
        Err(error) => Tasks::Malformed(error.to_string()),
    }
}

fn read_record(dir: &Dir, owner: &Owner) -> Result<Option<Allocation>, Error> {
    let name = record_name(owner);
    let Some(content) = dir.read(&name, RECORD_LIMIT)? else { return Ok(None) };
    let malformed = |cause: String| Error::Malformed { path: dir.child(&name), cause };
    let record = Allocation::from_json(&content.text).map_err(|e| malformed(e.to_string()))?;
    if record.owner != *owner {
        return Err(malformed(format!("it says that its owner is {}", record.owner)));
    }
    Ok(Some(record))
}

pub(super) fn record_name(owner: &Owner) -> String {
    format!("{owner}{RECORD_SUFFIX}")
}
