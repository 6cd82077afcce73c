//! The cpuset controller, of cgroup v1 and v2.

use std::path::{Path, PathBuf};

use super::procfs::Procfs;
use super::{Error, list, mounts, read, read_pids, regular};
use crate::cpu_set::CpuSet;
use crate::task::Pid;

/// Which of the kernel's two interfaces has the cpuset controller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// cgroup v1 (Documentation/admin-guide/cgroup-v1/cpusets).
    V1,
    /// cgroup v2 (Documentation/admin-guide/cgroup-v2, section Cpuset).
    V2,
}

/// The hierarchy that has the cpuset controller, and where it is mounted.
#[derive(Clone, Debug)]
pub struct Hierarchy {
    version: Version,
    mount: PathBuf,
    /// This process's own cgroup in it.
    own: String,
}

/// One cgroup of that hierarchy.
#[derive(Clone, Debug)]
pub struct Cgroup {
    version: Version,
    mount: PathBuf,
    /// Absolute below the mount, `/` for the root.
    path: String,
}

impl Hierarchy {
    /// Finds the cpuset hierarchy below `root` (`/sys/fs/cgroup`), given `/proc/self/cgroup`.
    pub fn find(root: &Path, own_cgroup: &str) -> Result<Self, Error> {
        if let Some((controllers, own)) = v1_line(own_cgroup) {
            let names = ["cpuset", controllers].map(|name| root.join(name));
            let mount = names.into_iter().find(|path| path.join("cpuset.cpus").exists());
            let missing =
                || Error::malformed(root, elsewhere(root, &mounts::of_controller("cpuset")));
            let (version, mount) = (Version::V1, mount.ok_or_else(missing)?);
            return Ok(Self { version, mount, own: own.to_owned() });
        }
        let mounts = [root.to_owned(), root.join("unified")];
        let mount = mounts.into_iter().find(|path| path.join("cgroup.controllers").exists());
        let missing = || Error::malformed(root, "no cgroup file system with a cpuset controller");
        let own = v2_path(own_cgroup).unwrap_or("/").to_owned();
        Ok(Self { version: Version::V2, mount: mount.ok_or_else(missing)?, own })
    }

    /// The cgroup of this process.
    pub fn own(&self) -> Cgroup {
        self.at(&self.own)
    }

    /// Which interface it is.
    pub fn version(&self) -> Version {
        self.version
    }

    /// The cgroup of a process, given its `/proc/<pid>/cgroup`.
    pub fn cgroup_of(&self, proc_cgroup: &str) -> Option<Cgroup> {
        let path = match self.version {
            Version::V1 => v1_line(proc_cgroup).map(|(_, path)| path),
            Version::V2 => v2_path(proc_cgroup),
        };
        path.map(|path| self.at(path))
    }

    /// Where a process is relative to the cgroup of path `recorded`, given its
    /// `/proc/<pid>/cgroup`; outside, too, if that cgroup may be the root or one of our own.
    pub fn place(&self, recorded: &str, proc_cgroup: &str) -> Place {
        match self.cgroup_of(proc_cgroup) {
            Some(shown) if place(&self.own, recorded) == Place::Outside => {
                place(&shown.path, recorded)
            }
            _ => Place::Outside,
        }
    }

    /// The cgroup of this path.
    pub fn at(&self, path: &str) -> Cgroup {
        Cgroup { version: self.version, mount: self.mount.clone(), path: path.to_owned() }
    }

    /// Whether the kernel can have a cgroup as a partition below ordinary ones (Linux 6.8: the root's
    /// list of isolated CPUs came with it, one release after `cpuset.cpus.exclusive`).
    pub fn has_partitions(&self) -> bool {
        self.version == Version::V2 && self.mount.join("cpuset.cpus.isolated").exists()
    }

    /// Whether the mount shows the whole hierarchy, from its true root: only then does a missing
    /// cgroup mean that it is gone.
    pub fn is_whole(&self) -> bool {
        match self.version {
            Version::V1 => self.mount.join("release_agent").exists(),
            Version::V2 => !self.mount.join("cgroup.events").exists(),
        }
    }
}

