//! Work of the kernel's own that may run on any CPU of a mask (Documentation/core-api/workqueue,
//! "Affinity Scopes"): kept off CPUs that somebody has for himself alone.
//!
//! The kernel takes the CPUs of partitions of the kind *isolated* out of it by itself, until somebody
//! writes the mask; those of the kind *root* it leaves in. So what is written is what the mask is now,
//! less the CPUs, and whatever was asked for before and is not any more is noted.

use std::fs::File;
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::Path;

use super::{Error, read, read_existing, regular, sysfs};
use crate::cpu_set::CpuSet;

/// Below the folder that has `sys/`.
const MASK: &str = "sys/devices/virtual/workqueue/cpumask";

/// What was asked for, where the kernel tells (Linux 6.8): the mask itself lacks what is isolated now.
const REQUESTED: &str = "cpumask_requested";

/// The CPUs of partitions of the kind *isolated*, which no mask that is written may have.
const ISOLATED: &str = "/sys/fs/cgroup/cpuset.cpus.isolated";

/// The CPUs that kcm has taken out of the mask in this boot.
const TAKEN: &str = "/run/kcm/workqueues";

/// Takes CPUs out of the mask, where they are in it, and notes which; under the lock.
pub fn keep_off(sys_root: &Path, cpus: &CpuSet) -> Result<(), Error> {
    keep_off_noting(&sys_root.join(MASK), Path::new(TAKEN), cpus)
}

/// Puts back into the mask what kcm has taken out. Which CPUs; empty where there is nothing to do.
pub fn restore(sys_root: &Path) -> Result<CpuSet, Error> {
    let text = read(Path::new(ISOLATED))?.unwrap_or_default();
    let isolated = CpuSet::parse_possibly_empty(&text).unwrap_or_default();
    restore_noted(&sys_root.join(MASK), Path::new(TAKEN), &isolated)
}

fn keep_off_noting(mask: &Path, taken: &Path, cpus: &CpuSet) -> Result<(), Error> {
    let file = match regular::open_to_change(mask) {
        Ok(file) => file,
        Err(e) if super::is_gone(&e) => return Ok(()),
        Err(e) => return Err(Error::io("open", mask, &e)),
    };
    // By one read: 8,192 CPUs have 2,304 characters.
    let mut bytes = [0; 4096];
    let length = file.read_at(&mut bytes, 0).map_err(|e| Error::io("read", mask, &e))?;
    let now = parse(mask, &String::from_utf8_lossy(&bytes[..length]))?;
    let ours = now.intersection(cpus);
    let left = now.difference(&ours);
    // The kernel's work must run somewhere.
    if ours.is_empty() || left.is_empty() {
        return Ok(());
    }
    let asked_for = match read(&mask.with_file_name(REQUESTED))? {
        Some(text) => parse(mask, &text)?,
        None => now,
    };
    note(taken, &noted(taken)?.union(&asked_for.difference(&left)))?;
    put(&file, mask, &left)
}

fn restore_noted(mask: &Path, taken: &Path, isolated: &CpuSet) -> Result<CpuSet, Error> {
    let all = noted(taken)?;
    let ours = all.difference(isolated);
    if !ours.is_empty() {
        let now = parse(mask, &read_existing(mask)?)?;
        let file = regular::open_to_change(mask).map_err(|e| Error::io("open", mask, &e))?;
        put(&file, mask, &now.union(&ours))?;
        // Those that are isolated are somebody's still, and put back when uninstall is run again.
        match all.intersection(isolated) {
            stay if !stay.is_empty() => note(taken, &stay)?,
            _ => std::fs::remove_file(taken).map_err(|e| Error::io("remove", taken, &e))?,
        }
    }
    Ok(ours)
}

fn parse(mask: &Path, text: &str) -> Result<CpuSet, Error> {
    sysfs::parse_mask(text).map_err(|cause| Error::malformed(mask, cause))
}

fn put(file: &File, mask: &Path, cpus: &CpuSet) -> Result<(), Error> {
    let written = file.write_all_at(format!("{}\n", kernels_mask(cpus)).as_bytes(), 0);
    written.map_err(|e| Error::io("write", mask, &e))
}

/// In words of 32 bits, the highest first, with commas between them.
fn kernels_mask(cpus: &CpuSet) -> String {
    let digits = cpus.to_hex().to_ascii_lowercase();
    let words: Vec<&[u8]> = digits.as_bytes().rchunks(8).rev().collect();
    let words = words.into_iter().map(|word| String::from_utf8_lossy(word).into_owned());
    words.collect::<Vec<_>>().join(",")
}

fn noted(taken: &Path) -> Result<CpuSet, Error> {
    let text = read(taken)?.unwrap_or_default();
    CpuSet::parse_possibly_empty(&text).map_err(|e| Error::malformed(taken, e.to_string()))
}

fn note(taken: &Path, cpus: &CpuSet) -> Result<(), Error> {
    let folder = taken.parent().unwrap_or(Path::new("/"));
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder);
    made.map_err(|e| Error::io("make", folder, &e))?;
    let staged = taken.with_extension("new");
    let mut access = std::fs::OpenOptions::new();
    let opened = access.write(true).create(true).truncate(true).mode(0o600).open(&staged);
    let written = opened
        .and_then(|file| file.write_all_at(cpus.to_string().as_bytes(), 0))
        .and_then(|()| std::fs::rename(&staged, taken));
    written.map_err(|e| Error::io("write", taken, &e))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpus_are_taken_out_once_and_put_back_beside_what_others_did() {
        let folder = tempfile::tempdir().unwrap();
        let (mask, taken) = (folder.path().join("cpumask"), folder.path().join("kcm/workqueues"));
        let text = || std::fs::read_to_string(&mask).unwrap();
        let off = |cpus: &str| keep_off_noting(&mask, &taken, &cpus.parse().unwrap()).unwrap();
        // A kernel without workqueues' mask.
        off("2-3");
        assert!(!taken.exists());
        std::fs::write(&mask, "1,0000ffff\n").unwrap();
        off("2-3");
        assert_eq!(text(), "1,0000fff3\n");
        off("2-3,32");
        // A plain file keeps what a shorter text leaves of it, which the kernel's does not.
        assert!(text().starts_with("fff3\n"), "{}", text());
        std::fs::write(&mask, "00,0000f0f3\n").unwrap();
        off("0-15");
        off("40");
        assert_eq!(text(), "00,0000f0f3\n");
        let restored = |isolated: &str| {
            let isolated = CpuSet::parse_possibly_empty(isolated).unwrap();
            restore_noted(&mask, &taken, &isolated).unwrap().to_string()
        };
        assert_eq!(restored("32"), "2-3");
        assert!(text().starts_with("f0ff\n"), "{}", text());
        std::fs::write(&mask, "f0ff\n").unwrap();
        assert_eq!(restored(""), "32");
        assert!(text().starts_with("1,0000f0ff\n"), "{}", text());
        assert!(!taken.exists() && restored("").is_empty());
        // What an isolated partition has is not in the mask, and would not come back by itself.
        std::fs::write(&mask, "ff0f\n").unwrap();
        std::fs::write(mask.with_file_name(REQUESTED), "ffff\n").unwrap();
        off("2-3");
        assert!(text().starts_with("ff03\n"), "{}", text());
        assert_eq!(restored(""), "2-7");
    }
}
