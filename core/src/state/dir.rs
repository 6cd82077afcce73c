//! A folder held open, below which no symbolic link is followed.
//!
//! Whoever may write the configuration directory (a pod that mounts it for `kcm isolate`) must not
//! be able to make a root process read or write elsewhere: every name is opened relative to a
//! descriptor by `openat2(2)` with `RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS`.

use std::fs::{File, Permissions};
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, OpenHow, ResolveFlag, openat2, renameat};
use nix::sys::stat::{FchmodatFlags, Mode, SFlag, fchmodat, fstatat, mkdirat};
use nix::unistd::{UnlinkatFlags, fsync, unlinkat};

use super::{Error, hold, lock};

/// A folder held open, with its path for messages.
#[derive(Debug)]
pub(crate) struct Dir {
    pub(super) fd: OwnedFd,
    pub(super) path: PathBuf,
}

/// A name in a folder.
pub(crate) struct Entry {
    pub(crate) name: String,
    pub(crate) is_dir: bool,
}

/// A file's content with what else a reader may need.
pub(crate) struct Content {
    pub(crate) text: String,
    pub(crate) modified: SystemTime,
}

impl Dir {
    /// Opens the configuration directory itself; its own path is the administrator's and may have
    /// symbolic links. None where there is none.
    pub(crate) fn open(path: &Path) -> Result<Option<Self>, Error> {
        let flags = OFlag::O_DIRECTORY | OFlag::O_RDONLY | OFlag::O_CLOEXEC;
        match nix::fcntl::open(path, flags, Mode::empty()) {
            Ok(fd) => Ok(Some(Self { fd, path: path.to_owned() })),
            Err(Errno::ENOENT) => Ok(None),
            Err(errno) => Err(Error::io("open", path, errno)),
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn child(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    fn open_at(&self, name: &str, flags: OFlag, mode: Mode) -> Result<OwnedFd, Errno> {
        let how = OpenHow::new()
            .flags(flags | OFlag::O_CLOEXEC)
            .mode(mode)
            .resolve(ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_SYMLINKS);
        openat2(&self.fd, name, how)
    }

    /// A folder in this one; none where there is none.
    pub(crate) fn dir(&self, name: &str) -> Result<Option<Self>, Error> {
        match self.open_at(name, OFlag::O_DIRECTORY | OFlag::O_RDONLY, Mode::empty()) {
            Ok(fd) => Ok(Some(Self { fd, path: self.child(name) })),
            Err(Errno::ENOENT) => Ok(None),
            Err(errno) => Err(self.error("open", name, errno)),
        }
    }

    /// A folder in this one, made (0755) where there is none.
    pub(crate) fn dir_or_new(&self, name: &str) -> Result<Self, Error> {
        if let Some(dir) = self.dir(name)? {
            return Ok(dir);
        }
        self.make_dir(name)?;
        self.dir(name)?.ok_or_else(|| self.error("open", name, Errno::ENOENT))
    }

    /// Makes a folder in this one (0755, whatever the umask).
    pub(crate) fn make_dir(&self, name: &str) -> Result<(), Error> {
        let mode = Mode::from_bits_truncate(0o755);
        mkdirat(&self.fd, name, mode)
            .and_then(|()| fchmodat(&self.fd, name, mode, FchmodatFlags::NoFollowSymlink))
            .map_err(|errno| self.error("make", name, errno))
    }

    /// Opens the lock file; with [`lock::Mode::Create`] it is made (0600) where there is none.
    ///
    /// A writer takes away everybody else's right to open it: who can open it can lock it
    /// (`flock(2)`), and an ordinary user could keep the node from starting containers. The
    /// original's lock file was open to all.
    pub(crate) fn lock_file(&self, name: &str, mode: lock::Mode) -> Result<File, Error> {
        let (flags, bits) = match mode {
            lock::Mode::Create => (OFlag::O_RDWR | OFlag::O_CREAT, Mode::from_bits_truncate(0o600)),
            lock::Mode::Exclusive => (OFlag::O_RDWR, Mode::empty()),
            lock::Mode::Shared => (OFlag::O_RDONLY, Mode::empty()),
        };
        let fd = self.open_at(name, flags | OFlag::O_NONBLOCK, bits);
        let file = File::from(fd.map_err(|errno| self.error("open", name, errno))?);
        let metadata = file.metadata().map_err(|e| self.io_error("read", name, e))?;
        if !metadata.is_file() {
            return Err(Error::NotAFile { path: self.child(name) });
        }
        if mode != lock::Mode::Shared && metadata.mode() & 0o177 != 0 {
            if metadata.nlink() > 1 {
                // Somebody else's file, whose permissions are not ours to change.
                let cause = "it has another name, too (a hard link)".into();
                return Err(Error::Malformed { path: self.child(name), cause });
            }
            let close = file.set_permissions(Permissions::from_mode(0o600));
            close.map_err(|e| self.io_error("close to others", name, e))?;
        }
        Ok(file)
    }

    /// The text of a plain file of at most `limit` bytes; none where there is none.
    pub(crate) fn read(&self, name: &str, limit: u64) -> Result<Option<Content>, Error> {
        // O_NONBLOCK: a FIFO put in a file's place must not make us wait.
        let file = match self.open_at(name, OFlag::O_RDONLY | OFlag::O_NONBLOCK, Mode::empty()) {
            Ok(fd) => File::from(fd),
            Err(Errno::ENOENT) => return Ok(None),
            Err(errno) => return Err(self.error("open", name, errno)),
        };
        let metadata = file.metadata().map_err(|e| self.io_error("read", name, e))?;
        if !metadata.is_file() {
            return Err(Error::NotAFile { path: self.child(name) });
        }
        let mut bytes = Vec::new();
        let read = file.take(limit + 1).read_to_end(&mut bytes);
        read.map_err(|e| self.io_error("read", name, e))?;
        if bytes.len() as u64 > limit {
            return Err(Error::TooLarge { path: self.child(name), limit });
        }
        let text = String::from_utf8(bytes)
            .map_err(|_| Error::Malformed { path: self.child(name), cause: "not text".into() })?;
        let modified = metadata.modified().map_err(|e| self.io_error("read", name, e))?;
        Ok(Some(Content { text, modified }))
    }

    /// The size of a plain file in bytes; 0 where there is none.
    pub(crate) fn size(&self, name: &str) -> Result<u64, Error> {
        match fstatat(&self.fd, name, AtFlags::AT_SYMLINK_NOFOLLOW) {
            Ok(stat)
                if SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT == SFlag::S_IFREG =>
            {
                Ok(stat.st_size.unsigned_abs())
            }
            Ok(_) => Err(Error::NotAFile { path: self.child(name) }),
            Err(Errno::ENOENT) => Ok(0),
            Err(errno) => Err(self.error("read", name, errno)),
        }
    }

    /// Device and inode of a name, or of this folder itself for `.`; none where there is none.
    pub(crate) fn identity(&self, name: &str) -> Result<Option<(u64, u64)>, Error> {
        match fstatat(&self.fd, name, AtFlags::AT_SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some((stat.st_dev, stat.st_ino))),
            Err(Errno::ENOENT) => Ok(None),
            Err(errno) => Err(self.error("read", name, errno)),
        }
    }

    /// The names in this folder, without `.` and `..`, in no order; names that are not UTF-8 are
    /// given with replacement characters, which no valid name has.
    pub(crate) fn entries(&self) -> Result<Vec<Entry>, Error> {
        let failed = |errno| Error::io("list", &self.path, errno);
        let fd = self.open_at(".", OFlag::O_DIRECTORY | OFlag::O_RDONLY, Mode::empty());
        let mut dir = nix::dir::Dir::from_fd(fd.map_err(failed)?).map_err(failed)?;
        let mut entries = Vec::new();
        for entry in dir.iter() {
            let entry = entry.map_err(failed)?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if matches!(name.as_str(), "." | "..") {
                continue;
            }
            let is_dir = match entry.file_type() {
                Some(kind) => kind == nix::dir::Type::Directory,
                // Some file systems do not say (readdir(3), DT_UNKNOWN).
                None => fstatat(&self.fd, entry.file_name(), AtFlags::AT_SYMLINK_NOFOLLOW)
                    .is_ok_and(|s| s.st_mode & libc::S_IFMT == libc::S_IFDIR),
            };
            entries.push(Entry { name, is_dir });
        }
        Ok(entries)
    }

    /// Writes a new file (0644, whatever the umask); none where the name is taken. Until it is
    /// whole, nobody else may open it: `prepare` has it alone.
    pub(crate) fn create(
        &self,
        name: &str,
        content: &str,
        prepare: impl FnOnce(&File) -> std::io::Result<()>,
    ) -> Result<Option<File>, Error> {
        let flags = OFlag::O_RDWR | OFlag::O_CREAT | OFlag::O_EXCL;
        let mut file = match self.open_at(name, flags, Mode::from_bits_truncate(0o600)) {
            Ok(fd) => File::from(fd),
            Err(Errno::EEXIST) => return Ok(None),
            Err(errno) => return Err(self.error("create", name, errno)),
        };
        prepare(&file).map_err(|e| self.io_error("lock", name, e))?;
        file.write_all(content.as_bytes())
            .and_then(|()| file.set_permissions(Permissions::from_mode(0o644)))
            .map_err(|e| self.io_error("write", name, e))?;
        Ok(Some(file))
    }

    /// Whether anybody has an OFD write lock on a plain file (`F_OFD_GETLK`, fcntl_locking(2)); a
    /// read lock, which whoever may read the file can take, does not count.
    pub(crate) fn is_write_locked(&self, name: &str) -> Result<bool, Error> {
        match self.open_at(name, OFlag::O_RDONLY | OFlag::O_NONBLOCK, Mode::empty()) {
            Ok(fd) => hold::is_write_locked(&fd).map_err(|errno| self.error("read", name, errno)),
            Err(Errno::ENOENT) => Ok(false),
            Err(errno) => Err(self.error("open", name, errno)),
        }
    }

    /// Writes a new file that outlives a power cut.
    pub(crate) fn create_synced(&self, name: &str, content: &str) -> Result<(), Error> {
        if self.create(name, content, |_| Ok(()))?.is_none() {
            return Err(self.error("create", name, Errno::EEXIST));
        }
        let fd = self.open_at(name, OFlag::O_RDONLY, Mode::empty());
        fd.and_then(|fd| fsync(fd.as_fd())).map_err(|errno| self.error("sync", name, errno))
    }

    pub(crate) fn rename(&self, from: &str, to_dir: &Self, to: &str) -> Result<(), Error> {
        renameat(&self.fd, from, &to_dir.fd, to).map_err(|errno| to_dir.error("replace", to, errno))
    }

    /// Removes a file; none there is fine.
    pub(crate) fn remove(&self, name: &str) -> Result<(), Error> {
        match unlinkat(&self.fd, name, UnlinkatFlags::NoRemoveDir) {
            Ok(()) | Err(Errno::ENOENT) => Ok(()),
            Err(errno) => Err(self.error("remove", name, errno)),
        }
    }

    /// Removes a folder with all that is in it; none there is fine.
    pub(crate) fn remove_tree(&self, name: &str) -> Result<(), Error> {
        let Some(dir) = self.dir(name)? else { return Ok(()) };
        for entry in dir.entries()? {
            if entry.is_dir { dir.remove_tree(&entry.name)? } else { dir.remove(&entry.name)? }
        }
        match unlinkat(&self.fd, name, UnlinkatFlags::RemoveDir) {
            Ok(()) | Err(Errno::ENOENT) => Ok(()),
            Err(errno) => Err(self.error("remove", name, errno)),
        }
    }

    pub(crate) fn sync(&self) -> Result<(), Error> {
        fsync(self.fd.as_fd()).map_err(|errno| Error::io("sync", &self.path, errno))
    }

    fn error(&self, action: &'static str, name: &str, errno: Errno) -> Error {
        Error::io(action, &self.child(name), errno)
    }

    fn io_error(&self, action: &'static str, name: &str, cause: std::io::Error) -> Error {
        Error::Io { action, path: self.child(name), cause }
    }
}

/// Device and inode of an open file.
pub(crate) fn identity_of(file: &File) -> std::io::Result<(u64, u64)> {
    file.metadata().map(|metadata| (metadata.dev(), metadata.ino()))
}
