//! Changing the configuration directory.

use std::ops::Deref;
use std::rc::Rc;

use super::contents::{ALLOCATIONS, Contents, TASKS, record_name};
use super::dir::Dir;
use super::error::Error;
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
    allocations: Rc<Dir>,
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
        let mut contents = Contents::new(dir)?;
        let allocations = match &contents.allocations {
            Some(allocations) => Rc::clone(allocations),
            None => Rc::new(contents.dir.dir_or_new(ALLOCATIONS)?),
        };
        contents.allocations = Some(Rc::clone(&allocations));
        Ok(Self { contents, allocations })
    }

    pub(super) fn run<T, E>(self, change: impl FnOnce(&Self) -> Result<T, E>) -> Result<T, E> {
        change(&self)
    }

    /// Makes the changes, in their order; on an error before the first, none.
    pub fn apply(&self, changes: &[Change]) -> Result<(), Error> {
        let writing: Vec<&Change> =
            changes.iter().filter(|c| !matches!(c, Change::RemoveRecord(_))).collect();
        let staged = self.stage(&writing).inspect_err(|_| {
            // As far as that goes: the next writer removes the rest.
            let _ = self.remove_leftovers();
        })?;
        let mut staged = staged.into_iter();
        for change in changes {
            if let Change::RemoveRecord(owner) = change {
                self.allocations.remove(&record_name(owner))?;
            } else if let Some(Staged { number, target, name }) = staged.next() {
                self.allocations.rename(&staged_name(number), &target, &name)?;
            }
        }
        Ok(())
    }

    /// Sets an unreadable record aside as `<owner>.bad`, where it is no record any more.
    pub fn set_aside(&self, owner: &Owner) -> Result<(), Error> {
        let name = record_name(owner);
        self.allocations.rename(&name, &self.allocations, &format!("{owner}.bad"))
    }

    /// Writes the new contents. Numbers count down along `changes`, so that `.tmp-0` is the first
    /// to be written and the last to be renamed.
    fn stage(&self, writing: &[&Change]) -> Result<Vec<Staged>, Error> {
        let mut staged = Vec::with_capacity(writing.len());
        for (number, change) in writing.iter().rev().enumerate() {
            let (target, name, content) = match change {
                Change::PutRecord(record) => {
                    (Rc::clone(&self.allocations), record_name(&record.owner), record.to_json())
                }
                Change::SetTasks { pool, list, pids } => {
                    (Rc::new(self.list_dir(pool, list)?), TASKS.to_owned(), format_tasks(pids))
                }
                Change::RemoveRecord(_) => continue,
            };
            self.create_staged(number, &content)?;
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
    fn create_staged(&self, number: usize, content: &str) -> Result<(), Error> {
        let name = staged_name(number);
        if self.allocations.create(&name, content)? {
            return Ok(());
        }
        match number {
            0 => self.remove_leftovers()?,
            _ => self.allocations.remove(&name)?,
        }
        match self.allocations.create(&name, content)? {
            true => Ok(()),
            false => Err(Error::NotAFile { path: self.allocations.child(&name) }),
        }
    }

    /// Removes all that is staged, `.tmp-0` last: as long as anything is left, that is.
    fn remove_leftovers(&self) -> Result<(), Error> {
        let entries = self.allocations.entries()?.into_iter();
        let staged = entries.filter(|e| e.name.starts_with(STAGED) && !e.is_dir);
        let mut left: Vec<String> = staged.map(|e| e.name).collect();
        left.sort();
        left.iter().rev().try_for_each(|name| self.allocations.remove(name))
    }
}

fn staged_name(number: usize) -> String {
    format!("{STAGED}{number}")
}
