//! Several files of the host's changed together: all or none.

use std::collections::BTreeSet;
use std::fs::{self, File, Metadata, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

use nix::unistd::{getegid, geteuid};

use super::trust::Place;
use super::{Error, regular};

/// A file as it is to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// An absolute path. A symbolic link there is followed.
    pub path: PathBuf,
    /// The content; none: no file.
    pub content: Option<Vec<u8>>,
    /// Permissions of a file of our own, which will be this user's; none: somebody else's file,
    /// which keeps its owner and permissions (0644 and this user's for a new one).
    pub mode: Option<u32>,
}

/// A file that is not as it is to be.
#[derive(Debug)]
pub struct Change {
    asked: PathBuf,
    path: PathBuf,
    old: Option<Old>,
    new: Option<Vec<u8>>,
    mode: u32,
    owner: (u32, u32),
}

#[derive(Debug)]
struct Old {
    content: Vec<u8>,
    metadata: Metadata,
}

impl Wanted {
    /// A file with this content.
    pub fn file(path: impl Into<PathBuf>, content: impl Into<Vec<u8>>, mode: Option<u32>) -> Self {
        Self { path: path.into(), content: Some(content.into()), mode }
    }

    /// No file.
    pub fn none(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), content: None, mode: None }
    }
}

impl Change {
    /// The path that was asked for.
    pub fn asked(&self) -> &Path {
        &self.asked
    }

    /// The file itself, where that is a symbolic link.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What is there now; none for a new file.
    pub fn before(&self) -> Option<&[u8]> {
        self.old.as_ref().map(|old| old.content.as_slice())
    }

    /// What is to be there; none for a file that is to go.
    pub fn after(&self) -> Option<&[u8]> {
        self.new.as_deref()
    }

    fn of(wanted: Wanted) -> Result<Option<Self>, Error> {
        let path = Place::find(&wanted.path)?.real().to_owned();
        let old = read_old(&path).map_err(|e| Error::io("read", &path, &e))?;
        let old_mode = old.as_ref().map(|old| old.metadata.mode() & 0o7777);
        let mode = wanted.mode.or(old_mode).unwrap_or(0o644);
        let this_user = (geteuid().as_raw(), getegid().as_raw());
        let old_owner = old.as_ref().map(|old| (old.metadata.uid(), old.metadata.gid()));
        let owner = match wanted.mode {
            Some(_) => this_user,
            None => old_owner.unwrap_or(this_user),
        };
        let is_so = match (&old, &wanted.content) {
            (Some(old), Some(new)) => {
                old.content == *new && old_mode == Some(mode) && old_owner == Some(owner)
            }
            (None, None) => true,
            _ => false,
        };
        let asked = wanted.path;
        Ok((!is_so).then_some(Self { asked, path, old, new: wanted.content, mode, owner }))
    }

    /// Where the new content is while everything is staged.
    pub fn staged(&self) -> PathBuf {
        self.beside("kcm-new")
    }

    /// Whether it is a program that is to be there.
    pub fn is_program(&self) -> bool {
        self.new.is_some() && self.mode & 0o111 != 0
    }

    fn beside(&self, suffix: &str) -> PathBuf {
        let name = self.path.file_name().unwrap_or_default().to_string_lossy();
        self.path.with_file_name(format!(".{name}.{suffix}"))
    }

    /// The new content, whole and on disk, beside its place.
    fn stage(&self) -> io::Result<()> {
        let Some(content) = &self.new else { return Ok(()) };
        let path = self.staged();
        remove_if_there(&path)?;
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
        file.write_all(content)?;
        let made = file.metadata()?;
        if (made.uid(), made.gid()) != self.owner {
            fchown(&file, Some(self.owner.0), Some(self.owner.1))?;
        }
        file.set_permissions(Permissions::from_mode(self.mode))?;
        file.sync_all()
    }

    /// Has the folder show that names can be moved and, for an old file, doubled there, while
    /// nothing has changed: not every file system can (FAT has no second names).
    fn try_names(&self) -> io::Result<()> {
        if self.new.is_some() {
            let tried = self.beside("kcm-try");
            fs::rename(self.staged(), &tried)?;
            fs::rename(&tried, self.staged())?;
        }
        if self.old.is_some() {
            remove_if_there(&self.kept())?;
            fs::hard_link(&self.path, self.kept())?;
        }
        Ok(())
    }

    /// The old file keeps a second name until all is done.
    fn kept(&self) -> PathBuf {
        self.beside("kcm-old")
    }

    fn put_in_place(&self) -> io::Result<()> {
        match self.new {
            Some(_) => fs::rename(self.staged(), &self.path),
            None => fs::remove_file(&self.path),
        }
    }

    fn take_back(&self) -> io::Result<()> {
        match self.old {
            Some(_) => fs::rename(self.kept(), &self.path),
            None => remove_if_there(&self.path),
        }
    }
}

