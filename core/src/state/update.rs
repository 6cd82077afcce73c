//! Changing the configuration directory.

use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::fs::File;
use std::ops::Deref;
use std::path::PathBuf;
use std::rc::Rc;

use super::contents::{
    ALLOCATIONS, ASIDE_SUFFIX, BOOT, Contents, INDEX, PARTITION, TASKS, TASKS_FILE, dated,
};
use super::dir::{Dir, Plain};
use super::error::Error;
use super::hold::Hold;
use super::records::{INDEX_FILE, RECORD_FILE, read_index, record_name};
use crate::allocation::Owner;
use crate::partition::Policy;
use crate::plan::{Change, Slot};
use crate::pool::PoolName;
use crate::task::format_tasks;

/// Staged content. `.tmp-0` is staged first and renamed last, so whatever a killed process left is
/// there as long as `.tmp-0` is: the next writer finds leftovers without looking for them.
const STAGED: &str = ".tmp-";

const BOOT_STAGED: &str = ".tmp-boot";

/// The configuration directory, locked: the only thing that writes it.
#[derive(Debug)]
pub struct Update {
    contents: Contents,
    /// Made when it is first written to.
    allocations: OnceCell<Rc<Dir>>,
}

/// New content at its staged name, and where it belongs.
struct Staged {
    number: usize,
    target: Rc<Dir>,
    name: String,
}

impl Deref for Update {
    type Target = Contents;

    fn deref(&self) -> &Contents {
        &self.contents
    }
}

impl Update {
    pub(super) fn new(dir: Dir) -> Result<Self, Error> {
        let contents = Contents::new(dir)?;
        let allocations = contents.allocations.iter().cloned().map(OnceCell::from).next();
        Ok(Self { contents, allocations: allocations.unwrap_or_default() })
    }

    fn allocations(&self) -> Result<&Rc<Dir>, Error> {
        if let Some(dir) = self.allocations.get() {
            return Ok(dir);
        }
        let dir = self.contents.dir.dir_or_new(ALLOCATIONS)?;
        Ok(self.allocations.get_or_init(|| Rc::new(dir)))
    }

    pub(super) fn run<T, E>(self, change: impl FnOnce(&Self) -> Result<T, E>) -> Result<T, E> {
        change(&self)
    }

    /// Makes the changes, in their order; on an error before the first, none.
    pub fn apply(&self, changes: &[Change]) -> Result<(), Error> {
        self.apply_with(changes, false).map(drop)
    }

    /// Does so, and locks the record that it writes before that is in its place: so others know that
    /// its owner is about to be bound, and who lives of an `isolate`.
    pub fn apply_and_hold(&self, changes: &[Change]) -> Result<Option<Hold>, Error> {
        self.apply_with(changes, true)
    }

    fn apply_with(&self, changes: &[Change], hold: bool) -> Result<Option<Hold>, Error> {
        self.forget_indexes();
        let (staged, held) = self.stage(changes, hold).inspect_err(|_| {
            // As far as that goes: the next writer removes the rest.
            let _ = self.remove_leftovers();
        })?;
        let mut staged = staged.into_iter();
        for change in changes {
            match change {
                Change::PutRecord(_) | Change::Index(..) | Change::SetTasks(..) => {
                    if let Some(Staged { number, target, name }) = staged.next() {
                        self.allocations()?.replace(&staged_name(number), &target, &name)?;
                    }
                }
                Change::SetAside(slot) => {
                    self.existing_list(slot)?
                        .set_aside(TASKS, &format!("{TASKS}{ASIDE_SUFFIX}"))?;
                }
                Change::Restore(slot, owner) => self.restore(slot, owner)?,
                Change::RemoveIndex(slot, owner) => self.remove_index(slot, owner)?,
                Change::ClearIndex(slot) => {
                    let list = self.existing_list(slot)?;
                    match list.remove(INDEX) {
                        Err(error) if error.is_folder() => {
                            list.set_aside(INDEX, &format!("{INDEX}{ASIDE_SUFFIX}"))?;
                        }
                        result => result?,
                    }
                }
                Change::RemoveRecord(owner) => self.allocations()?.remove(&record_name(owner))?,
            }
        }
        Ok(held)
    }

