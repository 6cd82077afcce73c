//! A cgroup of its own for what `kcm isolate` runs: its cpuset keeps the command on its CPUs, whatever
//! the command binds its threads to, and who is in it tells whether anything of the command lives.
//!
//! ```text
//! OwnCgroup (this file)   made, restricted, entered, removed
//!   place                 where it may be: below or beside which cgroup, or why nowhere
//!   placeholder           a process that keeps a scope of systemd's until the command is in it
//! ```

mod place;
mod placeholder;

use std::fs::File;
use std::io;
use std::path::Path;
use std::time::Duration;

use nix::errno::Errno;

use super::cgroup::{Cgroup, Hierarchy, Version, write};
use super::mark::{self, Mark};
use super::procfs::Procfs;
use super::scope::Scope;
use super::systemd::{self, NewScope, Systemd};
use super::{Error, list, read_existing};
use crate::allocation::{Allocation, CgroupId};
use crate::cpu_set::CpuSet;
use crate::task::{Pid, Process};
use place::Place;
use placeholder::Placeholder;

pub use place::Nowhere;

/// For all that is asked of systemd for one command.
const LIMIT: Duration = Duration::from_secs(5);

/// What the names of these cgroups begin with; the host PID of the `kcm` that made it follows, and
/// where that was taken, `-` and its start time.
const PREFIX: &str = "isolate-";

/// A cgroup that was made for one command.
#[derive(Debug)]
pub struct OwnCgroup {
    cgroup: Cgroup,
    id: CgroupId,
    /// The cgroup above it.
    above: Cgroup,
    /// Where systemd made it.
    scope: Option<Scope>,
    /// Keeps that until the command is in it.
    placeholder: Option<Placeholder>,
}

/// Why there is no such cgroup, or why it is not restricted to CPUs.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// There is no place for one.
    #[error(transparent)]
    Nowhere(#[from] Nowhere),
    /// The cgroup file system.
    #[error(transparent)]
    Host(#[from] Error),
    /// systemd.
    #[error(transparent)]
    Systemd(#[from] systemd::Error),
}

impl OwnCgroup {
    /// Makes an empty one for what this process, `kcm`, is going to start. Moves nothing but this
    /// process itself, and that only within a unit of systemd's in which it is alone and which may
    /// divide itself.
    pub fn make(
        hierarchy: Option<&Hierarchy>,
        procfs: &Procfs,
        kcm: &Process,
    ) -> Result<Self, Failure> {
        match Place::find(hierarchy, procfs)? {
            Place::Below(above) => {
                remove_leftovers(&above, procfs);
                Self::below(above, kcm)
            }
            Place::AloneIn(unit) => {
                enter(&make_folder(&unit, "kcm")?)?;
                Self::below(unit, kcm)
            }
            Place::Scope { slice, systemd } => Self::scope(slice, *systemd, kcm),
        }
    }

    fn below(above: Cgroup, kcm: &Process) -> Result<Self, Failure> {
        if above.version() == Version::V2 {
            enable_cpuset(&above)?;
        }
        let name = format!("{PREFIX}{}", kcm.pid);
        // The former is left by an earlier process of our PID, and somebody is in it.
        let name = match above.child(&name).exists() {
            false => name,
            true => format!("{name}-{}", kcm.start_time.unwrap_or_default()),
        };
        let cgroup = make_folder(&above, &name)?;
        let own = Self { id: id(&cgroup)?, cgroup, above, scope: None, placeholder: None };
        match own.has_cpus_and_memory() {
            Ok(()) => Ok(own),
            Err(error) => {
                own.remove();
                Err(error.into())
            }
        }
    }

    /// cgroup v1 takes no process before both are set.
    fn has_cpus_and_memory(&self) -> Result<(), Error> {
        if self.cgroup.version() == Version::V2 {
            return Ok(());
        }
        for (from, to) in
            [("cpuset.effective_mems", "cpuset.mems"), ("cpuset.effective_cpus", "cpuset.cpus")]
        {
            write(&self.cgroup.file(to), read_existing(&self.above.file(from))?.trim())?;
        }
        Ok(())
    }

    fn scope(slice: Cgroup, mut systemd: Systemd, kcm: &Process) -> Result<Self, Failure> {
        let start_time = kcm.start_time.unwrap_or_default();
        let unit = format!("kcm-{PREFIX}{}-{start_time}.scope", kcm.pid);
        let placeholder = Placeholder::start().map_err(|e| place::io("start a process", &e))?;
        systemd.start_scope(&NewScope {
            name: &unit,
            description: &format!("What kcm isolate (process {}) runs", kcm.pid),
            slice: slice.name(),
            pid: placeholder.pid(),
        })?;
        let cgroup = slice.child(&unit);
        let id = id(&cgroup)?;
        let scope = Some(Scope::made(unit, cgroup.clone(), systemd));
        Ok(Self { cgroup, id, above: slice, scope, placeholder: Some(placeholder) })
    }

    /// Its path below the hierarchy's root.
    pub fn path(&self) -> &str {
        self.cgroup.path()
    }

    /// Which it is.
    pub fn id(&self) -> &CgroupId {
        &self.id
    }

    /// The CPUs that it can be restricted to.
    pub fn usable(&self) -> Result<CpuSet, Error> {
        self.above.effective_cpus()
    }

    /// Marks it as the holder of this record's lists, which it is from here on.
    pub fn mark(&self, record: &Allocation) -> Result<(), Failure> {
        Ok(mark::set(&self.cgroup, &Mark::on(record))?)
    }

    /// It, and the scope where systemd made it.
    pub fn parts(&mut self) -> (&Cgroup, Option<&mut Scope>) {
        (&self.cgroup, self.scope.as_mut())
    }

    /// The file into which a process writes 0 to enter it. A process that has just been forked has
    /// one thread only, so that v1's `tasks` is right for it, which costs no wait for all other
    /// forks of the machine as `cgroup.procs` does.
    pub fn entrance(&self) -> Result<File, Error> {
        let path = match self.cgroup.version() {
            Version::V1 => self.cgroup.file("tasks"),
            Version::V2 => self.cgroup.file("cgroup.procs"),
        };
        File::options().write(true).open(&path).map_err(|e| Error::io("open", &path, &e))
    }

    /// Tells that the command is in it, or never will be.
    pub fn has_been_entered(&mut self) {
        self.placeholder = None;
    }

    /// The processes in it.
    pub fn processes(&self) -> Result<Vec<Pid>, Error> {
        self.cgroup.processes()
    }

    /// Removes it if nobody is in it; what cannot be removed now a later `kcm isolate` removes.
    pub fn remove(mut self) {
        self.has_been_entered();
        // systemd removes its own.
        if self.scope.is_none() {
            remove_empty(&self.cgroup.dir());
        }
    }
}

/// Removes what a command that is over has left, if this is that very cgroup, was made here, and
/// nobody is in it. systemd removes its own.
pub fn remove_if_left(hierarchy: &Hierarchy, recorded: &CgroupId) {
    let cgroup = hierarchy.at(&recorded.path);
    if maker(cgroup.name()).is_some() && id(&cgroup).is_ok_and(|now| now == *recorded) {
        remove_empty(&cgroup.dir());
    }
}

/// Removes what earlier commands have left below a cgroup: each that is empty, and whose maker is
/// no more (it would be about to start something in it).
fn remove_leftovers(above: &Cgroup, procfs: &Procfs) {
    for entry in list(&above.dir()).unwrap_or_default() {
        let name = entry.file_name();
        let maker = name.to_str().and_then(maker);
        if maker.is_some_and(|pid| matches!(procfs.stat(pid), Ok(None))) {
            remove_empty(&entry.path());
        }
    }
}

/// Whether a cgroup of this name is such a one, or such a scope.
pub fn is_name_of_one(name: &str) -> bool {
    let scope = name.strip_prefix("kcm-").and_then(|name| name.strip_suffix(".scope"));
    maker(scope.unwrap_or(name)).is_some()
}

/// Who made a cgroup of this name; none if it is none of these.
fn maker(name: &str) -> Option<Pid> {
    let numbers = name.strip_prefix(PREFIX)?;
    let (pid, start_time) = numbers.split_once('-').unwrap_or((numbers, "0"));
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    if is_number(pid) && is_number(start_time) { pid.parse().ok() } else { None }
}

/// Removes a cgroup and those below it; the kernel removes none with a process in it (rmdir(2),
/// EBUSY).
fn remove_empty(folder: &Path) {
    for entry in list(folder).unwrap_or_default() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_empty(&entry.path());
        }
    }
    if let Err(error) = std::fs::remove_dir(folder) {
        log::debug!("{} stays: {error}", folder.display());
    }
}

