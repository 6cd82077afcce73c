//! The proof that a cgroup is an owner's: a mark on the cgroup itself.
//!
//! Whoever may write the configuration directory can copy another's path, inode and start time into
//! a record. He cannot reach here: the hook marks the cgroup that it has bound by the extended
//! attribute `trusted.kcm.owner` (xattr(7): only `CAP_SYS_ADMIN` of the host may set or see it), or,
//! where the cgroup file system has none, by a file below `/run/kcm/marks` (0700) that is named
//! after the cgroup's inode. Both are gone with the cgroup, or with the boot.

use std::path::{Path, PathBuf};

use super::cgroup::Cgroup;
use super::procfs::Procfs;
use super::{Error, sys};
use crate::allocation::{Allocation, Owner};
use crate::cpu_set::CpuSet;

const ATTRIBUTE: &std::ffi::CStr = c"trusted.kcm.owner";

/// Where marks are that the cgroup file system cannot have.
const FOLDER: &str = "/run/kcm/marks";

/// Longer than any mark: an owner's name, and a set of CPUs in the kernel's format.
const LONGEST: usize = 1 << 16;

/// `CAP_SYS_ADMIN` (capabilities(7)), as a bit of `CapEff` (proc_pid_status(5)).
const SYS_ADMIN: u64 = 1 << 21;

/// What is written on a cgroup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark {
    /// For whom it was bound.
    pub owner: Owner,
    /// To which CPUs.
    pub cpus: CpuSet,
}

impl Mark {
    /// The mark that belongs on a holder's cgroup.
    pub fn on(record: &Allocation) -> Self {
        Self { owner: record.owner.clone(), cpus: record.cpus() }
    }

    fn parse(text: &str) -> Option<Self> {
        let (owner, cpus) = text.trim_end().split_once(' ')?;
        Some(Self { owner: owner.parse().ok()?, cpus: cpus.parse().ok()? })
    }
}

/// Marks a cgroup that was bound, in place of any earlier mark.
pub fn set(cgroup: &Cgroup, mark: &Mark) -> Result<(), Error> {
    let text = format!("{} {}", mark.owner, mark.cpus);
    let folder = cgroup.folder();
    match sys::set_attribute(&folder, ATTRIBUTE, text.as_bytes()) {
        Ok(()) => Ok(()),
        Err(e) if is_unsupported(&e) => write_file(cgroup, &text),
        Err(e) => Err(Error::io("mark", &folder, &e)),
    }
}

/// A cgroup's mark; none where it has none that this process can see.
pub fn of(cgroup: &Cgroup) -> Result<Option<Mark>, Error> {
    let folder = cgroup.folder();
    match sys::attribute(&folder, ATTRIBUTE, LONGEST) {
        Ok(bytes) => Ok(std::str::from_utf8(&bytes).ok().and_then(Mark::parse)),
        Err(e) if e.raw_os_error() == Some(libc::ENODATA) || is_unsupported(&e) => {
            read_file(cgroup)
        }
        Err(e) if super::is_gone(&e) => Ok(None),
        Err(e) => Err(Error::io("read the mark of", &folder, &e)),
    }
}

/// Whether this process would see a mark: to others a marked cgroup looks like one without.
pub fn can_be_seen(procfs: &Procfs) -> bool {
    procfs.own_capabilities().is_some_and(|capabilities| capabilities & SYS_ADMIN != 0)
}

/// EPERM: a user namespace's root.
fn is_unsupported(error: &std::io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EOPNOTSUPP | libc::EPERM | libc::ENOSYS))
}

fn file(cgroup: &Cgroup) -> Result<Option<PathBuf>, Error> {
    Ok(cgroup.inode()?.map(|inode| Path::new(FOLDER).join(inode.to_string())))
}

fn write_file(cgroup: &Cgroup, text: &str) -> Result<(), Error> {
    use std::os::unix::fs::DirBuilderExt;
    let Some(file) = file(cgroup)? else { return Ok(()) };
    let folder = Path::new(FOLDER);
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder);
    made.map_err(|e| Error::io("make", folder, &e))?;
    let staged = file.with_extension("new");
    let written = std::fs::write(&staged, text).and_then(|()| std::fs::rename(&staged, &file));
    written.map_err(|e| Error::io("write", &file, &e))
}

fn read_file(cgroup: &Cgroup) -> Result<Option<Mark>, Error> {
    if !Path::new(FOLDER).exists() {
        return Ok(None);
    }
    let Some(file) = file(cgroup)? else { return Ok(None) };
    match super::regular::read_text(&file, LONGEST as u64) {
        Ok(text) => Ok(Mark::parse(&text)),
        Err(e) if super::is_gone(&e) => Ok(None),
        Err(e) => Err(Error::io("read", &file, &e)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_an_owner_and_its_cpus() {
        let mark = Mark::parse("c1 2-3,10").unwrap();
        assert_eq!((mark.owner.as_ref(), mark.cpus.to_string()), ("c1", "2-3,10".into()));
        for bad in ["", "c1", "c1 ", "c/1 2", "c1 x", " 2"] {
            assert_eq!(Mark::parse(bad), None, "{bad:?}");
        }
    }
}
