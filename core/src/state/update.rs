//! Changing the configuration directory.

use std::cell::OnceCell;
use std::fs::File;
use std::ops::Deref;
use std::rc::Rc;

use super::contents::{ALLOCATIONS, Contents, TASKS, record_name};
use super::dir::Dir;
use super::error::Error;
use super::hold;
use crate::allocation::Owner;
use crate::plan::Change;
use crate::pool::PoolName;
use crate::task::format_tasks;

/// Staged content. `.tmp-0` is staged first and renamed last, so whatever a killed process left is
/// there as long as `.tmp-0` is: the next writer finds leftovers without looking for them.
const STAGED: &str = ".tmp-";

/// The configuration directory, locked: the only thing that writes it.
#[derive(Debug)]
pub struct Update {
    contents: Contents,
    /// Made when it is first written to.
    allocations: OnceCell<Rc<Dir>>,
}

/// What is done to a staged file while nobody else can open it.
type Prepare = fn(&File) -> std::io::Result<()>;

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
        self.apply_with(changes, |_| Ok(()))
    }

    /// Does so, and locks each record that it writes, before that is in its place, for as long as
    /// this process lives or any that it starts from here on: `isolate`'s own record.
    pub fn apply_and_hold(&self, changes: &[Change]) -> Result<(), Error> {
        self.apply_with(changes, hold::for_life)
    }

    fn apply_with(&self, changes: &[Change], prepare_record: Prepare) -> Result<(), Error> {
        let writing: Vec<&Change> =
            changes.iter().filter(|c| !matches!(c, Change::RemoveRecord(_))).collect();
        let staged = self.stage(&writing, prepare_record).inspect_err(|_| {
            // As far as that goes: the next writer removes the rest.
            let _ = self.remove_leftovers();
        })?;
        let mut staged = staged.into_iter();
        for change in changes {
            if let Change::RemoveRecord(owner) = change {
                self.allocations()?.remove(&record_name(owner))?;
            } else if let Some(Staged { number, target, name }) = staged.next() {
                self.allocations()?.rename(&staged_name(number), &target, &name)?;
            }
        }
        Ok(())
    }

    /// Sets an unreadable record aside as `<owner>.bad`, where it is no record any more.
    pub fn set_aside(&self, owner: &Owner) -> Result<(), Error> {
        let (name, allocations) = (record_name(owner), self.allocations()?);
        allocations.rename(&name, allocations, &format!("{owner}.bad"))
    }

    /// Writes the new contents. Numbers count down along `changes`, so that `.tmp-0` is the first
    /// to be written and the last to be renamed.
    fn stage(&self, writing: &[&Change], prepare_record: Prepare) -> Result<Vec<Staged>, Error> {
        let mut staged = Vec::with_capacity(writing.len());
        for (number, change) in writing.iter().rev().enumerate() {
            let (target, name) = match change {
                Change::PutRecord(record) => {
                    self.create_staged(number, &record.to_json(), prepare_record)?;
                    (Rc::clone(self.allocations()?), record_name(&record.owner))
                }
                Change::SetTasks { pool, list, pids } => {
                    let target = Rc::new(self.list_dir(pool, list)?);
                    self.create_staged(number, &format_tasks(pids), |_| Ok(()))?;
                    (target, TASKS.to_owned())
                }
                Change::RemoveRecord(_) => continue,
            };
            staged.push(Staged { number, target, name });
        }
        staged.reverse();
        Ok(staged)
    }

    fn list_dir(&self, pool: &PoolName, list: &str) -> Result<Dir, Error> {
        let dir = match self.pools.dir(pool.as_ref())? {
            Some(pool) => pool.dir(list)?,
            None => None,
        };
        let path = || self.pools.child(pool.as_ref()).join(list);
        dir.ok_or_else(|| Error::io("open", &path(), nix::errno::Errno::ENOENT))
    }

    /// Stages one content. A name that is taken was left by a killed process; one other than
    /// `.tmp-0`, with that gone, by a power cut.
    fn create_staged(&self, number: usize, content: &str, prepare: Prepare) -> Result<(), Error> {
        let (name, allocations) = (staged_name(number), self.allocations()?);
        if allocations.create(&name, content, prepare)?.is_some() {
            return Ok(());
        }
        match number {
            0 => self.remove_leftovers()?,
            _ => allocations.remove(&name)?,
        }
        match allocations.create(&name, content, prepare)? {
            Some(_) => Ok(()),
            None => Err(Error::NotAFile { path: allocations.child(&name) }),
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

fn staged_name(number: usize) -> String {
    format!("{STAGED}{number}")
}
