//! Whether a place is root's alone: nobody else may write what is there, or put something else in
//! its place. Engines run the hook as root at every container's start, so whoever could would be root.
//!
//! The path is walked as path_resolution(7) has it, from `/` down: every folder on the way, that of
//! each link, too, must belong to root and be writable by root alone. Whose a link is does not
//! matter in such a folder, since nobody else can replace it. In a sticky folder of root's, as
//! `/tmp` is, everybody may make names, but replace only his own: what is root's there is safe.
//!
//! Of an access control list the group's permission bits show the mask, which bounds whatever it
//! grants (acl(5)); so they tell of it, and `chmod go-w` takes it away.

use std::ffi::OsString;
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

use nix::sys::statvfs::{FsFlags, statvfs};

use super::Error;
use super::mounts::Mount;

/// As many as the kernel follows (path_resolution(7)).
const MAX_LINKS: usize = 40;

const WRITABLE_BY_OTHERS: u32 = 0o022;
const STICKY: u32 = 0o1000;

/// Why a place does not serve.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", self.cause())]
pub struct Unfit {
    at: PathBuf,
    /// The last link that led there.
    link: Option<PathBuf>,
    why: Why,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Why {
    /// It is this user's.
    Owner(u32),
    /// Others may write it; its permissions.
    Writable(u32),
    /// It is the root of a file system that this user serves.
    Served(u32),
    /// A mount in a sticky folder, whose mount point may be anybody's.
    MountedInSticky,
    /// Nothing is executed there; the mount point.
    NoExec(PathBuf),
    /// Nothing is written there; the mount point.
    ReadOnly(PathBuf),
}

impl Unfit {
    fn cause(&self) -> String {
        let at = self.at.display();
        let by = match &self.link {
            Some(link) => format!(" (by the link {})", link.display()),
            None => String::new(),
        };
        match &self.why {
            Why::Owner(uid) => format!("{at}{by} belongs to user {uid}, and not to root"),
            Why::Writable(mode) => {
                format!("{at}{by} can be written by others than root (mode {:04o})", mode & 0o7777)
            }
            Why::Served(uid) => format!("user {uid} serves the file system on {at}{by}"),
            Why::MountedInSticky => {
                format!("{at}{by} is a mount in a folder where everybody may make folders")
            }
            Why::NoExec(mount) => format!(
                "{at}{by} is on a file system where no program can be run: {} is mounted noexec",
                mount.display()
            ),
            Why::ReadOnly(mount) => format!(
                "{at}{by} cannot be written: Read-only file system, mounted on {}",
                mount.display()
            ),
        }
    }

    /// What mends it: a command, as root.
    pub fn remedy(&self) -> String {
        let at = self.at.display();
        match (&self.why, &self.link) {
            (Why::Owner(_) | Why::Writable(_) | Why::Served(_), Some(link)) => {
                format!("take the link away: rm {}", link.display())
            }
            (Why::Owner(_), None) => format!("chown -h root:root {at}"),
            (Why::Writable(_), None) => format!("chmod go-w {at}"),
            (Why::Served(_) | Why::MountedInSticky, _) => format!("umount {at}"),
            (Why::NoExec(mount), _) => {
                format!("mount -o remount,exec {} (and in /etc/fstab)", mount.display())
            }
            (Why::ReadOnly(mount), _) => {
                format!("mount -o remount,rw {} (and in /etc/fstab)", mount.display())
            }
        }
    }
}

/// A path as the kernel resolves it.
#[derive(Debug)]
pub struct Place {
    real: PathBuf,
    folder: PathBuf,
    file: Option<Metadata>,
    unfit: Option<Unfit>,
    link: Option<PathBuf>,
}

impl Place {
    /// Walks an absolute path; what is not there yet need not be.
    pub fn find(path: &Path) -> Result<Self, Error> {
        Walk::new(path).run().map_err(|e| Error::io("look at", path, &e))
    }

    /// The path without links, also where it is not there yet.
    pub fn real(&self) -> &Path {
        &self.real
    }

    /// Why others than root may put something there, or in the place of what is there.
    pub fn replaceable(&self) -> Option<Unfit> {
        self.unfit.clone()
    }

    /// The same, or write to the file that is there.
    pub fn writable(&self) -> Option<Unfit> {
        let of_file = self.file.as_ref().and_then(|file| why(file, false));
        let of_file =
            of_file.map(|why| Unfit { at: self.real.clone(), link: self.link.clone(), why });
        self.unfit.clone().or(of_file)
    }

    /// Why no program there can be run: the mount's flag.
    pub fn not_executable(&self) -> Result<Option<Unfit>, Error> {
        self.mounted(FsFlags::ST_NOEXEC, Why::NoExec)
    }

    /// Why nothing can be written there: the mount's flag.
    pub fn read_only(&self) -> Result<Option<Unfit>, Error> {
        self.mounted(FsFlags::ST_RDONLY, Why::ReadOnly)
    }

