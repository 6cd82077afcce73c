//! What the kernel shows of this node, and the few things that kcm sets in it. Roots are given, so
//! that parsing can be tested on a folder.
#![allow(clippy::disallowed_methods)] // this is where file access belongs

pub mod affinity;
pub mod alarm;
pub mod cgroup;
pub mod checkpoints;
pub mod child;
pub mod counters;
pub mod criu;
pub mod environ;
pub mod errand;
pub mod files;
pub mod mark;
pub mod mounted;
mod mounts;
pub mod names;
pub mod neighbours;
pub mod own_cgroup;
pub mod partition;
pub mod pod;
pub mod procfs;
pub mod quota;
pub mod regular;
pub mod scope;
pub mod shield;
pub mod shield_state;
pub mod stop;
mod sys;
pub mod sysfs;
pub mod systemd;
pub mod threads;
pub mod tracefs;
pub mod trust;
pub mod workqueues;

use std::path::{Path, PathBuf};

/// A file of the kernel's that could not be read, written or understood.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} {path}: {cause}")]
pub struct Error {
    action: &'static str,
    path: PathBuf,
    cause: String,
}

impl Error {
    pub(crate) fn io(action: &'static str, path: &Path, source: &std::io::Error) -> Self {
        Self { action, path: path.to_owned(), cause: source.to_string() }
    }

    pub(crate) fn malformed(path: &Path, cause: impl Into<String>) -> Self {
        Self { action: "understand", path: path.to_owned(), cause: cause.into() }
    }
}

/// Bytes of a file of the kernel's. The longest that is read here is the `status` of a process in
/// 65,536 groups (`NGROUPS_MAX`): 720 KB. A cgroup's path has 4,096 at the most, a list or mask of
/// 8,192 CPUs 40 KB.
const LIMIT: u64 = 1 << 20;

/// Bytes of a list of PIDs: 4,194,304 (`PID_MAX_LIMIT`, include/linux/threads.h) on a line of 8 each.
const LIMIT_OF_PIDS: u64 = 1 << 25;

/// Reads a whole file of the kernel's; none where there is none.
pub(crate) fn read(path: &Path) -> Result<Option<String>, Error> {
    read_up_to(path, LIMIT)
}

/// Reads a list of PIDs of the kernel's; none where there is none.
pub(crate) fn read_pids(path: &Path) -> Result<Option<String>, Error> {
    read_up_to(path, LIMIT_OF_PIDS)
}

fn read_up_to(path: &Path, limit: u64) -> Result<Option<String>, Error> {
    match regular::read_text(path, limit) {
        Ok(text) => Ok(Some(text)),
        Err(e) if is_gone(&e) => Ok(None),
        Err(e) => Err(Error::io("read", path, &e)),
    }
}

/// Lists a folder of the kernel's; nothing where there is none.
pub(crate) fn list(path: &Path) -> Result<Vec<std::fs::DirEntry>, Error> {
    match std::fs::read_dir(path).and_then(Iterator::collect) {
        Ok(entries) => Ok(entries),
        Err(e) if is_gone(&e) => Ok(Vec::new()),
        Err(e) => Err(Error::io("list", path, &e)),
    }
}

/// Whether what was asked for is not there: a process that ends while it is looked at (proc(5)) is
/// `ESRCH`, a cgroup that is removed (kernfs) `ENODEV`.
fn is_gone(error: &std::io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ESRCH | libc::ENODEV))
}

/// Reads a file that must be there.
pub(crate) fn read_existing(path: &Path) -> Result<String, Error> {
    let missing = || Error::io("read", path, &std::io::Error::from_raw_os_error(libc::ENOENT));
    read(path)?.ok_or_else(missing)
}
