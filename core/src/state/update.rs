//! Changing the configuration directory.

use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::fs::File;
use std::ops::Deref;
use std::path::PathBuf;
use std::rc::Rc;

use super::contents::{
    ALLOCATIONS, ASIDE_SUFFIX, BOOT, Contents, INDEX, RECORD_FILE, TASKS, TASKS_FILE, dated,
    record_name,
};
use super::dir::{Dir, Plain};
use super::error::Error;
use super::hold::Hold;
use crate::allocation::{Allocation, Owner};
use crate::plan::{Change, Slot};
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
        let (staged, held) = self.stage(changes, hold).inspect_err(|_| {
            // As far as that goes: the next writer removes the rest.
            let _ = self.remove_leftovers();
        })?;
        let mut staged = staged.into_iter();
        for change in changes {
            match change {
                Change::PutRecord(_) | Change::Index(..) | Change::SetTasks(..) => {
                    if let Some(Staged { number, target, name }) = staged.next() {
                        self.allocations()?.rename(&staged_name(number), &target, &name)?;
                    }
                }
                Change::SetAside(slot) => {
                    self.existing_list(slot)?
                        .set_aside(TASKS, &format!("{TASKS}{ASIDE_SUFFIX}"))?;
                }
                Change::Restore(slot, owner) => self.restore(slot, owner)?,
                Change::RemoveIndex(slot, owner) => self.remove_index(slot, owner)?,
                Change::ClearIndex(slot) => self.existing_list(slot)?.remove(INDEX)?,
                Change::RemoveRecord(owner) => self.allocations()?.remove(&record_name(owner))?,
            }
        }
        Ok(held)
    }

    /// Gives an owner's record, of which only a list's index is left, its name again.
    fn restore(&self, slot: &Slot, owner: &Owner) -> Result<(), Error> {
        let (list, name) = (self.existing_list(slot)?, record_name(owner));
        if list.link(INDEX, self.allocations()?, &name)? {
            return Ok(());
        }
        if let Some(text) = list.read_text(INDEX, RECORD_FILE)? {
            self.allocations()?.create(&name, &text)?;
        }
        Ok(())
    }

    /// Where an index is another owner's by now, it stays.
    fn remove_index(&self, slot: &Slot, owner: &Owner) -> Result<(), Error> {
        let Some(list) = self.list_dir(slot)? else { return Ok(()) };
        let Some(index) = list.look(INDEX)? else { return Ok(()) };
        let record = self.allocations()?.look(&record_name(owner))?;
        let is_the_same = record.is_some_and(|record| record.inode == index.inode);
        if is_the_same || !self.is_anothers(&list, owner)? {
            list.remove(INDEX)?;
        }
        Ok(())
    }

    /// Whether an index is not this owner's, or nobody can tell: then a living one may name the list,
    /// too.
    fn is_anothers(&self, list: &Dir, owner: &Owner) -> Result<bool, Error> {
        match list.read_text(INDEX, RECORD_FILE) {
            Ok(text) => {
                let record = text.and_then(|text| Allocation::from_json(&text).ok());
                Ok(record.is_none_or(|record| record.owner != *owner))
            }
            Err(error) if error.is_content() => Ok(true),
            Err(error) => Err(error),
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

    /// Whether a list's index is the owner's record.
    pub fn is_index_of(&self, slot: &Slot, owner: &Owner) -> Result<bool, Error> {
        let Some(list) = self.list_dir(slot)? else { return Ok(false) };
        let Some(index) = list.look(INDEX)? else { return Ok(false) };
        let record = self.allocations()?.look(&record_name(owner))?;
        Ok(record.is_some_and(|record| record.inode == index.inode))
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
    /// `.tmp-0` is the first to be written and the last to be renamed; then come the second names of
    /// records.
    fn stage(&self, changes: &[Change], hold: bool) -> Result<(Vec<Staged>, Option<Hold>), Error> {
        let (mut staged, mut held, mut number) = (BTreeMap::new(), None, 0);
        let mut records: BTreeMap<&Owner, usize> = BTreeMap::new();
        for (place, change) in changes.iter().enumerate().rev() {
            let (target, name) = match change {
                Change::PutRecord(record) => {
                    let (target, name) =
                        (Rc::clone(self.allocations()?), record_name(&record.owner));
                    let json = record.to_json();
                    fits(&target, &name, &json, RECORD_FILE)?;
                    let file = self.create_staged(number, &json)?;
                    if hold {
                        let path = target.child(&name);
                        let failed = |cause| Error::Io { action: "lock", path, cause };
                        held = Some(Hold::on(file).map_err(failed)?);
                    }
                    records.insert(&record.owner, number);
                    (target, name)
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
            staged.insert(place, Staged { number, target, name });
            number += 1;
        }
        for (place, change) in changes.iter().enumerate() {
            let Change::Index(slot, owner) = change else { continue };
            let of = match records.get(owner) {
                Some(&number) => staged_name(number),
                None => record_name(owner),
            };
            let target = Rc::new(self.existing_list(slot)?);
            self.stage_index(&of, number)?;
            staged.insert(place, Staged { number, target, name: INDEX.to_owned() });
            number += 1;
        }
        Ok((staged.into_values().collect(), held))
    }

    /// Gives a record a second name; where the file system has no hard links, makes a copy.
    fn stage_index(&self, record: &str, number: usize) -> Result<(), Error> {
        let (allocations, name) = (self.allocations()?, staged_name(number));
        if allocations.link(record, allocations, &name)? {
            return Ok(());
        }
        if let Some(text) = allocations.read_text(record, RECORD_FILE)? {
            self.create_staged(number, &text)?;
        }
        Ok(())
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
