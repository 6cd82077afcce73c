//! Reading records, and the indexes that are copies of them, as far as there can be of a node.

use std::collections::hash_map::{Entry, HashMap};
use std::path::Path;

use super::contents::INDEX;
use super::dir::{Dir, Plain};
use super::error::Error;
use crate::allocation::{Allocation, Owner};

pub(super) const RECORD_SUFFIX: &str = ".json";
pub(super) const RECORD_FILE: Plain = Plain {
    limit: 1 << 18,
    remedy: "run kcm reconcile, which sets it aside and says what follows",
};
/// As most of kcm's own are; larger ones are read after them, the smallest first.
const SMALL_RECORD: Plain = Plain { limit: 1 << 11, ..RECORD_FILE };
pub(super) const INDEX_FILE: Plain = RECORD_FILE;

/// All records that are read at once have no more bytes than these: a thousand of kcm's own.
const RECORDS_LIMIT: usize = 768 << 10;
/// Nor do they name more lists: as many as there can be exclusive ones.
const NAMES_LIMIT: usize = 1 << 13;
/// Indexes are copies of records; one that is read when these many bytes were says nothing.
const INDEXES_LIMIT: u64 = RECORDS_LIMIT as u64;

/// All allocation records.
#[derive(Debug, Default)]
pub struct Records {
    /// Those that can be read, sorted by owner.
    pub readable: Vec<Allocation>,
    /// The others: whose each would be, and why it cannot be read.
    pub unreadable: Vec<(Owner, Error)>,
    /// Whose were not read, since there are too many bytes of them.
    pub unread: Vec<Owner>,
}

impl Records {
    /// The owner's record.
    pub fn of(&self, owner: &Owner) -> Option<&Allocation> {
        let place = self.readable.binary_search_by(|record| record.owner.cmp(owner));
        place.ok().and_then(|place| self.readable.get(place))
    }

    /// What is to be said of those that were not read.
    pub fn too_many(&self, folder: &Path) -> Option<String> {
        let text = || {
            format!(
                "{} records in {} were not read, since all together have more than 768 KiB, or name more \
                 than 8,192 CPU lists, as no node has: look at the largest, and remove what is not kcm's",
                self.unread.len(),
                folder.display()
            )
        };
        (!self.unread.is_empty()).then(text)
    }
}

/// All records, those of 2 KiB and less first, as far as the limits go: whoever may write the directory
/// must not be able to stop the node by what it has to read.
pub(super) fn read(dir: &Dir) -> Result<Records, Error> {
    let mut reading = Reading::default();
    let mut large = Vec::new();
    for entry in dir.entries()? {
        let owner = entry.name.strip_suffix(RECORD_SUFFIX).and_then(|name| name.parse().ok());
        let Some(owner): Option<Owner> = owner else { continue };
        if let Err(Error::TooLarge { .. }) = reading.read(dir, &owner, SMALL_RECORD) {
            let size = dir.look(&entry.name)?.map_or(0, |looked| looked.size);
            large.push((size, owner));
        }
    }
    large.sort();
    for (_, owner) in large {
        if let Err(error) = reading.read(dir, &owner, RECORD_FILE) {
            reading.records.unreadable.push((owner, error));
        }
    }
    let mut records = reading.records;
    records.readable.sort_by(|a, b| a.owner.cmp(&b.owner));
    Ok(records)
}

/// All records, as far as the limits go.
struct Reading {
    records: Records,
    bytes_left: usize,
    names_left: usize,
}

impl Default for Reading {
    fn default() -> Self {
        Self { records: Records::default(), bytes_left: RECORDS_LIMIT, names_left: NAMES_LIMIT }
    }
}

