//! Removing the configuration directory: what kcm makes, by name, on the same mount, and nothing
//! else.
//!
//! It undoes `init` in the same single step. `init` makes the pools as `.tmp-pools`, and renames
//! that to `pools`; a purge, under the lock, renames `pools` to `.tmp-pools`. From then on the
//! directory is nobody's: who waits for the lock, or comes later, finds no pools and takes nothing,
//! and no hook makes a new lock. `lock` goes last, so that there is never a second one while
//! anything is left that it guards. Killed at any instant, a purge leaves a directory that works, or
//! what `init` and the next purge take for a killed init's leftovers.
//!
//! All is looked at before anything goes, so that something foreign is found while nothing has
//! changed. What is opened for that is opened as a place alone (`O_PATH`), which does nothing to a
//! device or a FIFO.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, OpenHow, ResolveFlag, openat2};
use nix::sys::stat::{SFlag, fstat};
use nix::unistd::{UnlinkatFlags, unlinkat};

use super::contents::{
    ALLOCATIONS, ASIDE_SUFFIX, BOOT, Contents, EXCLUSIVE, INDEX, PARTITION, POOLS, TASKS,
};
use super::create::STAGING;
use super::dir::Dir;
use super::lock::{self, LOCK};
use super::records::RECORD_SUFFIX;
use super::{ConfDir, Error};
use crate::allocation::Owner;
use crate::pool::{CpuListName, PoolName};

/// How a purge ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purged {
    /// There is no such directory any more.
    Gone,
    /// It is empty of kcm's, and stays; why.
    Stays(&'static str),
}

/// Why a directory is not removed.
#[derive(Debug, thiserror::Error)]
pub enum NotPurged {
    /// It could not be read or changed.
    #[error(transparent)]
    State(#[from] Error),
    /// Something in it is somebody else's.
    #[error(
        "{} stays: there is something in it that kcm does not make: {}; move it out of there (a \
         mount: umount it), then run the same command again",
        path.display(), list(found)
    )]
    Foreign {
        /// The directory.
        path: PathBuf,
        /// Where and what.
        found: Vec<Foreign>,
    },
    /// It is a directory of the original's that kcm does not know.
    #[error(
        "{} stays: {} is a folder in a CPU list's place that has folders, as CMK 1.1 and newer make \
         them; if nothing uses CMK any more, remove it by hand",
        path.display(), list.display()
    )]
    Cmk {
        /// The directory.
        path: PathBuf,
        /// What shows it.
        list: PathBuf,
    },
    /// It is nothing of kcm's.
    #[error(
        "{path} stays: it is no kcm configuration directory, since {why}; give the right one with \
         --conf-dir"
    )]
    NotKcms {
        /// The directory.
        path: PathBuf,
        /// How that is seen.
        why: String,
    },
}

/// A name in the directory that is not kcm's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Foreign {
    path: PathBuf,
    kind: Kind,
}

/// Only so many are named.
const NAMED: usize = 8;

fn list(found: &[Foreign]) -> String {
    let name = |one: &Foreign| {
        // Whoever mounts the directory chooses names: no line of a log is to be forged.
        format!("{} ({})", one.path.display().to_string().escape_debug(), one.kind.name())
    };
    let mut names: Vec<String> = found.iter().take(NAMED).map(name).collect();
    if found.len() > NAMED {
        names.push(format!("and {} more", found.len() - NAMED));
    }
    names.join(", ")
}

/// What stands at a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    File,
    Folder,
    Link,
    Mount,
    Other,
    /// Its name is not UTF-8.
    NoText,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::File => "a file",
            Self::Folder => "a folder",
            Self::Link => "a symbolic link",
            Self::Mount => "a mount",
            Self::NoText => "its name is no text",
            Self::Other => "neither a file nor a folder",
        }
    }
}

/// A folder of the layout (see [`super`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Level {
    Top,
    Pools,
    Pool,
    List,
    Allocations,
}

/// What kcm makes of a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Made {
    File,
    /// A symbolic link that is never followed.
    Link,
    /// Either of the two, on its way to its place.
    Staged,
    /// Whatever was in a file's place, renamed.
    SetAside,
    Folder(Level),
    /// The file system's own.
    NotOurs,
}

