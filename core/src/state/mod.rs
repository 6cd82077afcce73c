//! The configuration directory: what is in it, and the one way to change it.
//!
//! ```text
//! <conf-dir>/                         0755
//!   lock                              0600, flock(2): exclusive to change, shared to read
//!   pools/<pool>/exclusive            first byte '1' = exclusive, '0' = shared
//!   pools/<pool>/<cpulist>/tasks      comma-separated host PIDs, no trailing newline
//!   pools/<pool>/<cpulist>/holder.json  a copy of the holder's record (exclusive pools)
//!   pools/<pool>/<cpulist>/tasks.bad  a damaged `tasks`, kept by `reconcile`
//!   pools/<pool>/mems                 optional: `local` binds memory to the CPUs' NUMA nodes
//!   pools/<pool>/partition            optional: whether its containers are cpuset partitions
//!   allocations/<owner>.json          who holds what
//!   allocations/<owner>.bad           a damaged record, set aside
//!   allocations/.tmp-<n>              new content on its way to its place
//!   allocations/.boot                 a link that is never followed: the boot of the last writer
//! ```
//!
//! Files are replaced whole: new content is staged under `allocations/`, all of one change before
//! the first rename (so that a full disk is found while nothing has changed), then each is renamed
//! into place. A process killed at any instant leaves each file old or new.

mod contents;
mod create;
mod dir;
mod error;
mod hold;
mod lock;
mod purge;
mod records;
mod turnstile;
mod update;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

pub use contents::{Contents, Listing, Memory};
pub use create::{Created, create};
pub use error::Error;
pub use hold::Hold;
pub use lock::{BadTimeout, LockTimeout, Turn};
pub use purge::{Foreign, NotPurged, Purged};
pub use records::{Index, Records};
pub use update::Update;

use crate::notice::Notice;

/// A configuration directory: its path, and how long its lock may be waited for and held.
#[derive(Clone, Debug)]
pub struct ConfDir {
    path: PathBuf,
    limit: LockTimeout,
    /// When whoever started this process ends it, so that no lock is waited for beyond.
    deadline: Option<Instant>,
}

/// What of the lock somebody has who wants to do something under it.
#[derive(Clone, Copy, Debug)]
pub enum Under<'a> {
    /// Nothing.
    Nothing,
    /// Its file, open.
    Turn(&'a Turn),
    /// The lock itself.
    Lock(&'a Update),
}

impl<'a> From<Option<&'a Turn>> for Under<'a> {
    fn from(turn: Option<&'a Turn>) -> Self {
        turn.map_or(Self::Nothing, Self::Turn)
    }
}

impl ConfDir {
    /// Nothing is opened yet.
    pub fn new(path: impl Into<PathBuf>, limit: LockTimeout) -> Self {
        Self { path: path.into(), limit, deadline: None }
    }

    /// No lock is waited for beyond this.
    pub fn until(self, deadline: Instant) -> Self {
        Self { deadline: Some(deadline), ..self }
    }

    /// Beyond which nothing is to be waited for; none where nobody ends this process.
    pub fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// What is left of that for something that may take so long.
    pub(crate) fn time_left(&self, limit: Duration) -> Duration {
        let left = self.deadline.map(|it| it.saturating_duration_since(Instant::now()));
        left.map_or(limit, |left| left.min(limit))
    }

    fn limit(&self) -> LockTimeout {
        self.deadline.map_or(self.limit, |deadline| self.limit.until(deadline))
    }

    /// The directory's path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Locks the directory, and lets `change` read and write it: the one way to write.
    pub fn update<T, E: From<Error>>(
        &self,
        change: impl FnOnce(&Update) -> Result<T, E>,
    ) -> Result<T, E> {
        let (dir, lock) = lock::open_locked(&self.path, lock::Mode::Exclusive, self.limit())?;
        let result = Update::new(dir)?.run(change);
        drop(lock);
        result
    }

    /// Does so, and keeps the lock's file open, for one who will want the lock once more in a moment.
    pub fn update_and_keep<T, E: From<Error>>(
        &self,
        change: impl FnOnce(&Update) -> Result<T, E>,
    ) -> Result<(T, Option<Turn>), E> {
        let (dir, lock) = lock::open_locked(&self.path, lock::Mode::Exclusive, self.limit())?;
        let done = Update::new(dir)?.run(change)?;
        Ok((done, lock.keep()))
    }

    /// Does something under the lock that has nothing to do with the directory.
    pub fn hold<T, E: From<Error>>(
        &self,
        under: Under<'_>,
        act: impl FnOnce() -> Result<T, E>,
    ) -> Result<T, E> {
        let turn = match under {
            Under::Lock(_) => return act(),
            Under::Turn(turn) => Some(turn).filter(|turn| turn.take()),
            Under::Nothing => None,
        };
        let lock = match turn {
            Some(_) => None,
            None => Some(lock::open_locked(&self.path, lock::Mode::Exclusive, self.limit())?),
        };
        let done = act();
        turn.into_iter().for_each(Turn::give);
        drop(lock);
        done
    }

    /// Lets `look` read the directory, under a shared lock where this process may have it; a
    /// notice where it may not (an ordinary user, a read-only mount), since then a change may be
    /// seen half done.
    pub fn read<T, E: From<Error>>(
        &self,
        look: impl FnOnce(&Contents) -> Result<T, E>,
    ) -> Result<(T, Option<Notice>), E> {
        match lock::open_locked(&self.path, lock::Mode::Shared, self.limit()) {
            Ok((dir, lock)) => {
                let result = look(&Contents::new(dir)?);
                drop(lock);
                Ok((result?, None))
            }
            Err(error) if error.is_no_permission() || error.is_missing() => Ok((
                look(&self.unlocked()?)?,
                Some(Notice::warning(format!("reading without the lock: {error}"))),
            )),
            Err(error) => Err(error.into()),
        }
    }

    /// The directory, read with no lock: for what changes at `kcm init` alone.
    pub fn unlocked(&self) -> Result<Contents, Error> {
        let not_initialised = || Error::NotInitialised { path: self.path.clone() };
        Contents::new(dir::Dir::open(&self.path)?.ok_or_else(not_initialised)?)
    }
}
