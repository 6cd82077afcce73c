//! A configuration directory in a temporary folder, made by hand in the layout of docs/config.md.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::lchown;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use tempfile::TempDir;

use crate::tree::tree;

/// A configuration directory; removed when dropped.
#[derive(Debug)]
pub struct ConfDir {
    _folder: Option<TempDir>,
    path: PathBuf,
}

impl ConfDir {
    /// Pools as (name, exclusive, CPU lists).
    pub fn new(pools: &[(&str, bool, &[&str])]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let made = Self::new_at(&folder.path().join("kcm"), pools);
        Self { _folder: Some(folder), ..made }
    }

    /// One at this path, which stays when this is dropped.
    pub fn new_at(path: &Path, pools: &[(&str, bool, &[&str])]) -> Self {
        fs::create_dir_all(path.join("pools")).unwrap();
        for (pool, exclusive, lists) in pools {
            let pool = path.join("pools").join(pool);
            fs::create_dir_all(&pool).unwrap();
            fs::write(pool.join("exclusive"), if *exclusive { "1" } else { "0" }).unwrap();
            for list in *lists {
                fs::create_dir(pool.join(list)).unwrap();
                fs::write(pool.join(list).join("tasks"), "").unwrap();
            }
        }
        fs::write(path.join("lock"), "").unwrap();
        Self::at(path)
    }

    /// The one at this path.
    pub fn at(path: &Path) -> Self {
        Self { _folder: None, path: path.to_owned() }
    }

    /// Makes it user nobody's.
    pub fn give_to_nobody(&self) {
        let parent = self.path.parent().unwrap().to_owned();
        for path in tree(&self.path).into_keys().chain([parent]) {
            lchown(path, Some(65534), Some(65534)).unwrap();
        }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The `tasks` of a CPU list as they are on disk.
    pub fn tasks(&self, pool: &str, list: &str) -> String {
        fs::read_to_string(self.tasks_path(pool, list)).unwrap_or_default()
    }

    /// The path of a list's `tasks`.
    pub fn tasks_path(&self, pool: &str, list: &str) -> PathBuf {
        self.path.join("pools").join(pool).join(list).join("tasks")
    }

    /// Has a list's `tasks` be as kcm itself leaves one: docs/config.md tells the date.
    pub fn date(&self, pool: &str, list: &str) {
        let file = fs::File::options().write(true).open(self.tasks_path(pool, list)).unwrap();
        file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(0x006b_636d)).unwrap();
    }

    /// The path of an owner's record.
    pub fn record_path(&self, owner: &str) -> PathBuf {
        self.path.join("allocations").join(format!("{owner}.json"))
    }

    /// An owner's record; none where there is none.
    pub fn record(&self, owner: &str) -> Option<serde_json::Value> {
        let text = fs::read_to_string(self.record_path(owner)).ok()?;
        Some(serde_json::from_str(&text).unwrap())
    }

    /// Has an owner's record say something else.
    pub fn edit(&self, owner: &str, changes: &[(&str, serde_json::Value)]) {
        let mut record = self.record(owner).unwrap();
        for (key, value) in changes {
            record[*key] = value.clone();
        }
        self.write_record(owner, &record);
    }

    /// Has an owner's record, and the copies of it that are indexes, say this.
    pub fn write_record(&self, owner: &str, record: &serde_json::Value) {
        fs::write(self.record_path(owner), record.to_string()).unwrap();
        let indexes = self.snapshot().into_iter().filter(|(path, _)| path.ends_with("holder.json"));
        for (path, text) in indexes {
            let found = serde_json::from_slice::<serde_json::Value>(&text);
            if found.is_ok_and(|found| found["owner"] == owner) {
                fs::write(path, record.to_string()).unwrap();
            }
        }
    }

    /// The index of a list: a copy of its holder's record.
    pub fn index_path(&self, pool: &str, list: &str) -> PathBuf {
        self.path.join("pools").join(pool).join(list).join("holder.json")
    }

    /// The names in `allocations/`, sorted; without the one that tells of the boot.
    pub fn allocations(&self) -> Vec<String> {
        let Ok(entries) = fs::read_dir(self.path.join("allocations")) else { return Vec::new() };
        let mut names: Vec<String> =
            entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.retain(|name| name != ".boot");
        names.sort();
        names
    }

    /// Every file below the directory with its content, for *nothing changed*.
    pub fn snapshot(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let mut files = BTreeMap::new();
        collect(&self.path, &mut files);
        files
    }
}

fn collect(folder: &Path, files: &mut BTreeMap<PathBuf, Vec<u8>>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.ends_with("allocations/.boot") {
            // Whoever comes first in a boot writes it, whatever else it does.
            continue;
        }
        if path.is_dir() && !path.is_symlink() {
            files.insert(path.join(""), Vec::new());
            collect(&path, files);
        } else {
            files.insert(path.clone(), fs::read(&path).unwrap_or_default());
        }
    }
}