    /// Makes a list's index, which alone is left of an owner's record, its record again, with the lock
    /// that its holder may have on it, and puts a copy in its place.
    fn restore(&self, slot: &Slot, owner: &Owner) -> Result<(), Error> {
        let (list, allocations) = (self.existing_list(slot)?, self.allocations()?);
        let Some(text) = list.read_text(INDEX, RECORD_FILE)? else { return Ok(()) };
        self.create_staged(0, &text)?;
        if allocations.look(&record_name(owner))?.is_none() {
            list.rename(INDEX, allocations, &record_name(owner))?;
        }
        allocations.rename(&staged_name(0), &list, INDEX)
    }

    /// One that nobody can read may be another's, who lives and names the list, too: it stays.
    fn remove_index(&self, slot: &Slot, owner: &Owner) -> Result<(), Error> {
        let Some(list) = self.list_dir(slot)? else { return Ok(()) };
        match read_index(&list, INDEX_FILE)? {
            (Some(record), _) if record.owner == *owner => list.remove(INDEX),
            _ => Ok(()),
        }
    }

    /// Whether anything was ever allocated in it.
    pub fn was_used(&self) -> bool {
        self.allocations.get().is_some()
    }

    /// Takes note that it is: by the target of a symbolic link that is never followed, which is read
    /// by one system call and replaced whole.
    pub fn enter_boot(&self, boot_id: &str) -> Result<(), Error> {
        self.allocations()?.set_link(BOOT, boot_id, BOOT_STAGED)
    }

    /// Where records are, for messages.
    pub fn allocations_path(&self) -> PathBuf {
        self.contents.dir.child(ALLOCATIONS)
    }

    /// Writes what a pool says of its containers' partitions.
    pub fn put_partition(&self, pool: &PoolName, policy: Policy) -> Result<(), Error> {
        let dir = self.pool_dir(pool)?;
        self.create_staged(0, &format!("{policy}\n"))?;
        self.allocations()?.replace(&staged_name(0), &dir, PARTITION)
    }

    /// Whether a list's index is the owner's record itself, so that one harm would be done to both: so
    /// it is when a restore from one of several indexes was cut short.
    pub fn is_record_itself(&self, slot: &Slot, owner: &Owner) -> Result<bool, Error> {
        let Some(list) = self.list_dir(slot)? else { return Ok(false) };
        let index = list.identity(INDEX)?;
        Ok(index.is_some() && index == self.allocations()?.identity(&record_name(owner))?)
    }

    /// Sets an unreadable record aside as `<owner>.bad`, where it is no record any more.
    pub fn set_aside(&self, owner: &Owner) -> Result<(), Error> {
        let aside = format!("{owner}{ASIDE_SUFFIX}");
        self.allocations()?.set_aside(&record_name(owner), &aside)
    }

    /// Removes what was set aside of an owner, whose record is whole again.
    pub fn remove_aside(&self, name: &str) -> Result<(), Error> {
        self.allocations()?.remove(name)
    }

