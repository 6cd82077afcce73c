//! Cpuset partitions below ordinary cgroups: the kernel itself keeps everybody else off their CPUs
//! (Documentation/admin-guide/cgroup-v2, section Cpuset; Linux 6.8).
//!
//! ```text
//! this file    a cgroup made a partition and no more one
//!   stale      CPUs that are set aside for nobody, given back
//! ```
//!
//! A cgroup can have CPUs for itself only if each cgroup above it sets them aside as well
//! (`cpuset.cpus.exclusive`), and several containers set theirs aside in one that they share: so all of
//! this is done under the lock of the configuration directory. The kernel accepts a partition that
//! cannot be, and tells only when it is asked.

mod stale;

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::cgroup::{Cgroup, Hierarchy};
use super::{Error, is_gone, own_cgroup, pod, read, regular, sysfs};
use crate::cpu_set::CpuSet;
use crate::partition::Kind;

pub use stale::{Cleared, InTheWay, clear, give_back};

/// The CPUs that partitions have taken from everybody else.
pub fn taken(hierarchy: Option<&Hierarchy>, sys_root: &Path) -> CpuSet {
    let effective = hierarchy.map(|hierarchy| hierarchy.at("/").effective_cpus());
    match (effective, sysfs::online(sys_root)) {
        (Some(Ok(effective)), Ok(online)) => online.difference(&effective),
        _ => CpuSet::new(),
    }
}

/// The same, and what is *isolated* beside.
pub fn taken_or_isolated(hierarchy: Option<&Hierarchy>, sys_root: &Path) -> Result<CpuSet, Error> {
    let Some(root) = hierarchy.map(|hierarchy| hierarchy.at("/")) else { return Ok(CpuSet::new()) };
    let path = root.file("cpuset.cpus.isolated");
    let isolated = parse(&path, &read(&path)?.unwrap_or_default())?;
    Ok(taken(hierarchy, sys_root).union(&isolated))
}

/// What a cgroup has for itself, or sets aside for those below it.
pub(super) const EXCLUSIVE: &str = "cpuset.cpus.exclusive";
/// What kind of partition it is.
pub(super) const PARTITION: &str = "cpuset.cpus.partition";
/// No partition.
pub(super) const MEMBER: &str = "member";

/// What the kernel says of a cgroup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// No partition.
    Member,
    /// One that holds.
    Valid(Kind),
    /// One that does not hold, and why.
    Invalid(Kind, String),
}

/// Whether a kernel of this release (uname(2)), seen by a process with this `/proc/self/cgroup`, can have
/// partitions: for who sees no root of the hierarchy, where the kernel's own files tell.
pub fn can_have_them(release: &str, own_cgroup: &str) -> bool {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse::<u32>);
    let version = (numbers.next(), numbers.next());
    let is_new = matches!(version, (Some(Ok(major)), Some(Ok(minor))) if (major, minor) >= (6, 8));
    let is_v1 = own_cgroup.lines().filter_map(|line| line.split(':').nth(1));
    is_new && !is_v1.flat_map(|names| names.split(',')).any(|name| name == "cpuset")
}

impl State {
    /// Whether it is a partition of this kind, and holds.
    pub fn is(&self, kind: Kind) -> bool {
        *self == Self::Valid(kind)
    }

    /// `root`, or `root invalid (Parent is not a partition root)`.
    fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        if text == MEMBER {
            return Some(Self::Member);
        }
        let (kind, rest) = text.split_once(' ').unwrap_or((text, ""));
        let kind = kind.parse().ok()?;
        let Some(reason) = rest.strip_prefix("invalid") else {
            return rest.is_empty().then_some(Self::Valid(kind));
        };
        let reason = reason.trim().trim_start_matches('(').trim_end_matches(')');
        Some(Self::Invalid(kind, reason.to_owned()))
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Member => f.write_str(MEMBER),
            Self::Valid(kind) => kind.fmt(f),
            Self::Invalid(kind, reason) if reason.is_empty() => write!(f, "{kind} invalid"),
            Self::Invalid(kind, reason) => write!(f, "{kind} invalid ({reason})"),
        }
    }
}

/// Why a cgroup is no partition.
#[derive(Debug, thiserror::Error)]
pub enum NotTaken {
    /// The kernel refuses to set the CPUs aside: somebody else has a claim on them.
    #[error("the kernel does not set CPUs {cpus} aside in {path} ({cause})")]
    Refused {
        /// The CPUs.
        cpus: CpuSet,
        /// The file that did not take them.
        path: PathBuf,
        /// write(2).
        cause: io::Error,
    },
    /// It took all, and says that it does not hold.
    #[error("the kernel says of the cgroup {cgroup}: {state}")]
    Invalid {
        /// Its path.
        cgroup: String,
        /// What it says.
        state: State,
    },
    /// The files are not as they should be.
    #[error(transparent)]
    Host(#[from] Error),
}

impl Cgroup {
    /// What kind of partition it is; none where the kernel has none (cgroup v1, no cpuset controller),
    /// or it is gone.
    pub fn partition(&self) -> Result<Option<State>, Error> {
        let path = self.file(PARTITION);
        let Some(text) = read(&path)? else { return Ok(None) };
        let unknown = || Error::malformed(&path, format!("it says {:?}", text.trim()));
        State::parse(&text).map(Some).ok_or_else(unknown)
    }

