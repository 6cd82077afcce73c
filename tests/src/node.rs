//! A node to install on: this machine's programs, and of all else that kcm and the engines look at
//! what is written here, whatever this machine has.

use std::collections::BTreeMap;
use std::fs;
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::mount::{MsFlags, mount};
use tempfile::TempDir;

use crate::kcm::{Outcome, kcm, run};
use crate::log::Log;
use crate::machine::{Guest, guest, private_view, until};
use crate::programs::program;

/// Folders that are the node's own, and empty. Only its thread sees them, and what that starts.
const OWN: [&str; 9] = [
    "/etc",
    "/opt",
    "/run",
    "/srv",
    "/usr/local/bin",
    "/usr/local/sbin",
    "/usr/share/containers",
    "/var/lib",
    "/var/tmp",
];

/// What of the machine's `/etc` the node has: what programs need to be started, and know users and
/// names by. Nothing of any engine.
const OF_ETC: [&str; 14] = [
    "alternatives",
    "groff",
    "group",
    "hostname",
    "hosts",
    "ld.so.cache",
    "ld.so.conf",
    "ld.so.conf.d",
    "localtime",
    "machine-id",
    "mtab",
    "nsswitch.conf",
    "passwd",
    "ssl",
];

/// What of the machine's `/run` a node in the guest has beside systemd: how that is spoken to.
const OF_SYSTEMDS_RUN: [&str; 2] = ["/run/dbus", "/run/systemd"];

/// Engines that a node has where a test pretends so, and that a machine may have.
const NO_PROGRAMS: [&str; 2] = ["/usr/bin/crio", "/usr/sbin/crio"];

/// podman's own; without it, it loads no image.
const POLICY: &str = r#"{"default": [{"type": "insecureAcceptAnything"}]}"#;

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
        let node = Self { folder, log };
        let is_systemd = guest() == Some(Guest::Systemd);
        OWN.iter().for_each(|path| fs::create_dir(node.source(path)).unwrap());
        for name in OF_ETC.iter().filter(|name| Path::new("/etc").join(name).exists()) {
            let mut copy = Command::new("cp");
            copy.arg("-a").arg(Path::new("/etc").join(name)).arg(node.source("/etc"));
            assert!(copy.status().unwrap().success(), "cannot copy {name} of /etc");
        }
        // What is below one of the node's own folders, and stays: the built programs, temporary
        // files, systemd. It is opened before it is covered, and mounted on the node's own: so
        // nobody finds it who removes what the node was made of.
        let systemds = OF_SYSTEMDS_RUN.iter().filter(|_| is_systemd).map(PathBuf::from);
        let programs = program("kcm").parent().unwrap().to_owned();
        let kept = systemds.chain([programs, std::env::temp_dir()]);
        let kept = kept.map(|path| path.canonicalize().unwrap());
        let kept = kept.filter(|path| OWN.iter().any(|own| path.starts_with(own)));
        let own = OWN.iter().map(|path| (PathBuf::from(path), node.source(path)));
        let all = own.chain(kept.map(|path| (path.clone(), path)));
        let all: Vec<_> = all.map(|(to, from)| (to, fs::File::open(from).unwrap())).collect();
        for (path, folder) in &all {
            fs::create_dir_all(path).unwrap();
            bind(format!("/proc/thread-self/fd/{}", folder.as_raw_fd()), path);
        }
        for program in NO_PROGRAMS.iter().filter(|path| Path::new(path).exists()) {
            bind("/dev/null", program);
        }
        node.write("/etc/containers/policy.json", POLICY);
        node.write("/etc/resolv.conf", "# no network\n"); // containerd copies it
        node
    }

    /// Where the node's own of a folder lies for real.
    fn source(&self, path: &str) -> PathBuf {
        self.folder().join(path.replace('/', "-"))
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
            (self.tasks(pool, list).is_empty() && self.records() == 0).then_some(())
        });
    }

    /// How many records there are.
    pub fn records(&self) -> usize {
        let files = fs::read_dir("/etc/kcm/allocations").unwrap();
        let names = files.map(|file| file.unwrap().file_name().into_string().unwrap());
        names.filter(|name| name.ends_with(".json")).count()
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

fn bind(source: impl AsRef<Path>, place: impl AsRef<Path>) {
    let (flags, nothing) = (MsFlags::MS_BIND | MsFlags::MS_REC, None::<&str>);
    let (source, place) = (source.as_ref(), place.as_ref());
    let mounted = mount(Some(source), place, nothing, flags, nothing);
    mounted.unwrap_or_else(|e| panic!("cannot mount on {}: {e}", place.display()));
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