impl Level {
    /// What kcm makes of this name here; none: nothing.
    fn made(self, name: &str) -> Option<Made> {
        match self {
            Self::Top => match name {
                LOCK => Some(Made::File),
                POOLS | STAGING => Some(Made::Folder(Self::Pools)),
                ALLOCATIONS => Some(Made::Folder(Self::Allocations)),
                "lost+found" => Some(Made::NotOurs),
                _ => None,
            },
            Self::Pools => name.parse::<PoolName>().ok().map(|_| Made::Folder(Self::Pool)),
            Self::Pool => match name {
                EXCLUSIVE | "mems" | PARTITION => Some(Made::File),
                _ => name.parse::<CpuListName>().ok().map(|_| Made::Folder(Self::List)),
            },
            Self::List => match name {
                TASKS | INDEX => Some(Made::File),
                _ if is_aside(name, TASKS) || is_aside(name, INDEX) => Some(Made::SetAside),
                _ => None,
            },
            Self::Allocations => {
                let owner = name.strip_suffix(RECORD_SUFFIX);
                match name {
                    BOOT => Some(Made::Link),
                    // A new one of those, too.
                    _ if name.starts_with(".tmp-") => Some(Made::Staged),
                    _ if name
                        .rsplit_once(ASIDE_SUFFIX)
                        .is_some_and(|(owner, _)| is_aside(name, owner)) =>
                    {
                        Some(Made::SetAside)
                    }
                    _ if owner.is_some_and(|owner| owner.parse::<Owner>().is_ok()) => {
                        Some(Made::File)
                    }
                    _ => None,
                }
            }
        }
    }
}

/// Whether a name is one of those by which a file is set aside: `tasks.bad`, `tasks.bad.1` to `.9`.
fn is_aside(name: &str, of: &str) -> bool {
    let number = name.strip_prefix(of).and_then(|rest| rest.strip_prefix(ASIDE_SUFFIX));
    number.is_some_and(|number| {
        let digit = number.strip_prefix('.').unwrap_or_default();
        number.is_empty() || digit.len() == 1 && digit.bytes().all(|b| b.is_ascii_digit())
    })
}

impl Made {
    fn is_so(self, kind: Kind) -> bool {
        match self {
            Self::File => kind == Kind::File,
            Self::Link => kind == Kind::Link,
            Self::Staged => matches!(kind, Kind::File | Kind::Link),
            Self::SetAside => matches!(kind, Kind::File | Kind::Link | Kind::Other),
            Self::Folder(_) | Self::NotOurs => kind == Kind::Folder,
        }
    }
}

impl ConfDir {
    /// The paths that [`purge`](Self::purge) would remove, in their order; fails where it would.
    /// Nothing is locked, and nothing written.
    pub fn purgeable(&self) -> Result<Vec<PathBuf>, NotPurged> {
        let Some(dir) = Dir::open(&self.path)? else { return Ok(Vec::new()) };
        let mut paths = survey(&dir)?;
        paths.push(self.path.clone());
        Ok(paths)
    }

    /// Locks the directory, and removes it, unless `may_go` objects, or anything in it is not
    /// kcm's.
    pub fn purge<E: From<NotPurged>>(
        &self,
        may_go: impl FnOnce(&Contents) -> Result<(), E>,
    ) -> Result<Purged, E> {
        let state = |error: Error| E::from(NotPurged::from(error));
        let Some(dir) = Dir::open(&self.path).map_err(state)? else { return Ok(Purged::Gone) };
        // Before the lock, which is made where there is none, even in somebody else's directory.
        if survey(&dir)?.is_empty() {
            return Ok(remove_folder(&self.path)?);
        }
        // In this mode, since there may be no pools any more.
        let locked = lock::open_locked(&self.path, lock::Mode::Create, self.limit);
        let (dir, lock) = match locked {
            // Another purge was faster.
            Err(Error::NotInitialised { .. }) => return Ok(Purged::Gone),
            other => other.map_err(state)?,
        };
        survey(&dir)?;
        let dir = match dir.dir(POOLS).map_err(state)? {
            None => dir,
            Some(_) => {
                let contents = Contents::new(dir).map_err(state)?;
                may_go(&contents)?;
                contents.dir
            }
        };
        remove_all(&dir)?;
        let purged = remove_folder(&self.path)?;
        drop(lock);
        Ok(purged)
    }
}