/// Why the cpuset hierarchy, which is cgroup v1's, is not below `root`, and what to do, given where
/// it is mounted.
fn elsewhere(root: &Path, mounts: &[PathBuf]) -> String {
    let is_v2 = root.join("cgroup.controllers").exists();
    let place = root.join("cpuset");
    match (mounts.first(), is_v2) {
        (Some(at), true) => format!(
            "it is cgroup v2, but cgroup v1 has the cpuset controller, mounted on {at}, where no \
             container is; give it back to cgroup v2: remove the groups below {at}, then: umount {at}",
            at = at.display()
        ),
        (None, true) => {
            "it is cgroup v2, but cgroup v1 has the cpuset controller, in groups that are \
                         mounted nowhere here; mount them (mount -t cgroup -o cpuset cpuset /mnt), \
                         remove them, and unmount them (umount /mnt)"
                .to_owned()
        }
        (Some(at), false) => format!(
            "the cpuset controller (cgroup v1) is mounted on {}, and not in it; have it there, too: \
             mkdir -p {place} && mount --bind {} {place}",
            at.display(),
            at.display(),
            place = place.display()
        ),
        (None, false) => format!(
            "the cpuset controller (cgroup v1) is mounted nowhere here; mount it: mkdir -p {place} && \
             mount -t cgroup -o cpuset cpuset {place}",
            place = place.display()
        ),
    }
}

/// Controllers and path of the v1 hierarchy that has cpuset: `3:cpuset:/path`.
fn v1_line(proc_cgroup: &str) -> Option<(&str, &str)> {
    proc_cgroup.lines().find_map(|line| {
        let (controllers, path) = line.split_once(':')?.1.split_once(':')?;
        controllers.split(',').any(|name| name == "cpuset").then_some((controllers, path))
    })
}

fn v2_path(proc_cgroup: &str) -> Option<&str> {
    proc_cgroup.lines().find_map(|line| line.strip_prefix("0::"))
}

/// Where a process is, relative to a cgroup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// In it.
    In,
    /// In one below it.
    Below,
    /// Elsewhere.
    Outside,
}

/// Where a process is relative to the cgroup of path `recorded`, given its path as
/// `/proc/<pid>/cgroup` shows it to us. In a cgroup namespace of our own (cgroup_namespaces(7)) a path
/// begins with a `/..` for each level up to a common ancestor whose name is not shown: then what
/// follows must be how `recorded` ends, or begin so.
fn place(shown: &str, recorded: &str) -> Place {
    let mut rest = shown;
    while let Some(below) = rest.strip_prefix("/..") {
        rest = below;
    }
    let is_it = |path: &str| match rest.len() == shown.len() {
        true => path == recorded,
        false => !path.is_empty() && recorded.ends_with(path),
    };
    let mut above = rest.match_indices('/').map(|(end, _)| &rest[..end]);
    if is_it(rest) {
        Place::In
    } else if above.any(is_it) {
        Place::Below
    } else {
        Place::Outside
    }
}

impl Cgroup {
    /// Which interface it is of.
    pub fn version(&self) -> Version {
        self.version
    }

    /// Path below the hierarchy's root.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The last component of the path.
    pub fn name(&self) -> &str {
        self.path.rsplit('/').next().unwrap_or_default()
    }

    /// Whether it is the root of the hierarchy.
    pub fn is_root(&self) -> bool {
        self.path == "/"
    }

    /// The cgroup that this one is in; none for the root.
    pub fn parent(&self) -> Option<Self> {
        let (parent, name) = self.path.rsplit_once('/')?;
        if name.is_empty() {
            return None;
        }
        let path = if parent.is_empty() { "/" } else { parent };
        Some(Self { path: path.to_owned(), ..self.clone() })
    }