fn id(cgroup: &Cgroup) -> Result<CgroupId, Error> {
    let gone = || Error::io("read", &cgroup.dir(), &io::Error::from(Errno::ENOENT));
    let inode = cgroup.inode()?.ok_or_else(gone)?;
    Ok(CgroupId { path: cgroup.path().to_owned(), inode: Some(inode) })
}

fn make_folder(above: &Cgroup, name: &str) -> Result<Cgroup, Error> {
    let cgroup = above.child(name);
    match std::fs::create_dir(cgroup.dir()) {
        Ok(()) => Ok(cgroup),
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists && name == "kcm" => Ok(cgroup),
        Err(e) => Err(Error::io("make", &cgroup.dir(), &e)),
    }
}

/// Moves this process, which has one thread only.
fn enter(cgroup: &Cgroup) -> Result<(), Error> {
    write(&cgroup.file("cgroup.procs"), "0")
}

/// Has the cgroups below one of cgroup v2 have a cpuset.
fn enable_cpuset(above: &Cgroup) -> Result<(), Error> {
    let has = |name| read_existing(&above.file(name)).map(|text| has_word(&text, "cpuset"));
    let subtree = above.file("cgroup.subtree_control");
    if has("cgroup.subtree_control")? {
        return Ok(());
    }
    if !has("cgroup.controllers")? {
        let unsupported = io::Error::from(Errno::EOPNOTSUPP);
        return Err(Error::io("enable the cpuset controller in", &subtree, &unsupported));
    }
    write(&subtree, "+cpuset")
}

fn has_word(text: &str, word: &str) -> bool {
    text.split_whitespace().any(|other| other == word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_name_that_kcm_gives_is_taken_for_one() {
        let named = |name| maker(name).map(Pid::as_raw);
        assert_eq!([named("isolate-12"), named("isolate-12-345")], [Some(12), Some(12)]);
        for other in [
            "isolate-",
            "isolate-0",
            "isolate-x",
            "isolate-1-",
            "isolate-1-2-3",
            "isolate-+1",
            "kcm",
        ] {
            assert_eq!(named(other), None, "{other}");
        }
    }
}
