//! A folder held open, below which no symbolic link is followed.
//!
//! Whoever may write the configuration directory (a pod that mounts it for `kcm isolate`) must not
//! be able to make a root process read or write elsewhere: every name is opened relative to a
//! descriptor by `openat2(2)` with `RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS`.

use std::fs::{File, Permissions};
use std::io::{Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use nix::errno::Errno;
use nix::fcntl::{
    AtFlags, OFlag, OpenHow, RenameFlags, ResolveFlag, openat2, readlinkat, renameat, renameat2,
};
use nix::sys::stat::{FchmodatFlags, FileStat, Mode, SFlag, fchmodat, fstat, fstatat, mkdirat};
use nix::unistd::{UnlinkatFlags, fsync, linkat, symlinkat, unlinkat};

use super::contents::ASIDE_SUFFIX;
use super::{Error, hold, lock};

/// A folder held open, with its path for messages.
#[derive(Debug)]
pub(crate) struct Dir {
    pub(super) fd: OwnedFd,
    pub(super) path: PathBuf,
}

/// A plain file that was found and not opened.
struct Found {
    fd: OwnedFd,
    stat: FileStat,
}

/// What is at a path.
pub(crate) struct Looked {
    pub(crate) is_file: bool,
    pub(crate) size: u64,
    /// When it was last written, in seconds since 1970, unless somebody has set it.
    pub(crate) modified: i64,
}

const LOCK_FILE: Plain = Plain { limit: 0, remedy: "remove it" };

/// A name in a folder.
pub(crate) struct Entry {
    pub(crate) name: String,
    pub(crate) is_dir: bool,
}

/// What is expected of a file, and what to do where it is otherwise.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plain {
    /// The most that is read of it, in bytes.
    pub(crate) limit: u64,
    /// What is safe to do about one that is larger, something else than a file, or damaged.
    pub(crate) remedy: &'static str,
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

    /// Finds what has this name without opening it, which alone can act where it is a device or a
    /// socket (`O_PATH`, open(2)). None where there is none.
    fn find(&self, name: &str, plain: Plain) -> Result<Option<Found>, Error> {
        let fd = match self.open_at(name, OFlag::O_PATH | OFlag::O_NOFOLLOW, Mode::empty()) {
            Ok(fd) => fd,
            Err(Errno::ENOENT) => return Ok(None),
            Err(errno) => return Err(self.error("open", name, errno)),
        };
        let stat = fstat(&fd).map_err(|errno| self.error("read", name, errno))?;
        match what(&stat) {
            None => Ok(Some(Found { fd, stat })),
            Some(what) => {
                Err(Error::NotAFile { path: self.child(name), what, remedy: plain.remedy })
            }
        }
    }

    /// Opens what was found to be a plain file, and no other.
    fn open_found(&self, name: &str, found: &Found, flags: OFlag) -> Result<File, Error> {
        let path = format!("/proc/self/fd/{}", found.fd.as_raw_fd());
        let fd = nix::fcntl::open(path.as_str(), flags | OFlag::O_CLOEXEC, Mode::empty());
        match fd {
            Err(Errno::ENOENT) => self.open_seen(name, found, flags),
            fd => fd.map(File::from).map_err(|errno| self.error("open", name, errno)),
        }
    }

    /// Where no `/proc` is mounted, as in another root: by its name once more, which must be that of
    /// the same file.
    fn open_seen(&self, name: &str, found: &Found, flags: OFlag) -> Result<File, Error> {
        let fd = self.open_at(name, flags | OFlag::O_NONBLOCK | OFlag::O_NOCTTY, Mode::empty());
        let file = File::from(fd.map_err(|errno| self.error("open", name, errno))?);
        let identity = identity_of(&file).map_err(|e| self.io_error("read", name, e))?;
        match identity == (found.stat.st_dev, found.stat.st_ino) {
            true => Ok(file),
            // As if it had been removed in between.
            false => Err(self.error("open", name, Errno::ENOENT)),
        }
    }

    /// Opens the lock file; with [`lock::Mode::Create`] it is made (0600) where there is none.
    ///
    /// A writer takes away everybody else's right to open it: who can open it can lock it
    /// (`flock(2)`), and an ordinary user could keep the node from starting containers. The
    /// original's lock file was open to all.
    pub(crate) fn lock_file(&self, name: &str, mode: lock::Mode) -> Result<File, Error> {
        if mode == lock::Mode::Create {
            let flags = OFlag::O_RDWR | OFlag::O_CREAT | OFlag::O_EXCL;
            match self.open_at(name, flags, Mode::from_bits_truncate(0o600)) {
                Ok(fd) => return Ok(File::from(fd)),
                Err(Errno::EEXIST) => {}
                Err(errno) => return Err(self.error("open", name, errno)),
            }
        }
        let missing = || self.error("open", name, Errno::ENOENT);
        let found = self.find(name, LOCK_FILE)?.ok_or_else(missing)?;
        let is_shared = mode == lock::Mode::Shared;
        if !is_shared && found.stat.st_mode & 0o177 != 0 {
            if found.stat.st_nlink > 1 {
                // Somebody else's file, whose permissions are not ours to change.
                let (path, remedy) = (self.child(name), LOCK_FILE.remedy);
                let cause = "it has another name, too (a hard link)".into();
                return Err(Error::Malformed { path, cause, remedy });
            }
            let file = self.open_found(name, &found, OFlag::O_RDWR)?;
            let close = file.set_permissions(Permissions::from_mode(0o600));
            close.map_err(|e| self.io_error("close to others", name, e))?;
            return Ok(file);
        }
        self.open_found(name, &found, if is_shared { OFlag::O_RDONLY } else { OFlag::O_RDWR })
    }

    /// The content of a plain file; none where there is none.
    pub(crate) fn read(&self, name: &str, plain: Plain) -> Result<Option<Vec<u8>>, Error> {
        let Some(found) = self.find(name, plain)? else { return Ok(None) };
        let Plain { limit, remedy } = plain;
        let too_large = || Error::TooLarge { path: self.child(name), limit, remedy };
        let size = found.stat.st_size.unsigned_abs();
        if size > limit {
            return Err(too_large());
        }
        let file = self.open_found(name, &found, OFlag::O_RDONLY)?;
        // As far as it went when it was found: whoever writes it anew gives another file its name.
        let mut bytes = Vec::with_capacity(usize::try_from(size).unwrap_or_default());
        let read = file.take(size).read_to_end(&mut bytes);
        read.map_err(|e| self.io_error("read", name, e))?;
        Ok(Some(bytes))
    }

    /// The text of a plain file; none where there is none.
    pub(crate) fn read_text(&self, name: &str, plain: Plain) -> Result<Option<String>, Error> {
        let Some(bytes) = self.read(name, plain)? else { return Ok(None) };
        String::from_utf8(bytes).map(Some).map_err(|_| Error::Malformed {
            path: self.child(name),
            cause: "not text".into(),
            remedy: plain.remedy,
        })
    }

    /// What is at a path below this folder, with nothing opened and no link followed; none where
    /// there is nothing.
    pub(crate) fn look(&self, path: &str) -> Result<Option<Looked>, Error> {
        match fstatat(&self.fd, path, AtFlags::AT_SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(Looked {
                is_file: what(&stat).is_none(),
                size: stat.st_size.unsigned_abs(),
                modified: stat.st_mtime,
            })),
            Err(Errno::ENOENT) => Ok(None),
            Err(errno) => Err(self.error("read", path, errno)),
        }
    }

    /// Gives a file of this folder a second name in another folder (a hard link), in place of
    /// whatever has that name. Whether it did: some file systems have no hard links.
    pub(crate) fn link(&self, name: &str, to_dir: &Self, to: &str) -> Result<bool, Error> {
        let link = || linkat(&self.fd, name, &to_dir.fd, to, AtFlags::empty());
        let linked = match link() {
            Err(Errno::EEXIST) => {
                to_dir.remove(to)?;
                link()
            }
            linked => linked,
        };
        match linked {
            Ok(()) => Ok(true),
            Err(Errno::EPERM | Errno::EOPNOTSUPP | Errno::EMLINK | Errno::ENOSYS) => Ok(false),
            Err(errno) => Err(to_dir.error("link", to, errno)),
        }
    }

    /// The target of a symbolic link, which is not followed; none where there is none.
    pub(crate) fn read_link(&self, name: &str) -> Option<String> {
        readlinkat(&self.fd, name).ok()?.into_string().ok()
    }

    /// Makes a symbolic link that is never followed, in place of one of that name.
    pub(crate) fn set_link(&self, name: &str, target: &str, staged: &str) -> Result<(), Error> {
        self.remove(staged)?;
        match symlinkat(target, &self.fd, staged) {
            Ok(()) => self.rename(staged, self, name),
            // A file system without any.
            Err(Errno::EPERM | Errno::EOPNOTSUPP) => Ok(()),
            Err(errno) => Err(self.error("make", staged, errno)),
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

    /// Writes a new file (0644, whatever the umask); none where the name is taken.
    pub(crate) fn create(&self, name: &str, content: &str) -> Result<Option<File>, Error> {
        let flags = OFlag::O_RDWR | OFlag::O_CREAT | OFlag::O_EXCL;
        let mut file = match self.open_at(name, flags, Mode::from_bits_truncate(0o600)) {
            Ok(fd) => File::from(fd),
            Err(Errno::EEXIST) => return Ok(None),
            Err(errno) => return Err(self.error("create", name, errno)),
        };
        file.write_all(content.as_bytes())
            .and_then(|()| file.set_permissions(Permissions::from_mode(0o644)))
            .map_err(|e| self.io_error("write", name, e))?;
        Ok(Some(file))
    }

    /// Whether anybody has an OFD write lock on a plain file (`F_OFD_GETLK`, fcntl_locking(2)); a
    /// read lock, which whoever may read the file can take, does not count.
    pub(crate) fn is_write_locked(&self, name: &str, plain: Plain) -> Result<bool, Error> {
        let Some(found) = self.find(name, plain)? else { return Ok(false) };
        let file = self.open_found(name, &found, OFlag::O_RDONLY)?;
        hold::is_write_locked(&file).map_err(|errno| self.error("read", name, errno))
    }

    /// Writes a new file that outlives a power cut, dated where a time is given.
    pub(crate) fn create_synced(
        &self,
        name: &str,
        content: &str,
        modified: Option<SystemTime>,
    ) -> Result<(), Error> {
        let exists = || self.error("create", name, Errno::EEXIST);
        let file = self.create(name, content)?.ok_or_else(exists)?;
        let dated = modified.map_or(Ok(()), |time| file.set_modified(time));
        dated.map_err(|e| self.io_error("date", name, e))?;
        fsync(&file).map_err(|errno| self.error("sync", name, errno))
    }

    pub(crate) fn rename(&self, from: &str, to_dir: &Self, to: &str) -> Result<(), Error> {
        renameat(&self.fd, from, &to_dir.fd, to).map_err(|errno| to_dir.error("replace", to, errno))
    }

    /// Gives a file of this folder the name in another folder; a folder of that name, which no file takes
    /// the place of, is set aside.
    pub(crate) fn replace(&self, from: &str, to_dir: &Self, to: &str) -> Result<(), Error> {
        match self.rename(from, to_dir, to) {
            Err(error) if error.is_folder() => {
                to_dir.set_aside(to, &format!("{to}{ASIDE_SUFFIX}"))?;
                self.rename(from, to_dir, to)
            }
            result => result,
        }
    }

    /// Keeps whatever has this name beside it, by the first free of ten names; nothing there is
    /// fine.
    pub(crate) fn set_aside(&self, name: &str, kept: &str) -> Result<(), Error> {
        let names = std::iter::once(kept.to_owned());
        let names = names.chain((1..10).map(|number| format!("{kept}.{number}")));
        for kept in names {
            let flags = RenameFlags::RENAME_NOREPLACE;
            match renameat2(&self.fd, name, &self.fd, kept.as_str(), flags) {
                Ok(()) | Err(Errno::ENOENT) => return Ok(()),
                Err(Errno::EEXIST) => {}
                Err(errno) => return Err(self.error("set aside", name, errno)),
            }
        }
        Err(Error::Malformed {
            path: self.child(kept),
            cause: "ten files were set aside here already".into(),
            remedy: "look at them, and remove them",
        })
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

/// What something is that is no plain file; none for one.
fn what(stat: &FileStat) -> Option<&'static str> {
    Some(match SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT {
        SFlag::S_IFREG => return None,
        SFlag::S_IFLNK => "a symbolic link, which is not followed here",
        SFlag::S_IFDIR => "a folder",
        SFlag::S_IFIFO => "a FIFO",
        SFlag::S_IFSOCK => "a socket",
        SFlag::S_IFCHR | SFlag::S_IFBLK => "a device",
        _ => "something else",
    })
}

/// Device and inode of an open file.
pub(crate) fn identity_of(file: &File) -> std::io::Result<(u64, u64)> {
    file.metadata().map(|metadata| (metadata.dev(), metadata.ino()))
}