    fn mounted(&self, flag: FsFlags, why: fn(PathBuf) -> Why) -> Result<Option<Unfit>, Error> {
        // The file itself may be mounted.
        let at = if self.file.is_some() { &self.real } else { &self.folder };
        let flags = statvfs(at).map_err(|errno| Error::io("look at", at, &errno.into()))?.flags();
        if !flags.contains(flag) {
            return Ok(None);
        }
        let mount = Mount::of(at).map_or_else(|| self.folder.clone(), |mount| mount.point);
        Ok(Some(Unfit { at: at.clone(), link: self.link.clone(), why: why(mount) }))
    }
}

/// Why others than root may write to this very file or folder, whatever lies above it; none for a
/// link, and for what is not there.
pub fn of_itself(path: &Path) -> Result<Option<Unfit>, Error> {
    match fs::symlink_metadata(path) {
        Ok(found) if found.is_symlink() => Ok(None),
        Ok(found) => {
            Ok(why(&found, false).map(|why| Unfit { at: path.to_owned(), link: None, why }))
        }
        Err(e) if super::is_gone(&e) => Ok(None),
        Err(e) => Err(Error::io("look at", path, &e)),
    }
}

/// Why a file or folder is not root's alone.
fn why(metadata: &Metadata, may_be_sticky: bool) -> Option<Why> {
    let mode = metadata.mode();
    let is_sticky = may_be_sticky && mode & STICKY != 0;
    match metadata.uid() {
        0 if mode & WRITABLE_BY_OTHERS != 0 && !is_sticky => Some(Why::Writable(mode)),
        0 => None,
        uid => Some(Why::Owner(uid)),
    }
}

struct Walk {
    /// What is still to be resolved, the next at the end.
    todo: Vec<OsString>,
    /// The folder that was reached: no link in its path.
    at: PathBuf,
    links: usize,
    link: Option<PathBuf>,
    unfit: Option<Unfit>,
}

impl Walk {
    fn new(path: &Path) -> Self {
        let mut walk =
            Self { todo: Vec::new(), at: PathBuf::from("/"), links: 0, link: None, unfit: None };
        walk.push(path);
        walk
    }

    fn push(&mut self, path: &Path) {
        let words = path.components().rev().filter(|word| !matches!(word, Component::CurDir));
        self.todo.extend(words.map(|word| word.as_os_str().to_owned()));
    }

    fn run(mut self) -> io::Result<Place> {
        let mut folder = fs::symlink_metadata("/")?;
        self.enter("/".into(), &folder);
        while let Some(word) = self.todo.pop() {
            if word == "/" || word == ".." {
                let to = if word == "/" { None } else { self.at.parent() };
                self.at = to.unwrap_or(Path::new("/")).to_owned();
                folder = fs::symlink_metadata(&self.at)?;
                continue;
            }
            let next = self.at.join(&word);
            let metadata = match fs::symlink_metadata(&next) {
                Ok(metadata) => metadata,
                Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(self.missing(&next)),
                Err(e) => return Err(e),
            };
            self.must_be_roots_in_a_sticky(&folder, &next, &metadata);
            if metadata.is_symlink() {
                self.links += 1;
                if self.links > MAX_LINKS {
                    return Err(io::Error::from_raw_os_error(libc::ELOOP));
                }
                self.push(&fs::read_link(&next)?);
                self.link = Some(next);
            } else if metadata.is_dir() {
                self.enter(next, &metadata);
                folder = metadata;
            } else if self.todo.is_empty() {
                return Ok(self.there(next, metadata));
            } else {
                return Err(io::Error::from_raw_os_error(libc::ENOTDIR));
            }
        }
        let real = self.at.clone();
        let folder = real.clone();
        Ok(Place { real, folder, file: None, unfit: self.unfit, link: self.link })
    }

    fn enter(&mut self, folder: PathBuf, metadata: &Metadata) {
        if let Some(why) = why(metadata, true) {
            self.say(&folder, why);
        }
        if let Some(uid) = Mount::at(&folder).and_then(|mount| mount.served_by) {
            self.say(&folder, Why::Served(uid));
        }
        self.at = folder;
    }

    /// Whoever made a name in a folder where everybody may is whose it is.
    fn must_be_roots_in_a_sticky(&mut self, folder: &Metadata, next: &Path, metadata: &Metadata) {
        if folder.mode() & WRITABLE_BY_OTHERS == 0 {
            return;
        }
        if metadata.uid() != 0 {
            self.say(next, Why::Owner(metadata.uid()));
        } else if Mount::at(next).is_some() {
            self.say(next, Why::MountedInSticky);
        }
    }

    /// The first counts: what comes after may be anybody's doing.
    fn say(&mut self, at: &Path, why: Why) {
        if self.unfit.is_none() {
            self.unfit = Some(Unfit { at: at.to_owned(), link: self.link.clone(), why });
        }
    }

    fn there(self, real: PathBuf, file: Metadata) -> Place {
        Place { real, folder: self.at, file: Some(file), unfit: self.unfit, link: self.link }
    }

    /// What is made there will be root's.
    fn missing(mut self, next: &Path) -> Place {
        self.todo.reverse();
        let real = self.todo.iter().fold(next.to_owned(), |path, word| path.join(word));
        Place { real, folder: self.at, file: None, unfit: self.unfit, link: self.link }
    }
}
