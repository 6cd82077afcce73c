//! Reading the configuration directory.

use std::cell::RefCell;
use std::io::ErrorKind;
use std::rc::Rc;
use std::time::{Duration, SystemTime};

use super::dir::{Dir, Plain};
use super::error::Error;
use super::records::{
    self, Index, Indexes, RECORD_FILE, RECORD_SUFFIX, Records, record_name, record_of,
};
use crate::allocation::{Allocation, Owner};
use crate::partition::{BadPolicy, Policy};
use crate::plan::Slot;
use crate::pool::{CpuList, CpuListName, Pool, PoolName};
use crate::task::{Glance, Pid, TasksFile, parse_tasks};

pub(super) const POOLS: &str = "pools";
pub(super) const ALLOCATIONS: &str = "allocations";
pub(super) const TASKS: &str = "tasks";
/// In an exclusive list's folder: a copy of the record of whoever was given the list last, so that
/// no harm to one file takes both. The original kcm looks at `tasks` alone.
pub(super) const INDEX: &str = "holder.json";
pub(super) const EXCLUSIVE: &str = "exclusive";
const MEMS: &str = "mems";
pub(super) const PARTITION: &str = "partition";
pub(super) const ASIDE_SUFFIX: &str = ".bad";
/// Whose target is the boot in which the directory was last written.
pub(super) const BOOT: &str = ".boot";

/// Room for 8,000 PIDs; a larger `tasks` file is none of kcm's.
pub(super) const TASKS_FILE: Plain = Plain {
    limit: 1 << 16,
    remedy: "run kcm reconcile, which keeps it as tasks.bad and writes tasks anew",
};
/// Of an exclusive list, which has one holder: room for 32 PIDs.
const EXCLUSIVE_TASKS_FILE: Plain = Plain { limit: 1 << 8, ..TASKS_FILE };
/// The time of change of a `tasks` that kcm has written, knowing whose it is, and nobody has changed
/// since, in seconds since 1970: no real one. The original and whoever else writes into the file set
/// another. It is in the file's own inode, so that no power cut keeps the one without the other.
const ALLOCATED: u64 = 0x006b_636d;
const EXCLUSIVE_FILE: Plain = Plain {
    limit: 1 << 12,
    remedy: "write 1 (each list has one owner) or 0 (shared) into it, as the pool was made",
};
const MEMS_FILE: Plain =
    Plain { limit: 1 << 12, remedy: "write the one word that it may hold (local), or remove it" };
const PARTITION_FILE: Plain = Plain {
    limit: 1 << 12,
    remedy: "write none, root, isolated or auto into it (and required after it, if a container is not \
             to start without), or remove it, which means auto",
};
const STRAY: &str = "move it elsewhere";

/// The configuration directory, open for reading.
#[derive(Debug)]
pub struct Contents {
    pub(super) dir: Dir,
    pub(super) pools: Dir,
    /// None where nothing was ever allocated.
    pub(super) allocations: Option<Rc<Dir>>,
    indexes: RefCell<Indexes>,
}

