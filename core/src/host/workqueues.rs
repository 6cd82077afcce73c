//! Work of the kernel's own that may run on any CPU of a mask (Documentation/core-api/workqueue,
//! "Affinity Scopes"): kept off CPUs that somebody has for himself alone, and off the shield's.
//!
//! ```text
//! /sys/devices/virtual/workqueue/cpumask     where it runs; cpumask_requested: what was written (Linux 6.8)
//! /run/kcm/workqueues                        what that is made of (`plan::workqueues`); this boot's
//! /run/kcm/workqueues.lock                   held from the look at both until both are written
//! ```
//!
//! The kernel takes the CPUs of partitions of the kind *isolated* out of the mask by itself, until
//! somebody writes it; those of the kind *root* it leaves in. So whatever is written is without either.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use fs2::FileExt as _;

use super::{Error, read, read_existing, regular, sysfs};
use crate::cpu_set::CpuSet;
use crate::plan::workqueues::{Layers, Note};

/// Below the folder that has `sys/`.
const MASK: &str = "sys/devices/virtual/workqueue/cpumask";

/// What was asked for, where the kernel tells: the mask itself lacks what is isolated now.
const REQUESTED: &str = "cpumask_requested";

/// What kcm has done to the mask in this boot.
const NOTE: &str = "/run/kcm/workqueues";

/// How long another that writes the mask is waited for: two writes.
const PATIENCE: Duration = Duration::from_secs(2);

/// The mask of this node.
#[derive(Debug)]
pub struct Workqueues {
    mask: PathBuf,
    note: PathBuf,
}

impl Workqueues {
    /// Of the node whose `sys/` is in `sys_root`.
    pub fn new(sys_root: &Path) -> Self {
        Self { mask: sys_root.join(MASK), note: NOTE.into() }
    }

    /// Takes CPUs of a partition out of the mask, where they are in it.
    pub fn keep_off(&self, cpus: &CpuSet) -> Result<(), Error> {
        let file = match regular::open_to_change(&self.mask) {
            Ok(file) => file,
            Err(e) if super::is_gone(&e) => return Ok(()),
            Err(e) => return Err(Error::io("open", &self.mask, &e)),
        };
        if self.used(&file)?.intersection(cpus).is_empty() {
            return Ok(());
        }
        self.change(|layers| Ok(layers.keep_off(cpus, &self.used(&file)?))).map(drop)
    }

    /// What the mask is made of; none where there is no mask.
    pub fn layers(&self) -> Result<Option<Layers>, Error> {
        match self.mask.exists() {
            true => self.read().map(Some),
            false => Ok(None),
        }
    }

    /// Has the mask be what the shield wishes, but for CPUs that hooks have taken out, and those that
    /// partitions have.
    pub fn shield(&self, wish: &CpuSet, partitions: &CpuSet) -> Result<(), Error> {
        self.change(|layers| Ok(Some(layers.shielded(wish, partitions)))).map(drop)
    }

    /// Puts back into the mask what hooks have taken out, but for what partitions have. Which CPUs; empty
    /// where there is nothing to do.
    pub fn give_back(&self, partitions: &CpuSet) -> Result<CpuSet, Error> {
        if !self.note.exists() {
            return Ok(CpuSet::new());
        }
        self.change(|layers| Ok(Some(layers.given_back(partitions))))
    }

    /// Which CPUs have come into the mask.
    fn change(
        &self,
        new: impl FnOnce(&Layers) -> Result<Option<Layers>, Error>,
    ) -> Result<CpuSet, Error> {
        let _lock = self.lock()?;
        let before = self.read()?;
        let Some(now) = new(&before)? else { return Ok(CpuSet::new()) };
        let (was, is) = (before.mask().clone(), now.mask().clone());
        let is_over = now.are_others_alone();
        self.write_note(&Note { now, before })?;
        if is != was {
            let file = regular::open_to_change(&self.mask);
            let file = file.map_err(|e| Error::io("open", &self.mask, &e))?;
            let text = format!("{}\n", is.to_mask());
            let written = file.write_all_at(text.as_bytes(), 0);
            written.map_err(|e| Error::io("write", &self.mask, &e))?;
        }
        if is_over {
            std::fs::remove_file(&self.note).map_err(|e| Error::io("remove", &self.note, &e))?;
        }
        Ok(is.difference(&was))
    }

    /// What the kernel's work may use now, by one read: 8,192 CPUs have 2,304 characters.
    fn used(&self, file: &File) -> Result<CpuSet, Error> {
        let mut bytes = [0; 4096];
        let length = file.read_at(&mut bytes, 0).map_err(|e| Error::io("read", &self.mask, &e))?;
        parse(&self.mask, &String::from_utf8_lossy(&bytes[..length]))
    }

    fn read(&self) -> Result<Layers, Error> {
        let note = match read(&self.note)? {
            None => None,
            Some(text) => Some(serde_json::from_str(&text).map_err(|e| {
                Error::malformed(&self.note, format!("{e}; remove it, and see to the mask"))
            })?),
        };
        let requested = self.mask.with_file_name(REQUESTED);
        let mask = match read(&requested)? {
            Some(text) => parse(&requested, &text)?,
            None => parse(&self.mask, &read_existing(&self.mask)?)?,
        };
        Ok(Note::layers(note, mask))
    }

    fn lock(&self) -> Result<File, Error> {
        let folder = self.note.parent().unwrap_or(Path::new("/"));
        let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder);
        made.map_err(|e| Error::io("make", folder, &e))?;
        let path = self.note.with_extension("lock");
        let lock = rewritable(&path).map_err(|e| Error::io("open", &path, &e))?;
        let begun = Instant::now();
        while let Err(e) = lock.try_lock_exclusive() {
            if begun.elapsed() > PATIENCE {
                return Err(Error::io("lock", &path, &e));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(lock)
    }

    fn write_note(&self, note: &Note) -> Result<(), Error> {
        let staged = self.note.with_extension("new");
        let written = serde_json::to_vec(note).map_err(io::Error::other).and_then(|text| {
            let file = rewritable(&staged)?;
            file.set_len(0)?;
            file.write_all_at(&text, 0)?;
            std::fs::rename(&staged, &self.note)
        });
        written.map_err(|e| Error::io("write", &self.note, &e))
    }
}

fn rewritable(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path)
}

fn parse(mask: &Path, text: &str) -> Result<CpuSet, Error> {
    // Of a plain file, what a shorter text has left of a longer one is another line.
    let line = text.lines().next().unwrap_or_default();
    sysfs::parse_mask(line).map_err(|cause| Error::malformed(mask, cause))
}

#[cfg(test)]
mod tests;