    /// Writes the new contents, in the order of `changes`. Numbers count down along the files, so that
    /// `.tmp-0` is the first to be written and the last to be renamed.
    fn stage(&self, changes: &[Change], hold: bool) -> Result<(Vec<Staged>, Option<Hold>), Error> {
        let mut records: BTreeMap<&Owner, String> = BTreeMap::new();
        for change in changes {
            if let Change::PutRecord(record) = change {
                records.insert(&record.owner, record.to_json());
            }
        }
        let mut copies: BTreeMap<&Owner, String> = BTreeMap::new();
        let (mut staged, mut to_hold, mut held) = (Vec::new(), Vec::new(), None);
        for change in changes.iter().rev() {
            let number = staged.len();
            let (target, name) = match change {
                Change::PutRecord(record) => {
                    let (target, name) =
                        (Rc::clone(self.allocations()?), record_name(&record.owner));
                    let json = self.text_of(&records, &record.owner)?;
                    fits(&target, &name, &json, RECORD_FILE)?;
                    to_hold.push(self.create_staged(number, &json)?);
                    held = Some(name.clone()).filter(|_| hold);
                    (target, name)
                }
                Change::Index(slot, owner) => {
                    let target = Rc::new(self.existing_list(slot)?);
                    if !self.stage_again(copies.get(owner), number)? {
                        let json = self.text_of(&records, owner)?;
                        to_hold.push(self.create_staged(number, &json)?);
                        copies.insert(owner, staged_name(number));
                    }
                    (target, INDEX.to_owned())
                }
                Change::SetTasks(slot, pids) => {
                    let target = Rc::new(self.existing_list(slot)?);
                    let text = format_tasks(pids);
                    fits(&target, TASKS, &text, TASKS_FILE)?;
                    let file = self.create_staged(number, &text)?;
                    // By an allocation, or of nobody; else some of them may be the original's.
                    if hold || pids.is_empty() {
                        let path = target.child(TASKS);
                        let failed = |cause| Error::Io { action: "date", path, cause };
                        file.set_modified(dated()).map_err(failed)?;
                    }
                    (target, TASKS.to_owned())
                }
                _ => continue,
            };
            staged.push(Staged { number, target, name });
        }
        staged.reverse();
        let held = match held {
            Some(name) => {
                let folder = Rc::clone(self.allocations()?);
                let path = folder.child(&name);
                let failed = |cause| Error::Io { action: "lock", path, cause };
                Some(Hold::on(to_hold, folder, name).map_err(failed)?)
            }
            None => None,
        };
        Ok((staged, held))
    }

    /// What an owner's record says: one of those that are about to be written, or the one that is there.
    fn text_of(&self, new: &BTreeMap<&Owner, String>, owner: &Owner) -> Result<String, Error> {
        if let Some(json) = new.get(owner) {
            return Ok(json.clone());
        }
        let (allocations, name) = (self.allocations()?, record_name(owner));
        let missing = || Error::io("read", &allocations.child(&name), nix::errno::Errno::ENOENT);
        allocations.read_text(&name, RECORD_FILE)?.ok_or_else(missing)
    }

    /// Gives what was staged another staged name, for one more list of the same owner, where there is
    /// any and the file system has hard links. Whether it did.
    fn stage_again(&self, staged: Option<&String>, number: usize) -> Result<bool, Error> {
        let allocations = self.allocations()?;
        staged.map_or(Ok(false), |name| allocations.link(name, allocations, &staged_name(number)))
    }

    fn existing_list(&self, slot: &Slot) -> Result<Dir, Error> {
        let path = || self.pools.child(slot.pool.as_ref()).join(&slot.list);
        let missing = || Error::io("open", &path(), nix::errno::Errno::ENOENT);
        self.list_dir(slot)?.ok_or_else(missing)
    }

    /// Stages one content. A name that is taken was left by a killed process; one other than
    /// `.tmp-0`, with that gone, by a power cut.
    fn create_staged(&self, number: usize, content: &str) -> Result<File, Error> {
        let (name, allocations) = (staged_name(number), self.allocations()?);
        if let Some(file) = allocations.create(&name, content)? {
            return Ok(file);
        }
        match number {
            0 => self.remove_leftovers()?,
            _ => allocations.remove(&name)?,
        }
        match allocations.create(&name, content)? {
            Some(file) => Ok(file),
            None => Err(Error::Malformed {
                path: allocations.child(&name),
                cause: "it cannot be removed".into(),
                remedy: "remove it",
            }),
        }
    }

    /// Removes all that a killed process staged, `.tmp-0` last: as long as anything is left, that
    /// is.
    pub fn remove_leftovers(&self) -> Result<(), Error> {
        let Some(allocations) = self.allocations.get() else { return Ok(()) };
        let entries = allocations.entries()?.into_iter();
        let staged = entries.filter(|e| e.name.starts_with(STAGED) && !e.is_dir);
        let mut left: Vec<String> = staged.map(|e| e.name).collect();
        left.sort();
        left.iter().rev().try_for_each(|name| allocations.remove(name))
    }
}

/// Whatever is written can be read again.
fn fits(dir: &Dir, name: &str, content: &str, plain: Plain) -> Result<(), Error> {
    let (size, limit) = (content.len(), plain.limit);
    match size as u64 > limit {
        true => Err(Error::DoesNotFit { path: dir.child(name), size, limit }),
        false => Ok(()),
    }
}

fn staged_name(number: usize) -> String {
    format!("{STAGED}{number}")
}