/// What is kcm's in a directory, in the order in which it goes; fails where that is not all.
fn survey(dir: &Dir) -> Result<Vec<PathBuf>, NotPurged> {
    must_be_kcms(dir)?;
    let (mut paths, mut found) = (Vec::new(), Vec::new());
    for entry in dir.entries()? {
        let Some(kind) = kind_of_listed(dir, &entry.name)? else { continue };
        if !Level::Top.made(&entry.name).is_some_and(|made| made.is_so(kind)) {
            found.push(Foreign { path: dir.child(&entry.name), kind });
        }
    }
    for name in [STAGING, ALLOCATIONS, POOLS] {
        let Some(Made::Folder(level)) = Level::Top.made(name) else { continue };
        if found.iter().any(|one| one.path == dir.child(name)) {
            continue;
        }
        if let Some(folder) = folder(dir, name)? {
            let mut walk = Walk { top: dir.path(), paths: &mut paths, found: &mut found };
            walk.look(&folder, level)?;
            paths.push(dir.child(name));
        }
    }
    if dir.identity(LOCK)?.is_some() {
        paths.push(dir.child(LOCK));
    }
    match found.is_empty() {
        true => Ok(paths),
        false => Err(NotPurged::Foreign { path: dir.path().to_owned(), found }),
    }
}

/// Fails in a directory that is not kcm's. An `init` or a purge may be at work: what was seen while
/// the pools came or went, says nothing.
fn must_be_kcms(dir: &Dir) -> Result<(), NotPurged> {
    loop {
        let pools = dir.identity(POOLS)?;
        match is_kcms(dir) {
            Err(_) if dir.identity(POOLS)? != pools => {}
            result => return result,
        }
    }
}

/// A folder `pools` alone makes nobody's directory kcm's. Without one it may be what a killed
/// `init` or purge has left.
fn is_kcms(dir: &Dir) -> Result<(), NotPurged> {
    let not =
        |why: &str| Err(NotPurged::NotKcms { path: dir.path().to_owned(), why: why.to_owned() });
    match kind(dir, POOLS)? {
        Some(Kind::Folder | Kind::Mount) => {
            let Some(pools) = dir.dir(POOLS)? else { return Ok(()) };
            for entry in pools.entries()?.into_iter().filter(|entry| entry.is_dir) {
                if let Some(pool) = pools.dir(&entry.name)?
                    && kind(&pool, EXCLUSIVE)? == Some(Kind::File)
                {
                    return Ok(());
                }
            }
            not("no folder in its pools has a file `exclusive`")
        }
        Some(_) => not("its pools is no folder"),
        None => {
            let names: Vec<String> = dir.entries()?.into_iter().map(|entry| entry.name).collect();
            let has = |name: &str| names.iter().any(|found| found == name);
            if let Some(stranger) = names.iter().find(|name| Level::Top.made(name).is_none()) {
                let stranger = stranger.escape_debug();
                return not(&format!("it has {stranger}, which kcm does not make, and no pools"));
            }
            if has(STAGING) {
                return Ok(());
            }
            if let Some(allocations) = dir.dir(ALLOCATIONS)?
                && !allocations.entries()?.is_empty()
            {
                return not("it has allocations, but no pools");
            }
            if dir.look(LOCK)?.is_some_and(|lock| lock.size > 0) {
                return not("its lock is not empty, and there are no pools");
            }
            Ok(())
        }
    }
}

/// One look through the layout.
struct Walk<'a> {
    top: &'a Path,
    paths: &'a mut Vec<PathBuf>,
    found: &'a mut Vec<Foreign>,
}

impl Walk<'_> {
    /// Notes what is kcm's below a folder, each folder after what is in it, and what is not.
    fn look(&mut self, dir: &Dir, level: Level) -> Result<(), NotPurged> {
        for entry in dir.entries()? {
            let Some(kind) = kind_of_listed(dir, &entry.name)? else { continue };
            let path = dir.child(&entry.name);
            match level.made(&entry.name).filter(|made| made.is_so(kind)) {
                Some(Made::Folder(level)) => {
                    let Some(below) = folder(dir, &entry.name)? else { continue };
                    self.look(&below, level)?;
                    self.paths.push(path);
                }
                Some(_) => self.paths.push(path),
                None if level == Level::List && kind == Kind::Folder => {
                    let list = dir.path().to_owned();
                    return Err(NotPurged::Cmk { path: self.top.to_owned(), list });
                }
                None => self.found.push(Foreign { path, kind }),
            }
        }
        Ok(())
    }
}

/// Removes what was surveyed, under the lock; fails where something else has come since.
fn remove_all(dir: &Dir) -> Result<(), NotPurged> {
    let mut found = Vec::new();
    let has_pools = dir.dir(POOLS)?.is_some();
    if has_pools {
        // A killed init's.
        remove_below(dir, STAGING, &mut found)?;
        dir.rename(POOLS, dir, STAGING)?;
    }
    remove_below(dir, ALLOCATIONS, &mut found)?;
    remove_below(dir, STAGING, &mut found)?;
    if !found.is_empty() {
        return Err(NotPurged::Foreign { path: dir.path().to_owned(), found });
    }
    Ok(dir.remove(LOCK)?)
}