    /// A file whose change tells that it has become another partition than it is now (poll(2),
    /// `POLLPRI`). None where it is none that holds: nothing more can be lost.
    pub fn partition_to_watch(&self) -> Option<File> {
        let file = regular::open(&self.file(PARTITION)).ok()?;
        let file = ControlFile { path: self.file(PARTITION), file, before: None };
        // What was not read yet has always changed.
        matches!(State::parse(&file.text().ok()?)?, State::Valid(_)).then_some(file.file)
    }

    /// The CPUs that it has, or sets aside, for itself alone; empty where the kernel has no such thing.
    pub fn exclusive_cpus(&self) -> Result<CpuSet, Error> {
        let path = self.file(EXCLUSIVE);
        parse(&path, &read(&path)?.unwrap_or_default())
    }

    /// Whether nobody stands beside it whom others than kcm give CPUs. Beside a partition below ordinary
    /// cgroups that is to be avoided: Linux 6.12 can lose track of its CPUs then, until the next boot.
    ///
    /// So it is in a scope that a runtime divides for one container (crun), in a pod, whose containers
    /// have one manager, where kcm itself has made it, and right below the root, where a partition is an
    /// ordinary one.
    pub fn is_beside_nobody(&self) -> bool {
        let above = self.parent();
        let is_divided = above.as_ref().is_some_and(|above| above.name().ends_with(".scope"));
        let is_top = above.is_none_or(|above| above.is_root());
        let is_ours = own_cgroup::is_name_of_one(self.name());
        is_divided || is_top || is_ours || pod::has_pods(self.path())
    }

    /// The cgroups above it, below the root, topmost first.
    pub(super) fn ancestors(&self) -> Vec<Self> {
        let above = std::iter::successors(self.parent(), Self::parent);
        let mut above: Vec<Self> = above.take_while(|above| !above.is_root()).collect();
        above.reverse();
        above
    }

    /// The CPUs that it can be given where it becomes a partition: what no cgroup above it leaves out
    /// by its own `cpuset.cpus`, other than by what the shield has set there (units by name).
    pub fn obtainable_cpus(
        &self,
        online: &CpuSet,
        shield: &BTreeMap<String, CpuSet>,
    ) -> Result<CpuSet, Error> {
        let mut all = online.clone();
        for above in self.ancestors() {
            let own = above.own_cpus()?;
            let is_the_shields = shield
                .get(above.name())
                .is_some_and(|set| *set == own && above.path() == format!("/{}", above.name()));
            if !own.is_empty() && !is_the_shields {
                all = all.intersection(&own);
            }
        }
        Ok(all)
    }
}

/// The files by which a cgroup was made a partition, open. A program that ends in a moment forgets
/// them: then the kernel closes them for less than a system call each.
#[derive(Debug, Default)]
pub struct Taken(Vec<ControlFile>);

/// Makes a cgroup a partition of exactly these CPUs, or leaves all as it was.
pub fn take(cgroup: &Cgroup, cpus: &CpuSet, kind: Kind) -> Result<Taken, NotTaken> {
    let mut taken = Taken::default();
    let result = try_take(cgroup, cpus, kind, &mut taken.0);
    if result.is_err() {
        // As far as that goes: what stays is found by whoever wants these CPUs next.
        let _ = write(&cgroup.file(PARTITION), MEMBER);
        let _ = write(&cgroup.file(EXCLUSIVE), "");
        for file in taken.0.iter().rev() {
            let _ = file.before.as_ref().map(|before| file.put(&before.to_string()));
        }
    }
    result.map(|()| taken)
}

fn try_take(
    cgroup: &Cgroup,
    cpus: &CpuSet,
    kind: Kind,
    files: &mut Vec<ControlFile>,
) -> Result<(), NotTaken> {
    let refused = |path, cause| NotTaken::Refused { cpus: cpus.clone(), path, cause };
    for above in cgroup.ancestors() {
        let mut list = ControlFile::open(above.file(EXCLUSIVE))?;
        let before = list.cpus()?;
        if !cpus.is_subset(&before) {
            let all = before.union(cpus).to_string();
            list.put(&all).map_err(|cause| refused(list.path.clone(), cause))?;
            list.before = Some(before);
        }
        files.push(list);
    }
    let own = ControlFile::open(cgroup.file(EXCLUSIVE))?;
    own.put(&cpus.to_string()).map_err(|cause| refused(own.path.clone(), cause))?;
    files.push(own);
    let file = ControlFile::open(cgroup.file(PARTITION))?;
    file.put(&kind.to_string()).map_err(|cause| Error::io("write", &file.path, &cause))?;
    let state = State::parse(&file.text()?).unwrap_or(State::Member);
    files.push(file);
    match state.is(kind) {
        true => Ok(()),
        false => Err(NotTaken::Invalid { cgroup: cgroup.path().to_owned(), state }),
    }
}

/// Has the kernel forget all of a partition that does not hold, so that it can be made anew.
pub fn forget(cgroup: &Cgroup) -> Result<(), Error> {
    match cgroup.partition()? {
        Some(State::Invalid(..)) => write(&cgroup.file(PARTITION), MEMBER),
        _ => Ok(()),
    }
}

/// Has a cgroup be a partition no more, and gives its CPUs back, in it and in those above: for one that
/// nobody is in any more, or whose container is not to start.
pub fn leave(hierarchy: &Hierarchy, cgroup: &Cgroup, cpus: &CpuSet) -> Result<(), Error> {
    stale::disband(cgroup, cpus)?;
    give_back(hierarchy, cgroup, cpus)
}

/// An open file of a cgroup's.
#[derive(Debug)]
struct ControlFile {
    path: PathBuf,
    file: File,
    /// The CPUs that it had before they were changed.
    before: Option<CpuSet>,
}

impl ControlFile {
    fn open(path: PathBuf) -> Result<Self, Error> {
        match regular::open_to_change(&path) {
            Ok(file) => Ok(Self { path, file, before: None }),
            Err(e) => Err(Error::io("open", &path, &e)),
        }
    }