/// Bytes of a file that is changed or installed: the largest is a program of ours.
const LIMIT: u64 = 64 << 20;

fn read_old(path: &Path) -> io::Result<Option<Old>> {
    let file = match regular::open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(e),
    };
    let metadata = file.metadata()?;
    Ok(Some(Old { content: regular::read_open(file, LIMIT)?, metadata }))
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}

/// What is not as it is wanted, in that order; of several for one file the last counts.
pub fn changes(wanted: Vec<Wanted>) -> Result<Vec<Change>, Error> {
    let mut seen = BTreeSet::new();
    let mut last: Vec<Wanted> = Vec::new();
    for file in wanted.into_iter().rev() {
        if seen.insert(file.path.clone()) {
            last.push(file);
        }
    }
    let changes = last.into_iter().rev().map(Change::of);
    changes.filter_map(Result::transpose).collect()
}

/// Makes all changes, in their order, or, on an error, none. What is interrupted (power, SIGKILL)
/// has made some, each whole, and is completed by being run again.
pub fn apply(changes: &[Change]) -> Result<(), Error> {
    apply_unless(changes, || Ok(()))
}

/// Does so unless `objection` fails, which is asked when all is staged and nothing has changed.
pub fn apply_unless<E: From<Error>>(
    changes: &[Change],
    objection: impl FnOnce() -> Result<(), E>,
) -> Result<(), E> {
    let mut folders = Vec::new();
    let staged = stage_all(changes, &mut folders).map_err(E::from);
    let done = staged.and_then(|()| objection());
    let done = done.and_then(|()| put_all_in_place(changes).map_err(E::from));
    for change in changes {
        // All that is left of them is names of ours.
        for name in ["kcm-new", "kcm-try", "kcm-old"] {
            let _ = remove_if_there(&change.beside(name));
        }
    }
    if done.is_err() {
        for folder in folders.iter().rev() {
            let _ = fs::remove_dir(folder);
        }
    }
    done
}

fn stage_all(changes: &[Change], folders: &mut Vec<PathBuf>) -> Result<(), Error> {
    for change in changes.iter().filter(|change| change.new.is_some()) {
        if let Some(parent) = change.path.parent() {
            make_folders(parent, folders).map_err(|e| Error::io("make", parent, &e))?;
        }
        change.stage().map_err(|e| Error::io("write", &change.staged(), &e))?;
    }
    for change in changes {
        change.try_names().map_err(|e| Error::io("give second names beside", &change.path, &e))?;
    }
    Ok(())
}

fn put_all_in_place(changes: &[Change]) -> Result<(), Error> {
    for (number, change) in changes.iter().enumerate() {
        if let Err(error) = change.put_in_place() {
            let failed = Error::io("replace", &change.path, &error);
            let back = changes[..number].iter().rev();
            let back: Vec<Error> = back
                .filter_map(|c| c.take_back().err().map(|e| Error::io("put back", &c.path, &e)))
                .collect();
            return Err(back.into_iter().next().unwrap_or(failed));
        }
    }
    // The names are in place; whether they outlast a power cut is for the disk to say.
    let parents: BTreeSet<&Path> = changes.iter().filter_map(|c| c.path.parent()).collect();
    for parent in parents {
        if let Ok(folder) = File::open(parent) {
            let _ = folder.sync_all();
        }
    }
    Ok(())
}

/// Makes a folder with those above it, and notes which are new.
fn make_folders(path: &Path, made: &mut Vec<PathBuf>) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    if let Some(parent) = path.parent() {
        make_folders(parent, made)?;
    }
    fs::create_dir(path)?;
    made.push(path.to_owned());
    // Whatever the caller's umask is: engines and pods look into them.
    fs::set_permissions(path, Permissions::from_mode(0o755))
}

/// A whole file; none where there is none.
pub fn read(path: &Path) -> Result<Option<Vec<u8>>, Error> {
    let old = read_old(path).map_err(|e| Error::io("read", path, &e))?;
    Ok(old.map(|old| old.content))
}

/// The same, as text.
pub fn read_text(path: &Path) -> Result<Option<String>, Error> {
    let Some(bytes) = read(path)? else { return Ok(None) };
    let text = String::from_utf8(bytes).map_err(|_| Error::malformed(path, "it is no text"))?;
    Ok(Some(text))
}

/// The files of a folder whose names end so, sorted; none where there is no folder.
pub fn with_suffix(folder: &Path, suffix: &str) -> Result<Vec<PathBuf>, Error> {
    let entries = super::list(folder)?.into_iter();
    let names = entries.filter(|entry| entry.file_name().to_string_lossy().ends_with(suffix));
    let mut paths: Vec<PathBuf> = names.map(|entry| entry.path()).collect();
    paths.sort();
    Ok(paths)
}

/// Removes a folder if nothing is in it.
pub fn remove_if_empty(folder: &Path) {
    // Most often it is not empty.
    let _ = fs::remove_dir(folder);
}

#[cfg(test)]
mod tests;