    /// Whether `other` is this cgroup or one below it.
    pub fn contains(&self, other: &Self) -> bool {
        self.is_root()
            || other
                .path
                .strip_prefix(&self.path)
                .is_some_and(|r| r.is_empty() || r.starts_with('/'))
    }

    /// The cgroup of this name in it.
    pub(crate) fn child(&self, name: &str) -> Self {
        let parent = if self.is_root() { "" } else { &self.path };
        Self { path: format!("{parent}/{name}"), ..self.clone() }
    }

    pub(super) fn mount(&self) -> &Path {
        &self.mount
    }

    pub(super) fn dir(&self) -> PathBuf {
        self.mount.join(self.path.trim_start_matches('/'))
    }

    pub(super) fn file(&self, name: &str) -> PathBuf {
        self.dir().join(name)
    }

    /// Whether it is there.
    pub fn exists(&self) -> bool {
        self.file("cgroup.procs").exists()
    }

    /// The kernel's own number of it: the inode of its folder, which no other cgroup of this boot
    /// has. None where it is gone.
    pub fn inode(&self) -> Result<Option<u64>, Error> {
        use std::os::unix::fs::MetadataExt;
        let folder = self.dir();
        match std::fs::metadata(&folder) {
            Ok(metadata) => Ok(Some(metadata.ino())),
            Err(e) if super::is_gone(&e) => Ok(None),
            Err(e) => Err(Error::io("read", &folder, &e)),
        }
    }

    /// Its folder.
    pub(crate) fn folder(&self) -> PathBuf {
        self.dir()
    }

