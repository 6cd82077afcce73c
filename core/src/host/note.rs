//! A note on a cgroup itself, which nobody but the host's root can write or see, and which is gone with
//! the cgroup.
//!
//! It is an extended attribute `trusted.kcm.…` (xattr(7): only `CAP_SYS_ADMIN` of the host may set or
//! see it), or, where the cgroup file system has none, a file below `/run/kcm` (0700) that is named
//! after the cgroup's inode, which no other has until the next boot.

use std::ffi::CStr;
use std::path::{Path, PathBuf};

use super::cgroup::Cgroup;
use super::{Error, sys};

/// Longer than any note: an owner's name and a set of CPUs in the kernel's format, or the names of a
/// pod's containers.
const LONGEST: usize = 1 << 16;

/// A kind of note.
#[derive(Clone, Copy, Debug)]
pub(super) struct Kind {
    /// The attribute's name.
    pub(super) attribute: &'static CStr,
    /// Where those are that the cgroup file system cannot have.
    pub(super) folder: &'static str,
}

impl Kind {
    /// Writes it in place of any earlier one; an empty one is none.
    pub(super) fn write(self, cgroup: &Cgroup, text: &str) -> Result<(), Error> {
        let folder = cgroup.folder();
        match sys::set_attribute(&folder, self.attribute, text.as_bytes()) {
            Ok(()) => Ok(()),
            Err(e) if is_unsupported(&e) => self.write_file(cgroup, text),
            Err(e) => Err(Error::io("mark", &folder, &e)),
        }
    }

    /// What it says; none where there is none that this process can see.
    pub(super) fn read(self, cgroup: &Cgroup) -> Result<Option<String>, Error> {
        let folder = cgroup.folder();
        let text = match sys::attribute(&folder, self.attribute, LONGEST) {
            Ok(bytes) => String::from_utf8(bytes).ok(),
            Err(e) if e.raw_os_error() == Some(libc::ENODATA) || is_unsupported(&e) => {
                self.read_file(cgroup)?
            }
            Err(e) if super::is_gone(&e) => None,
            Err(e) => return Err(Error::io("read the mark of", &folder, &e)),
        };
        Ok(text.filter(|text| !text.is_empty()))
    }

    fn file(self, cgroup: &Cgroup) -> Result<Option<PathBuf>, Error> {
        Ok(cgroup.inode()?.map(|inode| Path::new(self.folder).join(inode.to_string())))
    }

    fn write_file(self, cgroup: &Cgroup, text: &str) -> Result<(), Error> {
        use std::os::unix::fs::DirBuilderExt;
        let Some(file) = self.file(cgroup)? else { return Ok(()) };
        let folder = Path::new(self.folder);
        let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder);
        made.map_err(|e| Error::io("make", folder, &e))?;
        let staged = file.with_extension("new");
        let written = std::fs::write(&staged, text).and_then(|()| std::fs::rename(&staged, &file));
        written.map_err(|e| Error::io("write", &file, &e))
    }

    fn read_file(self, cgroup: &Cgroup) -> Result<Option<String>, Error> {
        if !Path::new(self.folder).exists() {
            return Ok(None);
        }
        let Some(file) = self.file(cgroup)? else { return Ok(None) };
        match super::regular::read_text(&file, LONGEST as u64) {
            Ok(text) => Ok(Some(text)),
            Err(e) if super::is_gone(&e) => Ok(None),
            Err(e) => Err(Error::io("read", &file, &e)),
        }
    }
}

/// EPERM: a user namespace's root.
fn is_unsupported(error: &std::io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EOPNOTSUPP | libc::EPERM | libc::ENOSYS))
}
