//! What the shield has changed on this node, and what was there before: a file that is root's alone.
//!
//! ```text
//! /var/lib/kcm/            0700: never in the configuration directory, which pods may mount
//!   shield.json            0600: of one boot; all that it tells of is gone with that
//!   shield.lock            held while the shield is put on or taken off
//! ```
//!
//! It is written before anything is changed, and again when all is: so of every item that was come to
//! it is known what it had before, whenever kcm is killed.

use std::collections::BTreeMap;
use std::fs::{DirBuilder, File, OpenOptions};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use fs2::FileExt;
use serde::{Deserialize, Serialize};

use super::files::{self, Wanted};
use super::trust::{self, Place};
use super::{Error, is_gone, regular};
use crate::CpuSet;
use crate::plan::shield::{Item, Kept, Kind, cpus};

/// Where the node's own state of kcm is.
pub const FOLDER: &str = "/var/lib/kcm";

/// Bytes of the file: some 150 an item, of which a machine has an interrupt queue and a dozen threads a
/// CPU.
const LIMIT: u64 = 16 << 20;

/// How long another that is putting it on or off is waited for.
const PATIENCE: Duration = Duration::from_secs(30);

/// What the shield has changed in this boot.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct State {
    /// The boot of which it tells (random(4)).
    pub boot_id: String,
    /// The configuration directory whose exclusive pools are shielded.
    pub conf_dir: PathBuf,
    /// The CPUs that are shielded, in the kernel's list format; empty while the shield is off.
    pub cpus: String,
    /// The governor that was asked for.
    pub governor: Option<String>,
    /// What was changed.
    pub items: Vec<Kept>,
    /// Microseconds of resume latency that were asked for.
    pub latency: Option<u32>,
    /// What would not be changed, when the shield was last put on.
    pub refused: Vec<Refused>,
}

/// An item that has stayed as it was, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refused {
    /// Which.
    #[serde(flatten)]
    pub item: Item,
    /// Why.
    pub why: String,
}

impl State {
    /// The CPUs that are shielded.
    pub fn shielded(&self) -> CpuSet {
        cpus(&self.cpus)
    }
}

/// The file, in a folder of its own.
#[derive(Clone, Debug)]
pub struct StateFile {
    folder: PathBuf,
}

/// The lock of the file, until it is dropped.
#[derive(Debug)]
pub struct Locked {
    _lock: File,
}

impl Default for StateFile {
    fn default() -> Self {
        Self::new(FOLDER)
    }
}

