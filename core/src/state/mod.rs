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

pub use contents::{Contents, Listing, Memory};
pub use create::{Created, create};
pub use error::Error;
pub use hold::Hold;
pub use lock::{BadTimeout, LockTimeout};
pub use purge::{Foreign, NotPurged, Purged};
pub use records::{Index, Records};
pub use update::Update;

use crate::notice::Notice;

/// A configuration directory: its path, and how long its lock may be waited for and held.
#[derive(Clone, Debug)]
pub struct ConfDir {
    path: PathBuf,
    limit: LockTimeout,
}

impl ConfDir {
    /// Nothing is opened yet.
    pub fn new(path: impl Into<PathBuf>, limit: LockTimeout) -> Self {
        Self { path: path.into(), limit }
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
        let (dir, lock) = lock::open_locked(&self.path, lock::Mode::Exclusive, self.limit)?;
        let result = Update::new(dir)?.run(change);
        drop(lock);
        result
    }

    /// Lets `look` read the directory, under a shared lock where this process may have it; a
    /// notice where it may not (an ordinary user, a read-only mount), since then a change may be
    /// seen half done.
    pub fn read<T, E: From<Error>>(
        &self,
        look: impl FnOnce(&Contents) -> Result<T, E>,
    ) -> Result<(T, Option<Notice>), E> {
        match lock::open_locked(&self.path, lock::Mode::Shared, self.limit) {
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