impl Reading {
    /// One more. An error where it is larger than that, and nothing else.
    fn read(&mut self, dir: &Dir, owner: &Owner, plain: Plain) -> Result<(), Error> {
        let Records { readable, unreadable, unread } = &mut self.records;
        if self.bytes_left == 0 || self.names_left == 0 {
            unread.push(owner.clone());
            return Ok(());
        }
        let bytes = match dir.read(&record_name(owner), plain) {
            Ok(Some(bytes)) => bytes,
            Ok(None) => return Ok(()),
            Err(error @ Error::TooLarge { .. }) => return Err(error),
            Err(error) => {
                unreadable.push((owner.clone(), error));
                return Ok(());
            }
        };
        // Whatever is in it.
        let Some(left) = self.bytes_left.checked_sub(bytes.len()) else {
            self.bytes_left = 0;
            unread.push(owner.clone());
            return Ok(());
        };
        self.bytes_left = left;
        match record_of(dir, owner, &bytes) {
            Ok(record) => match self.names_left.checked_sub(record.lists.len()) {
                Some(left) => {
                    self.names_left = left;
                    readable.push(record);
                }
                None => {
                    self.names_left = 0;
                    unread.push(record.owner);
                }
            },
            Err(error) => unreadable.push((owner.clone(), error)),
        }
        Ok(())
    }
}

/// What a file of this owner's record says.
pub(super) fn record_of(dir: &Dir, owner: &Owner, bytes: &[u8]) -> Result<Allocation, Error> {
    let (path, remedy) = (dir.child(&record_name(owner)), RECORD_FILE.remedy);
    let malformed = |cause: String| Error::Malformed { path, cause, remedy };
    match parse_record(bytes) {
        Ok(record) if record.owner == *owner => Ok(record),
        Ok(record) => Err(malformed(format!("it says that its owner is {}", record.owner))),
        Err(cause) => Err(malformed(cause)),
    }
}

/// The record that the index in a list's folder is a copy of, if there is one that can be read, and how
/// many bytes were.
pub(super) fn read_index(list: &Dir, plain: Plain) -> Result<(Option<Allocation>, u64), Error> {
    match list.read(INDEX, plain) {
        Ok(Some(bytes)) => Ok((parse_record(&bytes).ok(), bytes.len() as u64)),
        Ok(None) => Ok((None, 0)),
        Err(error) if error.is_content() => Ok((None, 0)),
        Err(error) => Err(error),
    }
}

fn parse_record(bytes: &[u8]) -> Result<Allocation, String> {
    let text = std::str::from_utf8(bytes).map_err(|_| "not text".to_owned())?;
    Allocation::from_json(text).map_err(|e| e.to_string())
}

pub(super) fn record_name(owner: &Owner) -> String {
    format!("{owner}{RECORD_SUFFIX}")
}

/// What a list's index is.
#[derive(Debug)]
pub enum Index {
    /// There is none.
    None,
    /// This owner's record, which was read.
    Known(Owner),
    /// A record that is not among those.
    Other(Box<Allocation>),
    /// Nothing that can be read.
    Unreadable,
}

/// What was read of indexes: those of one owner may be one file.
#[derive(Debug)]
pub(super) struct Indexes {
    /// By device and inode; none for one that says nothing.
    read: HashMap<(u64, u64), Option<Allocation>>,
    bytes_left: u64,
}

impl Default for Indexes {
    fn default() -> Self {
        Self { read: HashMap::new(), bytes_left: INDEXES_LIMIT }
    }
}

impl Indexes {
    /// The record that a list's index, which is this file, is a copy of; none where it says nothing, or
    /// too many bytes of others were read.
    pub(super) fn read(
        &mut self,
        list: &Dir,
        identity: (u64, u64),
    ) -> Result<Option<&Allocation>, Error> {
        let record = match self.read.entry(identity) {
            Entry::Occupied(read) => read.into_mut(),
            Entry::Vacant(unread) => {
                let limit = INDEX_FILE.limit.min(self.bytes_left);
                let (record, size) = read_index(list, Plain { limit, ..INDEX_FILE })?;
                self.bytes_left -= size;
                unread.insert(record)
            }
        };
        Ok(record.as_ref())
    }
}