    /// The processes in this cgroup and in all below it; none where it is gone.
    pub fn processes(&self) -> Result<Vec<Pid>, Error> {
        let text = match read_pids(&self.file("cgroup.procs")) {
            // A threaded one (cgroup v2), whose processes are told by the domain above it.
            Err(_) if self.is_threaded() => String::new(),
            text => match text? {
                Some(text) => text,
                None => return Ok(Vec::new()),
            },
        };
        // 0 stands for a process of another PID namespace: somebody is there (cgroup v2).
        let number = |line: &str| line.parse().unwrap_or(Pid::INIT);
        let mut pids: Vec<Pid> = text.lines().map(number).collect();
        for entry in list(&self.dir())? {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                let name = entry.file_name();
                let below = format!("{}/{}", self.path, name.to_string_lossy());
                pids.extend(Self { path: below, ..self.clone() }.processes()?);
            }
        }
        Ok(pids)
    }

    /// Whether it has threads of a process, not processes (cgroup v2, section Threads).
    fn is_threaded(&self) -> bool {
        let kind = read(&self.file("cgroup.type"));
        kind.is_ok_and(|kind| kind.is_some_and(|kind| kind.trim() == "threaded"))
    }

    /// Whether any process is in this cgroup or below it.
    pub fn is_populated(&self) -> Result<bool, Error> {
        if self.version == Version::V2
            && let Some(events) = read(&self.file("cgroup.events"))?
        {
            return Ok(events.lines().any(|line| line == "populated 1"));
        }
        Ok(!self.processes()?.is_empty())
    }

    /// The CPUs that its processes may use. Where the cgroup has no cpuset controller (v2), those
    /// of the nearest ancestor that has: they hold for it.
    pub fn effective_cpus(&self) -> Result<CpuSet, Error> {
        let name = match self.version {
            Version::V1 => "cpuset.effective_cpus",
            Version::V2 => "cpuset.cpus.effective",
        };
        let mut cgroup = self.clone();
        loop {
            let path = cgroup.file(name);
            if let Some(text) = read(&path)? {
                return CpuSet::parse_possibly_empty(&text)
                    .map_err(|e| Error::malformed(&path, e.to_string()));
            }
            let missing = || Error::malformed(&path, "this kernel has no cpuset controller here");
            cgroup = cgroup.parent().ok_or_else(missing)?;
        }
    }

    /// The CPUs that were written into it; none where nothing was (v2), or there is no such file.
    pub fn own_cpus(&self) -> Result<CpuSet, Error> {
        let path = self.file("cpuset.cpus");
        let text = read(&path)?.unwrap_or_default();
        CpuSet::parse_possibly_empty(&text).map_err(|e| Error::malformed(&path, e.to_string()))
    }

    /// The CPUs that partitions in it or below it have for themselves alone, or may have (v2).
    pub(super) fn set_aside(&self) -> Result<CpuSet, Error> {
        let path = self.file("cpuset.cpus.exclusive");
        let text = read(&path)?.unwrap_or_default();
        CpuSet::parse_possibly_empty(&text).map_err(|e| Error::malformed(&path, e.to_string()))
    }

    /// Binds its processes to CPUs; on v2 the controller is first enabled where it is missing.
    pub fn set_cpus(&self, cpus: &CpuSet) -> Result<(), Error> {
        let path = self.file("cpuset.cpus");
        match write(&path, &cpus.to_string()) {
            Err(e) if self.version == Version::V2 && !path.exists() => {
                self.enable_cpuset()?;
                write(&path, &cpus.to_string()).map_err(|_| e)
            }
            result => result,
        }
    }

    /// Binds its processes' memory to NUMA nodes.
    pub fn set_memory_nodes(&self, nodes: &CpuSet) -> Result<(), Error> {
        write(&self.file("cpuset.mems"), &nodes.to_string())
    }

    /// Enables the controller from the first ancestor that lacks it downwards.
    fn enable_cpuset(&self) -> Result<(), Error> {
        let Some(parent) = self.parent() else { return Ok(()) };
        if !parent.is_root() && !parent.file("cpuset.cpus").exists() {
            parent.enable_cpuset()?;
        }
        let path = parent.file("cgroup.subtree_control");
        put(&path, "+cpuset").map_err(|e| match e.raw_os_error() {
            Some(libc::EBUSY) => parent.is_busy(&path),
            _ => Error { action: "enable cpuset in", path, cause: e.to_string() },
        })
    }

    /// Why no controller is passed on to the cgroups below it ("no internal processes",
    /// admin-guide/cgroup-v2).
    fn is_busy(&self, path: &Path) -> Error {
        let text = read_pids(&self.file("cgroup.procs")).ok().flatten().unwrap_or_default();
        let pids: Vec<&str> = text.lines().collect();
        let who = match pids[..] {
            [] => "processes were".to_owned(),
            [pid] => format!("process {pid} is"),
            [first, .., last] => format!("{} processes ({first} to {last}) are", pids.len()),
        };
        let folder = self.dir();
        let cause = format!(
            "{who} in that cgroup itself, and cgroup v2 passes a controller on only where none is; move \
             all of them below it: mkdir -p {folder}/own && for pid in $(cat {folder}/cgroup.procs); do \
             echo $pid > {folder}/own/cgroup.procs; done",
            folder = folder.display()
        );
        Error { action: "enable cpuset in", path: path.to_owned(), cause }
    }
}

pub(super) fn write(path: &Path, text: &str) -> Result<(), Error> {
    put(path, text).map_err(|e| {
        let error = Error::io("write", path, &e);
        Error { cause: format!("{} (writing {text:?})", error.cause), ..error }
    })
}

/// One `write(2)`, as the kernel's control files want it; never creates a file.
fn put(path: &Path, text: &str) -> std::io::Result<()> {
    use std::io::Write;
    regular::open_to_write(path)?.write_all(text.as_bytes())
}