/// Removes a folder of the first level with what kcm makes in it; none there is fine.
fn remove_below(dir: &Dir, name: &str, found: &mut Vec<Foreign>) -> Result<(), Error> {
    match Level::Top.made(name) {
        Some(Made::Folder(level)) => remove(dir, name, level, found),
        _ => Ok(()),
    }
}

fn remove(dir: &Dir, name: &str, level: Level, found: &mut Vec<Foreign>) -> Result<(), Error> {
    let Some(below) = folder(dir, name)? else { return Ok(()) };
    let before = found.len();
    for entry in below.entries()? {
        let Some(kind) = kind_of_listed(&below, &entry.name)? else { continue };
        match level.made(&entry.name).filter(|made| made.is_so(kind)) {
            Some(Made::Folder(level)) => remove(&below, &entry.name, level, found)?,
            Some(_) => below.remove(&entry.name)?,
            None => found.push(Foreign { path: below.child(&entry.name), kind }),
        }
    }
    if found.len() > before {
        return Ok(());
    }
    match unlinkat(&dir.fd, name, UnlinkatFlags::RemoveDir) {
        Ok(()) | Err(Errno::ENOENT) => Ok(()),
        Err(errno) => Err(Error::io("remove", &dir.child(name), errno)),
    }
}

/// Removes the directory itself, where that goes.
fn remove_folder(path: &Path) -> Result<Purged, NotPurged> {
    match unlinkat(AT_FDCWD, path, UnlinkatFlags::RemoveDir) {
        Ok(()) | Err(Errno::ENOENT) => Ok(Purged::Gone),
        Err(Errno::EBUSY) => Ok(Purged::Stays("it is a mount point")),
        Err(Errno::ENOTDIR) => Ok(Purged::Stays("it is a symbolic link to a folder")),
        Err(Errno::ENOTEMPTY | Errno::EEXIST) => {
            let lost = Dir::open(path)?.map(|dir| dir.identity("lost+found")).transpose()?;
            Ok(Purged::Stays(match lost.flatten() {
                Some(_) => "it has the file system's lost+found",
                None => "somebody has made it anew meanwhile",
            }))
        }
        Err(errno) => Err(Error::io("remove", path, errno).into()),
    }
}

/// A place in a folder, on the same mount, itself where it is a link.
fn place(dir: &Dir, name: &str, flags: OFlag) -> Result<OwnedFd, Errno> {
    let resolve = ResolveFlag::RESOLVE_BENEATH
        | ResolveFlag::RESOLVE_NO_SYMLINKS
        | ResolveFlag::RESOLVE_NO_XDEV;
    let flags = flags | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    openat2(&dir.fd, name, OpenHow::new().flags(flags).resolve(resolve))
}

/// What stands at a name; none where there is nothing, any more.
fn kind(dir: &Dir, name: &str) -> Result<Option<Kind>, Error> {
    let failed = |errno| Error::io("look at", &dir.child(name), errno);
    let place = match place(dir, name, OFlag::O_PATH) {
        Ok(place) => place,
        Err(Errno::EXDEV) => return Ok(Some(Kind::Mount)),
        Err(Errno::ENOENT) => return Ok(None),
        Err(errno) => return Err(failed(errno)),
    };
    let mode = fstat(&place).map_err(failed)?.st_mode;
    Ok(Some(match SFlag::from_bits_truncate(mode) & SFlag::S_IFMT {
        SFlag::S_IFREG => Kind::File,
        SFlag::S_IFDIR => Kind::Folder,
        SFlag::S_IFLNK => Kind::Link,
        _ => Kind::Other,
    }))
}

/// The same of a name that was just listed, which may have gone since. One that is not UTF-8 is
/// listed as another, which is not there: kcm makes none.
fn kind_of_listed(dir: &Dir, name: &str) -> Result<Option<Kind>, Error> {
    let is_another = name.contains(char::REPLACEMENT_CHARACTER);
    Ok(kind(dir, name)?.or(is_another.then_some(Kind::NoText)))
}

/// A folder on the same mount; none where there is none.
fn folder(dir: &Dir, name: &str) -> Result<Option<Dir>, Error> {
    match place(dir, name, OFlag::O_DIRECTORY | OFlag::O_RDONLY) {
        Ok(fd) => Ok(Some(Dir { fd, path: dir.child(name) })),
        Err(Errno::ENOENT) => Ok(None),
        Err(errno) => Err(Error::io("open", &dir.child(name), errno)),
    }
}