    /// What it holds, by one read: the longest list of 8,192 CPUs has 40 KB.
    fn text(&self) -> Result<String, Error> {
        let mut bytes = [0; 1 << 16];
        let read = self.file.read_at(&mut bytes, 0);
        let length = read.map_err(|e| Error::io("read", &self.path, &e))?;
        Ok(String::from_utf8_lossy(&bytes[..length]).into_owned())
    }

    fn cpus(&self) -> Result<CpuSet, Error> {
        parse(&self.path, &self.text()?)
    }

    fn put(&self, text: &str) -> io::Result<()> {
        // With a line's end, since to write nothing would be no write.
        self.file.write_all_at(format!("{text}\n").as_bytes(), 0)
    }
}

fn parse(path: &Path, text: &str) -> Result<CpuSet, Error> {
    CpuSet::parse_possibly_empty(text).map_err(|e| Error::malformed(path, e.to_string()))
}

/// Of a cgroup that is gone there is nothing more to write.
fn write(path: &Path, text: &str) -> Result<(), Error> {
    let put = |file: File| ControlFile { path: path.to_owned(), file, before: None }.put(text);
    match regular::open_to_change(path).and_then(put) {
        Err(e) if !is_gone(&e) => Err(Error::io("write", path, &e)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernel_can_have_them_from_6_8_on_with_the_controller_of_cgroup_v2() {
        let hybrid = "5:cpuset,cpu:/x\n0::/y\n";
        for (release, own, expected) in [
            ("6.12.117-cloud-amd64", "0::/\n", true),
            ("6.8.0\n", "1:name=systemd:/\n0::/\n", true),
            ("7.0-rc1", "0::/", true),
            ("6.7.9", "0::/", false),
            ("6.1.0-49-amd64", "0::/", false),
            ("6.12.1", hybrid, false),
            ("", "0::/", false),
            ("x", "0::/", false),
        ] {
            assert_eq!(can_have_them(release, own), expected, "{release}");
        }
    }

    #[test]
    fn nobody_stands_beside_a_container_of_a_pod_or_in_a_scope_that_is_divided() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("cgroup.controllers"), "").unwrap();
        let hierarchy = Hierarchy::find(folder.path(), "0::/").unwrap();
        for (path, expected) in [
            ("/machine.slice/libpod-1f.scope/container", true),
            ("/machine.slice/libpod-1f.scope", false),
            ("/system.slice/docker-1f.scope", false),
            ("/kubepods.slice/kubepods-pod1.slice/cri-containerd-1f.scope", true),
            ("/kubepods/burstable/pod1/1f", true),
            (
                "/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-pod1.slice/cri-1f.scope",
                true,
            ),
            ("/isolate-12", true),
            ("/user.slice/user-0.slice/kcm-isolate-12-345.scope", true),
            ("/user.slice/user-0.slice/session-1.scope", false),
            ("/docker/1f", false),
        ] {
            assert_eq!(hierarchy.at(path).is_beside_nobody(), expected, "{path}");
        }
    }

    #[test]
    fn a_state_is_a_word_and_maybe_why_it_does_not_hold() {
        let parsed = |text: &str| State::parse(text).map(|state| state.to_string());
        for text in
            ["member", "root", "isolated", "root invalid", "root invalid (No cpu available)"]
        {
            let line = format!("{text}\n");
            assert_eq!(parsed(&line).as_deref(), Some(text));
        }
        for other in ["", "roots", "root valid", "member invalid"] {
            assert_eq!(parsed(other), None, "{other:?}");
        }
        assert!(State::parse("root").unwrap().is(Kind::Root));
        assert!(!State::parse("root invalid (x)").unwrap().is(Kind::Root));
    }
}
