//! Making the configuration directory, whole or not at all.

use std::path::{Path, PathBuf};

use nix::fcntl::AT_FDCWD;
use nix::sys::stat::{Mode, umask};
use nix::unistd::{UnlinkatFlags, unlinkat};

use super::contents::{ALLOCATIONS, Contents, EXCLUSIVE, PARTITION, POOLS, TASKS, dated};
use super::dir::Dir;
use super::error::Error;
use super::lock::{self, LOCK, Lock, LockTimeout};
use crate::plan::init::PlannedPool;

/// Where the pools are made before they are renamed into place.
pub(super) const STAGING: &str = ".tmp-pools";

/// What an empty directory may hold: a killed init's leftovers, and a file system's own folder.
const NOTHING: [&str; 4] = [LOCK, STAGING, ALLOCATIONS, "lost+found"];

/// How [`create`] ended.
#[derive(Debug)]
pub enum Created<T> {
    /// The directory was made.
    New,
    /// There was one already; it is unchanged, and this was seen in it.
    Existing(T),
}

/// How often a directory is made again that others remove while its lock is waited for.
const TRIES: usize = 100;

/// Makes the configuration directory with these pools, all of it synced to disk; one that is there
/// already stays as it is, and `look` looks at it under the lock. The pools appear by one rename:
/// killed at any instant, init leaves none or all of them. On an error everything is as it was before.
pub fn create<T>(
    path: &Path,
    pools: &[PlannedPool],
    limit: LockTimeout,
    look: impl FnOnce(&Contents) -> T,
) -> Result<Created<T>, Error> {
    let _umask = NoUmask::set();
    // Looked at before anything is made: nothing may be left in somebody else's directory.
    let found = match Dir::open(path)? {
        Some(dir) => names_in(&dir)?,
        None => Vec::new(),
    };
    let mut made = Folders::make(path)?;
    let result = lock(path, limit, &mut made).and_then(|(dir, _lock)| {
        let result = fill(&dir, pools);
        match result {
            Ok(true) => made.sync().map(|()| Created::New),
            Ok(false) => Contents::new(dir).map(|contents| Created::Existing(look(&contents))),
            // Under the lock still: it may be another init's staging a moment later.
            Err(error) => {
                empty(&dir, &found);
                Err(error)
            }
        }
    });
    if result.is_err() {
        made.remove();
    }
    result
}

/// Locks the directory. Another init that failed, or a purge, may have removed it while we waited for
/// the lock.
fn lock(path: &Path, limit: LockTimeout, made: &mut Folders) -> Result<(Dir, Lock), Error> {
    for _ in 1..TRIES {
        match lock::open_locked(path, lock::Mode::Create, limit) {
            Err(Error::NotInitialised { .. }) => made.0.extend(Folders::make(path)?.0),
            result => return result,
        }
    }
    lock::open_locked(path, lock::Mode::Create, limit)
}

/// Makes the pools; false where there are some already.
fn fill(dir: &Dir, pools: &[PlannedPool]) -> Result<bool, Error> {
    if dir.dir(POOLS)?.is_some() {
        return Ok(false);
    }
    names_in(dir)?;
    dir.remove_tree(STAGING)?;
    dir.make_dir(STAGING)?;
    let staging = open(dir, STAGING)?;
    for pool in pools {
        staging.make_dir(pool.name)?;
        let pool_dir = open(&staging, pool.name)?;
        pool_dir.create_synced(EXCLUSIVE, if pool.exclusive { "1" } else { "0" }, None)?;
        if let Some(policy) = pool.partition {
            pool_dir.create_synced(PARTITION, &format!("{policy}\n"), None)?;
        }
        for cpus in &pool.cpu_lists {
            let name = cpus.to_string();
            pool_dir.make_dir(&name)?;
            let list = open(&pool_dir, &name)?;
            list.create_synced(TASKS, "", Some(dated()))?;
            list.sync()?;
        }
        pool_dir.sync()?;
    }
    staging.sync()?;
    dir.dir_or_new(ALLOCATIONS)?;
    dir.rename(STAGING, dir, POOLS)?;
    dir.sync()?;
    Ok(true)
}

/// The names in a directory that is empty or initialised; an error where it is somebody else's.
fn names_in(dir: &Dir) -> Result<Vec<String>, Error> {
    let names: Vec<String> = dir.entries()?.into_iter().map(|entry| entry.name).collect();
    let stray = names.iter().find(|name| !NOTHING.contains(&name.as_str()));
    match stray {
        Some(stray) if !names.iter().any(|name| name == POOLS) => {
            Err(Error::NotEmpty { path: dir.path().to_owned(), found: stray.clone() })
        }
        _ => Ok(names),
    }
}

fn open(dir: &Dir, name: &str) -> Result<Dir, Error> {
    dir.dir(name)?.ok_or_else(|| Error::io("open", &dir.child(name), nix::errno::Errno::ENOENT))
}

/// Removes what this init made, as far as that goes; the lock last, since it guards the rest. What
/// stays is what an empty directory may hold.
fn empty(dir: &Dir, found: &[String]) {
    let _ = dir.remove_tree(STAGING);
    if dir.dir(POOLS).is_ok_and(|pools| pools.is_none()) {
        if !found.iter().any(|name| name == ALLOCATIONS) {
            let _ = dir.remove_tree(ALLOCATIONS);
        }
        if !found.iter().any(|name| name == LOCK) {
            let _ = dir.remove(LOCK);
        }
    }
}

/// The directory and those of its parents that had to be made, outermost first.
struct Folders(Vec<PathBuf>);

impl Folders {
    fn make(path: &Path) -> Result<Self, Error> {
        let missing = path.ancestors().take_while(|p| !p.as_os_str().is_empty() && !p.is_dir());
        let missing: Vec<&Path> = missing.collect();
        let mut made = Self(Vec::new());
        for folder in missing.into_iter().rev() {
            match nix::unistd::mkdir(folder, Mode::from_bits_truncate(0o755)) {
                Ok(()) => made.0.push(folder.to_owned()),
                // Another init was faster.
                Err(nix::errno::Errno::EEXIST) if folder.is_dir() => {}
                Err(errno) => {
                    made.remove();
                    return Err(Error::io("make", folder, errno));
                }
            }
        }
        Ok(made)
    }

    /// Syncs the folders' names: each is in the one before.
    fn sync(&self) -> Result<(), Error> {
        for folder in &self.0 {
            let parent = folder.parent().filter(|parent| !parent.as_os_str().is_empty());
            if let Some(parent) = Dir::open(parent.unwrap_or(Path::new(".")))? {
                parent.sync()?;
            }
        }
        Ok(())
    }

    /// Removes those that are empty.
    fn remove(&self) {
        for folder in self.0.iter().rev() {
            let _ = unlinkat(AT_FDCWD, folder, UnlinkatFlags::RemoveDir);
        }
    }
}

/// A process without umask, until this is dropped: a folder is made with its mode by one system
/// call, so that a killed init does not leave one that nobody else may enter.
struct NoUmask(Mode);

impl NoUmask {
    fn set() -> Self {
        Self(umask(Mode::empty()))
    }
}

impl Drop for NoUmask {
    fn drop(&mut self) {
        umask(self.0);
    }
}
