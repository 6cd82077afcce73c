//! A folder as it is, to the byte and the permission: for *nothing changed*.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Larger files are known by their size.
const LARGE: u64 = 1 << 20;

/// What is below a folder: type and permissions, and a file's content or a link's target. Nothing
/// is opened but plain files, so a FIFO in a file's place does not block.
pub fn tree(folder: &Path) -> BTreeMap<PathBuf, (u32, Vec<u8>)> {
    let mut all = BTreeMap::new();
    collect(folder, &mut all);
    all
}

fn collect(path: &Path, all: &mut BTreeMap<PathBuf, (u32, Vec<u8>)>) {
    if path.ends_with("allocations/.boot") {
        // Whoever comes first in a boot writes it, whatever else it does.
        return;
    }
    let metadata = fs::symlink_metadata(path).unwrap();
    let content = if metadata.is_symlink() {
        fs::read_link(path).unwrap().into_os_string().into_encoded_bytes()
    } else if metadata.is_file() && metadata.size() <= LARGE {
        fs::read(path).unwrap()
    } else if metadata.is_file() {
        metadata.size().to_string().into()
    } else {
        Vec::new()
    };
    all.insert(path.to_owned(), (metadata.mode(), content));
    if metadata.is_dir() {
        for entry in fs::read_dir(path).unwrap() {
            collect(&entry.unwrap().path(), all);
        }
    }
}