/// One pool as it lies on disk.
#[derive(Debug)]
pub struct Listing {
    /// The pool, at a glance.
    pub pool: Pool<Glance>,
    /// What it says of its containers' memory.
    pub memory: Memory,
    /// What it says of its containers' partitions; none where that cannot be understood, which is among
    /// what is odd.
    pub partition: Option<Policy>,
    /// What is in the pool's folder and is no CPU list.
    pub odd: Vec<Error>,
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
        Ok(Self { dir, pools, allocations, indexes: RefCell::default() })
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
            Some(Error::Malformed { path: self.pools.child(&entry.name), cause, remedy: STRAY })
        });
        Ok(odd.collect())
    }

    /// One pool, without looking into its `tasks` files: one `fstatat(2)` a list.
    pub fn pool(&self, name: &PoolName) -> Result<Listing, Error> {
        let dir = self.pool_dir(name)?;
        let exclusive = read_exclusive(&dir)?;
        let (mut lists, mut odd) = (Vec::new(), Vec::new());
        let mut memory = Memory::AsItIs;
        let mut partition = Some(Policy::default());
        for entry in dir.entries()? {
            match entry.name.as_str() {
                EXCLUSIVE => continue,
                MEMS => {
                    memory = read_memory(&dir)?;
                    continue;
                }
                PARTITION => {
                    // Who holds what does not depend on it: only what starts anew does.
                    partition = read_partition(&dir).map_err(|damage| odd.push(damage)).ok();
                    continue;
                }
                _ => {}
            }
            let malformed =
                |cause| Error::Malformed { path: dir.child(&entry.name), cause, remedy: STRAY };
            if !entry.is_dir {
                odd.push(malformed("neither a CPU list's folder nor a file that kcm knows".into()));
                continue;
            }
            match entry.name.parse::<CpuListName>() {
                Ok(list) => {
                    lists.push(CpuList { tasks: self.glance(&dir, &entry.name)?, name: list });
                }
                Err(e) => odd.push(malformed(e.to_string())),
            }
        }
        Ok(Listing { pool: Pool::new(name.clone(), exclusive, lists), memory, partition, odd })
    }

    /// What a pool says of its containers' partitions.
    pub fn partition(&self, name: &PoolName) -> Result<Policy, Error> {
        read_partition(&self.pool_dir(name)?)
    }

    pub(super) fn pool_dir(&self, name: &PoolName) -> Result<Dir, Error> {
        match self.pools.dir(name.as_ref())? {
            Some(dir) => Ok(dir),
            None => Err(Error::UnknownPool { name: name.clone(), known: self.pool_names()? }),
        }
    }

    /// What a list's `tasks` looks like from outside. One that is missing may tell that this is no
    /// directory of kcm's at all.
    fn glance(&self, pool: &Dir, list: &str) -> Result<Glance, Error> {
        let looked = pool.look(&format!("{list}/{TASKS}"))?;
        if looked.is_none() {
            self.is_no_cmk()?;
        }
        // Whoever else has emptied it may not know of a record that holds the list.
        let is_empty = looked.is_some_and(|looked| {
            looked.is_file && looked.size == 0 && looked.modified == ALLOCATED as i64
        });
        Ok(if is_empty { Glance::Empty } else { Glance::Unread })
    }

    /// An error if a folder in any list's place holds folders: CMK 1.1 and newer have a socket's
    /// there, of which one without cores is empty.
    fn is_no_cmk(&self) -> Result<(), Error> {
        for pool in self.pools.entries()?.into_iter().filter(|entry| entry.is_dir) {
            let Some(pool) = self.pools.dir(&pool.name)? else { continue };
            for list in pool.entries()?.into_iter().filter(|entry| entry.is_dir) {
                if pool.look(&format!("{}/{TASKS}", list.name))?.is_some() {
                    continue;
                }
                let Some(dir) = pool.dir(&list.name)? else { continue };
                // Not what was set aside of a file.
                let is_list = |name: &str| name.parse::<CpuListName>().is_ok();
                if dir.entries()?.iter().any(|entry| entry.is_dir && is_list(&entry.name)) {
                    return Err(Error::Cmk { path: pool.child(&list.name) });
                }
            }
        }
        Ok(())
    }

    /// A list's `tasks`; none where the list is gone.
    pub fn tasks_file(&self, slot: &Slot, exclusive: bool) -> Result<Option<TasksFile>, Error> {
        match self.read_tasks(slot, if exclusive { EXCLUSIVE_TASKS_FILE } else { TASKS_FILE }) {
            Ok(file) => Ok(file),
            Err(error) if error.is_content() => {
                Ok(Some(TasksFile::Damaged { cause: error.to_string(), pids: Vec::new() }))
            }
            Err(error) => Err(error),
        }
    }

    fn read_tasks(&self, slot: &Slot, plain: Plain) -> Result<Option<TasksFile>, Error> {
        let Some(dir) = self.list_dir(slot)? else { return Ok(None) };
        let Some(bytes) = dir.read(TASKS, plain)? else {
            return Ok(Some(TasksFile::Blank));
        };
        if !bytes.is_empty() && bytes.iter().all(|&byte| byte == 0) {
            return Ok(Some(TasksFile::Blank));
        }
        let text = String::from_utf8_lossy(&bytes);
        Ok(Some(match parse_tasks(&text) {
            Ok(pids) => TasksFile::Pids(pids),
            Err((bad, pids)) => {
                let error = Error::Malformed {
                    path: dir.child(TASKS),
                    cause: bad.to_string(),
                    remedy: TASKS_FILE.remedy,
                };
                TasksFile::Damaged { cause: error.to_string(), pids }
            }
        }))
    }

    pub(super) fn list_dir(&self, slot: &Slot) -> Result<Option<Dir>, Error> {
        // By one call: no link is followed in any part of a path.
        match self.pools.dir(&format!("{}/{}", slot.pool, slot.list)) {
            // Something else stands in its place.
            Err(Error::Io { cause, .. }) if cause.kind() == ErrorKind::NotADirectory => Ok(None),
            result => result,
        }
    }

    /// Whether a list has an index, whatever is in it.
    pub fn is_indexed(&self, slot: &Slot) -> Result<bool, Error> {
        let Some(pool) = self.pools.dir(slot.pool.as_ref())? else { return Ok(false) };
        Ok(pool.look(&format!("{}/{INDEX}", slot.list))?.is_some())
    }

    /// Whether a list's `tasks` is as an allocation has left it.
    pub fn is_as_allocated(&self, slot: &Slot) -> Result<bool, Error> {
        let Some(dir) = self.list_dir(slot)? else { return Ok(false) };
        Ok(dir.look(TASKS)?.is_some_and(|looked| looked.modified == ALLOCATED as i64))
    }

    /// What a list's index is.
    pub fn index(&self, slot: &Slot, known: &Records) -> Result<Index, Error> {
        let Some(dir) = self.list_dir(slot)? else { return Ok(Index::None) };
        let Some(identity) = dir.identity(INDEX)? else { return Ok(Index::None) };
        let mut indexes = self.indexes.borrow_mut();
        Ok(match indexes.read(&dir, identity)? {
            Some(record) if known.of(&record.owner) == Some(record) => {
                Index::Known(record.owner.clone())
            }
            Some(record) => Index::Other(Box::new(record.clone())),
            None => Index::Unreadable,
        })
    }

    /// The PIDs in a list's `tasks`, for whoever shows them; none where the list is gone. An error
    /// where it is damaged.
    pub fn tasks(&self, slot: &Slot) -> Result<Option<Vec<Pid>>, Error> {
        match self.read_tasks(slot, TASKS_FILE)? {
            None => Ok(None),
            Some(TasksFile::Blank) => Ok(Some(Vec::new())),
            Some(TasksFile::Pids(pids)) => Ok(Some(pids)),
            Some(TasksFile::Damaged { cause, .. }) => Err(Error::Damaged { cause }),
        }
    }

    /// Before anything is written: a file that is made may have the inode of one that is gone.
    pub(super) fn forget_indexes(&self) {
        self.indexes.take();
    }

    /// Whether the directory was written in this boot.
    pub fn is_of_boot(&self, boot_id: &str) -> Result<bool, Error> {
        let boot = self.allocations.as_ref().and_then(|dir| dir.read_link(BOOT));
        Ok(boot.as_deref() == Some(boot_id))
    }

    /// The owner's record; none where there is none.
    pub fn record(&self, owner: &Owner) -> Result<Option<Allocation>, Error> {
        match &self.allocations {
            Some(dir) => {
                let bytes = dir.read(&record_name(owner), RECORD_FILE)?;
                bytes.map(|bytes| record_of(dir, owner, &bytes)).transpose()
            }
            None => Ok(None),
        }
    }

    /// Whether any process lives that has the owner's record locked, or the copy of it that is the
    /// index of its lists: the hook while it is at work, or `isolate`'s own and all that it started.
    pub fn is_held(&self, record: &Allocation) -> Result<bool, Error> {
        let is_locked = |dir: &Dir, name: &str| match dir.is_write_locked(name, RECORD_FILE) {
            Err(error) if error.is_content() => Ok(false),
            result => result,
        };
        if let Some(dir) = &self.allocations
            && is_locked(dir, &record_name(&record.owner))?
        {
            return Ok(true);
        }
        for list in &record.lists {
            let list = self.list_dir(&Slot::new(&record.pool, list))?;
            if let Some(list) = list
                && is_locked(&list, INDEX)?
            {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// All records, those of 2 KiB and less first, as far as 768 KiB go: whoever may write the directory must
    /// not be able to stop the node by what it has to read.
    pub fn records(&self) -> Result<Records, Error> {
        self.allocations.as_deref().map_or_else(|| Ok(Records::default()), records::read)
    }

    /// Whose records were set aside.
    pub fn aside(&self) -> Result<Vec<String>, Error> {
        let Some(dir) = &self.allocations else { return Ok(Vec::new()) };
        let names = dir.entries()?.into_iter().map(|entry| entry.name);
        let mut names: Vec<String> = names
            .filter(|name| name.contains(ASIDE_SUFFIX) && !name.ends_with(RECORD_SUFFIX))
            .collect();
        names.sort();
        Ok(names)
    }
}

fn read_exclusive(pool: &Dir) -> Result<bool, Error> {
    let cause = match pool.read_text(EXCLUSIVE, EXCLUSIVE_FILE)? {
        Some(text) if text.starts_with('1') => return Ok(true),
        Some(text) if text.starts_with('0') => return Ok(false),
        Some(text) => {
            let text = crate::pool::shorten(text.trim_end());
            format!("it begins with neither 1 nor 0: {text:?}")
        }
        None => "it is missing, so nobody can tell whether the pool is exclusive".to_owned(),
    };
    let (path, remedy) = (pool.child(EXCLUSIVE), EXCLUSIVE_FILE.remedy);
    Err(Error::Malformed { path, cause, remedy })
}

fn read_memory(pool: &Dir) -> Result<Memory, Error> {
    match pool.read_text(MEMS, MEMS_FILE)? {
        Some(text) if text.trim() == "local" => Ok(Memory::Local),
        Some(text) if !text.trim().is_empty() => Err(Error::Malformed {
            path: pool.child(MEMS),
            cause: format!("it holds {:?}", crate::pool::shorten(text.trim())),
            remedy: MEMS_FILE.remedy,
        }),
        _ => Ok(Memory::AsItIs),
    }
}

/// The time by which kcm dates a `tasks` that it writes.
pub(super) fn dated() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(ALLOCATED)
}

fn read_partition(pool: &Dir) -> Result<Policy, Error> {
    let text = pool.read_text(PARTITION, PARTITION_FILE)?.unwrap_or_default();
    if text.trim().is_empty() {
        return Ok(Policy::default());
    }
    text.parse().map_err(|bad: BadPolicy| Error::Malformed {
        path: pool.child(PARTITION),
        cause: bad.to_string(),
        remedy: PARTITION_FILE.remedy,
    })
}
