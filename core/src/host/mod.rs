//! What the kernel shows of this node, and the few things that kcm sets in it. Roots are given, so
//! that parsing can be tested on a folder.
#![allow(clippy::disallowed_methods)] // this is where file access belongs

pub mod affinity;
pub mod alarm;
pub mod cgroup;
pub mod child;
pub mod files;
mod mounts;
pub mod names;
pub mod neighbours;
pub mod procfs;
pub mod scope;
pub mod stop;
mod sys;
pub mod sysfs;
pub mod systemd;
pub mod trust;

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

/// Reads a whole file of the kernel's; none where there is none.
pub(crate) fn read(path: &Path) -> Result<Option<String>, Error> {
    match read_to_end(path) {
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

/// With room for a page at once: the kernel gives no size for its files, so that the standard
/// library would begin with 32 bytes, and ask for the size first.
fn read_to_end(path: &Path) -> std::io::Result<String> {
    use std::io::Read;
    let mut bytes = Vec::with_capacity(4096);
    std::fs::File::open(path)?.take(u64::MAX).read_to_end(&mut bytes)?;
    String::from_utf8(bytes).map_err(std::io::Error::other)
}

/// Reads a plain file of at most `limit` bytes; none where there is none. Unlike the kernel's own,
/// it may be anybody's: a larger one is an error.
pub fn read_limited(path: &Path, limit: u64) -> Result<Option<String>, Error> {
    use std::io::Read;
    let failed = |e: &std::io::Error| Error::io("read", path, e);
    let file = match std::fs::File::open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(failed(&e)),
    };
    let mut text = String::new();
    file.take(limit + 1).read_to_string(&mut text).map_err(|e| failed(&e))?;
    if text.len() as u64 > limit {
        return Err(Error::malformed(path, format!("it is larger than {limit} bytes")));
    }
    Ok(Some(text))
}

/// Reads a file that must be there.
pub(crate) fn read_existing(path: &Path) -> Result<String, Error> {
    let missing = || Error::io("read", path, &std::io::Error::from_raw_os_error(libc::ENOENT));
    read(path)?.ok_or_else(missing)
}