/// The cgroup of a process in the hierarchy; none where the process has ended.
pub fn of_process(
    hierarchy: &Hierarchy,
    procfs: &Procfs,
    pid: Pid,
) -> Result<Option<Cgroup>, Error> {
    Ok(procfs.cgroup(pid)?.and_then(|text| hierarchy.cgroup_of(&text)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HYBRID: &str = "5:memory:/a\n3:cpuset:/kcm/c1\n1:name=systemd:/\n0::/x\n";

    fn at(path: &str) -> Cgroup {
        Hierarchy { version: Version::V2, mount: "/m".into(), own: "/".into() }.at(path)
    }

    #[test]
    fn the_hierarchy_with_cpuset_is_found_on_v1_on_v2_and_on_both_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        assert!(Hierarchy::find(root, "0::/").is_err() && Hierarchy::find(root, HYBRID).is_err());
        std::fs::create_dir(root.join("cpuset")).unwrap();
        std::fs::write(root.join("cpuset/cpuset.cpus"), "").unwrap();
        std::fs::write(root.join("cgroup.controllers"), "").unwrap();
        let v1 = Hierarchy::find(root, HYBRID).unwrap();
        assert_eq!((v1.version(), v1.mount.clone()), (Version::V1, root.join("cpuset")));
        assert_eq!(v1.cgroup_of(HYBRID).unwrap().path(), "/kcm/c1");
        let v2 = Hierarchy::find(root, "1:name=systemd:/\n0::/x\n").unwrap();
        assert_eq!((v2.version(), v2.mount.clone()), (Version::V2, root.to_owned()));
        assert_eq!(v2.cgroup_of(HYBRID).unwrap().path(), "/x");
    }

    #[test]
    fn where_the_cpuset_hierarchy_is_elsewhere_the_remedy_fits_the_host() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        let said = |mounts: &[PathBuf]| elsewhere(root, mounts);
        let bind = format!("mount --bind /mnt/x {}/cpuset", root.display());
        assert!(said(&["/mnt/x".into()]).ends_with(&bind));
        assert!(said(&[]).contains("mount -t cgroup -o cpuset cpuset"));
        std::fs::write(root.join("cgroup.controllers"), "").unwrap();
        assert!(said(&["/mnt/x".into()]).ends_with("umount /mnt/x"));
        assert!(said(&[]).contains("mounted nowhere here"));
    }

    #[test]
    fn a_recorded_cgroup_is_recognised_also_from_a_cgroup_namespace() {
        use Place::{Below, In, Outside};
        for (shown, recorded, expected) in [
            ("/pods/p1/c1", "/pods/p1/c1", In),
            ("/pods/p1/c1/init.scope", "/pods/p1/c1", Below),
            ("/pods/p1/c10", "/pods/p1/c1", Outside),
            ("/pods/p1", "/pods/p1/c1", Outside),
            ("/", "/pods/p1/c1", Outside),
            ("/../../p1/c1", "/pods/p1/c1", In),
            ("/../../p1/c1/init.scope", "/pods/p1/c1", Below),
            ("/../c1", "/pods/p1/c1", In),
            ("/../c1", "/pods/p1/xc1", Outside),
            ("/../c2", "/pods/p1/c1", Outside),
            ("/../..", "/pods/p1/c1", Outside),
        ] {
            assert_eq!(place(shown, recorded), expected, "{shown} {recorded}");
        }
        let hierarchy = Hierarchy { version: Version::V2, mount: "/m".into(), own: "/a/b".into() };
        for (shown, recorded, expected) in [
            ("0::/c/d", "/c/d", In),
            ("0::/a/b", "/a/b", Outside), // our own
            ("0::/a", "/a", Outside),     // one above our own
            ("0::/c", "/", Outside),
            ("", "/c", Outside),
        ] {
            assert_eq!(hierarchy.place(recorded, shown), expected, "{shown} {recorded}");
        }
    }

    #[test]
    fn ancestors_are_told_from_namesakes() {
        assert!(at("/a").contains(&at("/a/b")) && at("/").contains(&at("/a")));
        assert!(at("/a").contains(&at("/a")) && !at("/a").contains(&at("/ab")));
        let parents = ["/a/b", "/a", "/"].map(|p| at(p).parent().map(|p| p.path().to_owned()));
        assert_eq!(parents, [Some("/a".into()), Some("/".into()), None]);
        assert_eq!(at("/a/b.scope").name(), "b.scope");
    }
}