impl StateFile {
    /// In this folder.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self { folder: folder.into() }
    }

    /// The file itself.
    pub fn path(&self) -> PathBuf {
        self.folder.join("shield.json")
    }

    /// What was written in the boot of this id; none where nothing was. An error where others than root
    /// may have written it, or where it is damaged.
    pub fn read(&self, boot_id: &str) -> Result<Option<State>, Error> {
        let path = self.path();
        let text = match regular::read_text(&path, LIMIT) {
            Ok(text) => text,
            Err(e) if is_gone(&e) => return Ok(None),
            Err(e) => return Err(Error::io("read", &path, &e)),
        };
        if let Some(unfit) = Place::find(&path)?.writable() {
            return Err(unfit_place(&path, &unfit));
        }
        let state: State = serde_json::from_str(&text).map_err(|e| {
            let cause = format!("{e}; restart the node, or remove it and see to what it told of");
            Error::malformed(&path, cause)
        })?;
        Ok((state.boot_id == boot_id).then_some(state))
    }

    /// Writes it whole; removes it where it would tell of nothing.
    pub fn write(&self, state: &State) -> Result<(), Error> {
        let path = self.path();
        if state.cpus.is_empty() && state.items.is_empty() {
            return files::apply(&files::changes(vec![Wanted::none(path)])?);
        }
        let text = serde_json::to_vec(state).map_err(|e| Error::malformed(&path, e.to_string()))?;
        files::apply(&files::changes(vec![Wanted::file(path, text, Some(0o600))])?)
    }

    /// Makes the folder where it is missing, and waits for whoever puts the shield on or off.
    pub fn lock(&self) -> Result<Locked, Error> {
        let folder = &self.folder;
        if !folder.exists() {
            let made = DirBuilder::new().recursive(true).mode(0o700).create(folder);
            made.map_err(|e| Error::io("make", folder, &e))?;
        }
        let path = folder.join("shield.lock");
        if let Some(unfit) = Place::find(&path)?.writable() {
            return Err(unfit_place(&path, &unfit));
        }
        let mut open = OpenOptions::new();
        open.create(true).truncate(false).write(true).mode(0o600);
        let lock = open.open(&path).map_err(|e| Error::io("open", &path, &e))?;
        let begun = Instant::now();
        while let Err(e) = FileExt::try_lock_exclusive(&lock) {
            if begun.elapsed() > PATIENCE {
                return Err(Error::io("lock", &path, &e));
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(Locked { _lock: lock })
    }
}

fn unfit_place(path: &Path, unfit: &trust::Unfit) -> Error {
    Error::malformed(path, format!("{unfit}; {}", unfit.remedy()))
}

/// The systemd units whose CPUs the shield has set in the boot of this id, as `system.slice`, with
/// what it set them to: a cgroup of that name whose own `cpuset.cpus` are these has them of the
/// shield, and of nobody else. Empty where there is no shield, and where the file is not to be
/// trusted: then nothing is taken for the shield's.
pub fn shielded_units(file: &StateFile, boot_id: &str) -> BTreeMap<String, CpuSet> {
    let state = file.read(boot_id).ok().flatten().unwrap_or_default();
    let units = state.items.into_iter().filter(|kept| kept.item.kind == Kind::Slice);
    units.map(|kept| (kept.item.name, cpus(&kept.set))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{MetadataExt, PermissionsExt};

    fn state() -> State {
        let slice = Kept {
            item: Item::new(Kind::Slice, "system.slice"),
            before: String::new(),
            set: "0-1,6-15".into(),
            earlier: None,
        };
        State { boot_id: "b1".into(), cpus: "2-5".into(), items: vec![slice], ..State::default() }
    }

    #[test]
    fn the_shields_units_are_told_in_its_boot_and_from_a_file_of_roots_alone() {
        let folder = tempfile::tempdir().unwrap();
        let file = StateFile::new(folder.path().join("kcm"));
        assert_eq!(file.read("b1").unwrap(), None);
        let locked = file.lock().unwrap();
        file.write(&state()).unwrap();
        drop(locked);
        assert_eq!(file.read("b1").unwrap(), Some(state()));
        assert_eq!(file.read("b2").unwrap(), None, "of another boot");
        let units = shielded_units(&file, "b1");
        assert_eq!(units["system.slice"].to_string(), "0-1,6-15");
        let mode = |path: &Path| std::fs::metadata(path).unwrap().mode() & 0o777;
        assert_eq!((mode(&folder.path().join("kcm")), mode(&file.path())), (0o700, 0o600));

        let path = file.path();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o622)).unwrap();
        let error = file.read("b1").unwrap_err().to_string();
        assert!(error.contains("can be written by others than root"), "{error}");
        assert!(shielded_units(&file, "b1").is_empty());
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        std::fs::write(&path, "{").unwrap();
        let error = file.read("b1").unwrap_err().to_string();
        assert!(error.contains("shield.json") && error.contains("remove it"), "{error}");
        assert!(shielded_units(&file, "b1").is_empty());
    }

    #[test]
    fn two_do_not_put_it_on_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let file = StateFile::new(folder.path());
        let locked = file.lock().unwrap();
        let waits = std::thread::spawn({
            let file = file.clone();
            move || file.lock().map(drop)
        });
        std::thread::sleep(Duration::from_millis(200));
        assert!(!waits.is_finished());
        drop(locked);
        waits.join().unwrap().unwrap();
    }
}
