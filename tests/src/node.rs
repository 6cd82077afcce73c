//! A node to install on: this machine, with an `/etc` and an `/opt` of the test's own.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::mount::{MsFlags, mount};
use tempfile::TempDir;

use crate::kcm::{Outcome, kcm, run};
use crate::log::Log;
use crate::machine::{private_view, until};

/// Folders of which the node has a copy, seen by one thread and what that starts.
const COPIED: [&str; 2] = ["/etc", "/usr/share/containers"];

/// Folders that are empty on the node, whatever the machine has in them.
const EMPTY: [&str; 3] = ["/opt", "/usr/local/bin", "/var/lib"];

/// Where of all that it may change something.
const WATCHED: [&str; 7] = [
    "/etc/containerd",
    "/etc/containers",
    "/etc/crio",
    "/etc/systemd",
    "/opt",
    "/usr/share/containers",
    "/usr/local/bin",
];

/// The node, as its thread sees it.
#[derive(Debug)]
pub struct Node {
    folder: TempDir,
    /// Its system log.
    pub log: Log,
}

/// A file's content and permissions.
pub type File = (Vec<u8>, u32);

/// Lets a test play on a node of its own, in a thread of its own.
pub fn on_a_node(play: impl Fn(&Node) + Sync) {
    let played = std::thread::scope(|threads| threads.spawn(|| play(&Node::new())).join());
    if let Err(panic) = played {
        std::panic::resume_unwind(panic);
    }
}

impl Node {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let log = Log::listen(&folder.path().join("log"));
        private_view(folder.path(), &folder.path().join("log"));
        let nothing = None::<&str>;
        let own = |path: &str| folder.path().join(path.replace('/', "-"));
        for path in COPIED.iter().filter(|path| Path::new(path).exists()) {
            let copied = Command::new("cp").arg("-a").arg(path).arg(own(path)).status().unwrap();
            assert!(copied.success(), "cannot copy {path}");
        }
        EMPTY.iter().for_each(|path| fs::create_dir(own(path)).unwrap());
        for path in COPIED.iter().chain(&EMPTY).filter(|path| Path::new(path).exists()) {
            mount(Some(&own(path)), *path, nothing, MsFlags::MS_BIND, nothing).unwrap();
        }
        Self { folder, log }
    }

    /// A folder for temporary files.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Runs kcm.
    pub fn kcm(&self, words: &[&str]) -> Outcome {
        run(kcm().args(words))
    }

    /// Writes a file, with the folders above it.
    pub fn write(&self, path: &str, content: &str) {
        fs::create_dir_all(Path::new(path).parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    /// Makes `/etc/kcm` with pools as (name, exclusive, CPU list).
    pub fn make_pools(&self, pools: &[(&str, bool, &str)]) {
        for (pool, exclusive, list) in pools {
            let exclusive = if *exclusive { "1" } else { "0" };
            self.write(&format!("/etc/kcm/pools/{pool}/exclusive"), exclusive);
            self.write(&format!("/etc/kcm/pools/{pool}/{list}/tasks"), "");
        }
        self.write("/etc/kcm/lock", "");
    }

    /// Who is in a CPU list.
    pub fn tasks(&self, pool: &str, list: &str) -> String {
        self.read(&format!("/etc/kcm/pools/{pool}/{list}/tasks"))
    }

    /// Waits until nobody is, and there is no record of anybody.
    pub fn is_released(&self, pool: &str, list: &str) {
        until("the list to be given back", || {
            let records = fs::read_dir("/etc/kcm/allocations").unwrap().count();
            (self.tasks(pool, list).is_empty() && records == 0).then_some(())
        });
    }

    /// A file's text.
    pub fn read(&self, path: &str) -> String {
        fs::read_to_string(path).unwrap_or_else(|e| panic!("{path}: {e}"))
    }

    /// A program that is there, and does nothing.
    pub fn pretend_program(&self, name: &str) {
        let path = Path::new("/usr/local/bin").join(name);
        fs::write(&path, "#!/bin/sh\n").unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// Every file that an installation may change.
    pub fn files(&self) -> BTreeMap<PathBuf, File> {
        let mut files = BTreeMap::new();
        for path in WATCHED {
            collect(Path::new(path), &mut files);
        }
        files
    }
}

fn collect(folder: &Path, files: &mut BTreeMap<PathBuf, File>) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for path in entries.map(|entry| entry.unwrap().path()) {
        let metadata = fs::symlink_metadata(&path).unwrap();
        if metadata.is_dir() {
            collect(&path, files);
        } else if metadata.is_file() {
            let content = fs::read(&path).unwrap();
            files.insert(path, (content, metadata.permissions().mode() & 0o7777));
        }
    }
}
