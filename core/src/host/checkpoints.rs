//! Which CPUs a container had when its checkpoint was made: kept for its restore, until the next boot.
//!
//! CRIU keeps that itself on cgroup v1 alone. It is a wish, which decides nothing but which of several
//! free lists is taken; so it is not in the configuration directory, and may be lost.
//!
//! ```text
//! /run/kcm/checkpoints/<owner>      0700 above: CPUs in the kernel's format
//! ```

use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use super::procfs::Procfs;
use super::{Error, list, read, regular};
use crate::allocation::{Allocation, Owner};
use crate::cpu_set::CpuSet;
use crate::task::Pid;

const FOLDER: &str = "/run/kcm/checkpoints";

/// Bytes of the longest set of CPUs in the kernel's format.
const LIMIT: u64 = 1 << 16;

/// So many are kept; with one more, none of before.
const MANY: usize = 256;

/// Whether a runtime's process was told to make a checkpoint (`runc checkpoint`), which ends a
/// container and calls poststop.
pub fn is_making_one(procfs: &Procfs, runtime: Pid) -> bool {
    let path = procfs.root().join(format!("{runtime}/cmdline"));
    let words = read(&path).ok().flatten().unwrap_or_default();
    words.split('\0').any(|word| word == "checkpoint")
}

/// Keeps what a container had.
pub fn keep(record: &Allocation) -> Result<(), Error> {
    keep_in(Path::new(FOLDER), &record.owner, &record.cpus())
}

/// What a container had, if that is known.
pub fn kept(owner: &Owner) -> Option<CpuSet> {
    kept_in(Path::new(FOLDER), owner)
}

fn keep_in(folder: &Path, owner: &Owner, cpus: &CpuSet) -> Result<(), Error> {
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder);
    made.map_err(|e| Error::io("make", folder, &e))?;
    let before = list(folder)?;
    if before.len() >= MANY {
        before.iter().for_each(|entry| drop(std::fs::remove_file(entry.path())));
    }
    let path = folder.join(owner.as_ref());
    std::fs::write(&path, cpus.to_string()).map_err(|e| Error::io("write", &path, &e))
}

fn kept_in(folder: &Path, owner: &Owner) -> Option<CpuSet> {
    regular::read_text(&folder.join(owner.as_ref()), LIMIT).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_container_had_is_kept_for_so_many_and_no_more() {
        let folder = tempfile::tempdir().unwrap();
        let at = folder.path().join("checkpoints");
        let owner = |number: usize| -> Owner { format!("c{number}").parse().unwrap() };
        let cpus: CpuSet = "2-3".parse().unwrap();
        assert_eq!(kept_in(&at, &owner(0)), None);
        for number in 0..MANY {
            keep_in(&at, &owner(number), &cpus).unwrap();
        }
        assert_eq!(kept_in(&at, &owner(0)), Some(cpus.clone()));
        keep_in(&at, &owner(MANY), &cpus).unwrap();
        assert_eq!((kept_in(&at, &owner(0)), kept_in(&at, &owner(MANY))), (None, Some(cpus)));
        std::fs::write(at.join("c1"), "no CPUs").unwrap();
        assert_eq!(kept_in(&at, &owner(1)), None);
    }
}
