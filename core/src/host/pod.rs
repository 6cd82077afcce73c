//! The cgroups of the kubelet's pods, and their CFS quotas: lifted as long as a container is in a pod that
//! has CPUs for itself alone.
//!
//! The kubelet gives a pod the sum of its containers' quotas, so that one that needs no quota any more
//! would use up the others'. Without the pod's, each is still bound by its own, or by its CPUs: what
//! the pod may use at the most is the sum of these.
//!
//! ```text
//! /run/kcm/quotas         what pods had, and for whom they have it no more; this boot's
//! /run/kcm/quotas.lock    held from the look at both until both are written
//! ```

use std::collections::BTreeMap;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;
use std::time::{Duration, Instant};

use fs2::FileExt;
use serde::{Deserialize, Serialize};

use super::cgroup::{Cgroup, Hierarchy, Version};
use super::quota::Quota;
use super::read;
use super::scope::Error;
use super::systemd::{NO_QUOTA, PRIVATE_SOCKET, Systemd};

const NOTES: &str = "/run/kcm/quotas";

/// How long somebody waits before he tries the lock again.
const PAUSE: Duration = Duration::from_millis(2);

/// A pod's cgroup, as one of its containers sees it.
#[derive(Debug)]
pub struct Pod {
    cgroup: Cgroup,
    /// The container's own, right below.
    container: String,
}

/// What a pod had, and for whom it has it no more.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
struct Lifted {
    /// Its cgroup's, since another may come to have its path.
    inode: u64,
    /// As the kernel writes it.
    quota: Quota,
    /// systemd's of its slice, in microseconds of a second, where it had one.
    property: Option<u64>,
    containers: Vec<String>,
}

/// Those of all pods, by their cgroups' paths.
type Notes = BTreeMap<String, Lifted>;

impl Pod {
    /// The one that a container's cgroup is in, at any depth; none where it is in none.
    pub fn of(container: &Cgroup) -> Option<Self> {
        let mut at = container.clone();
        loop {
            let above = at.parent()?;
            if is_pod(&above) {
                return Some(Self { container: at.name().to_owned(), cgroup: above });
            }
            at = above;
        }
    }

    /// Its cgroup.
    pub fn cgroup(&self) -> &Cgroup {
        &self.cgroup
    }

    /// Has it have no quota as long as the container is there. The one that it had. For all of it there
    /// is so much time.
    pub fn lift_quota(&self, limit: Duration) -> Result<Option<Quota>, Error> {
        let path = self.cgroup.path();
        // Once more after the notes, since it may have been put back before they were read.
        let has_none = || Ok::<_, Error>(self.cgroup.cpu_quota()?.is_none());
        if has_none()? && !notes()?.contains_key(path) && has_none()? {
            return Ok(None);
        }
        let deadline = Instant::now() + limit;
        let _lock = lock(deadline)?;
        let mut notes = notes()?;
        let quota = self.cgroup.cpu_quota()?;
        let Some(inode) = self.cgroup.inode()? else { return Ok(None) };
        let before = notes.remove(path).filter(|before| before.inode == inode);
        let mut systemd = systemd(&self.cgroup, deadline)?;
        let mut lifted = match (quota, before) {
            (None, None) => return Ok(None),
            (None, Some(lifted)) => lifted,
            // Also where somebody has given it another since it was lifted.
            (Some(quota), before) => {
                let property = match &mut systemd {
                    Some(systemd) => systemd.quota(self.cgroup.name())?,
                    None => None,
                };
                let property = property.filter(|&property| property != NO_QUOTA);
                let containers = before.map(|before| before.containers).unwrap_or_default();
                Lifted { inode, quota, property, containers }
            }
        };
        lifted.containers.retain(|name| *name != self.container);
        lifted.containers.push(self.container.clone());
        let had = lifted.quota;
        notes.insert(path.to_owned(), lifted);
        // First, so that it is put back whatever becomes of this process.
        write(&notes)?;
        if quota.is_some() {
            set(&self.cgroup, systemd, NO_QUOTA, None)?;
        }
        Ok(Some(had))
    }
}

/// A pod that is to have its quota again.
#[derive(Debug)]
pub struct PutBack {
    /// Its cgroup's path.
    pub pod: String,
    /// What it has, or why it may have none.
    pub quota: Result<Quota, Error>,
}

/// Gives back to each pod what it had in which nobody is left for whom it was lifted, now that this
/// container has ended, if one has. Which pods these are.
pub fn put_quotas_back(
    hierarchy: &Hierarchy,
    ended: Option<&str>,
    limit: Duration,
) -> Result<Vec<PutBack>, Error> {
    if !Path::new(NOTES).exists() {
        return Ok(Vec::new());
    }
    let deadline = Instant::now() + limit;
    let _lock = lock(deadline)?;
    let ended = ended.and_then(|path| Pod::of(&hierarchy.at(path)));
    let mut left = Notes::new();
    let mut done = Vec::new();
    let before = notes()?;
    for (path, mut lifted) in before.clone() {
        let pod = hierarchy.at(&path);
        if pod.inode()? != Some(lifted.inode) {
            continue;
        }
        let has_ended = |name: &String| {
            ended.as_ref().is_some_and(|it| it.cgroup.path() == path && it.container == *name)
        };
        lifted.containers.retain(|name| !has_ended(name) && pod.child(name).folder().is_dir());
        if !lifted.containers.is_empty() {
            left.insert(path, lifted);
            continue;
        }
        match put_back(&pod, &lifted, deadline) {
            Ok(quota) => done.push(PutBack { pod: path, quota: Ok(quota) }),
            // It has ended, too.
            Err(_) if pod.inode()? != Some(lifted.inode) => {}
            Err(error) => {
                left.insert(path.clone(), lifted);
                done.push(PutBack { pod: path, quota: Err(error) });
            }
        }
    }
    if left != before {
        write(&left)?;
    }
    Ok(done)
}

/// What it has then: what somebody else has given it meanwhile stays.
fn put_back(pod: &Cgroup, lifted: &Lifted, deadline: Instant) -> Result<Quota, Error> {
    let (quota, property) = match pod.cpu_quota()? {
        None => (lifted.quota, lifted.property),
        Some(anothers) => (anothers, None),
    };
    let property = property.unwrap_or_else(|| quota.a_second());
    set(pod, systemd(pod, deadline)?, property, Some(quota))?;
    Ok(quota)
}

/// systemd first, which writes its own value back at times; then the file, which has it exactly.
fn set(
    pod: &Cgroup,
    systemd: Option<Systemd>,
    property: u64,
    quota: Option<Quota>,
) -> Result<(), Error> {
    if let Some(mut systemd) = systemd {
        systemd.set_quota(pod.name(), property)?;
    }
    Ok(pod.set_cpu_quota(quota)?)
}

/// Where the pod is a slice of systemd's, of cgroup v2.
fn systemd(pod: &Cgroup, deadline: Instant) -> Result<Option<Systemd>, Error> {
    let name = pod.name();
    if pod.version() == Version::V1 || !name.ends_with(".slice") {
        return Ok(None);
    }
    let limit = deadline.saturating_duration_since(Instant::now()).max(PAUSE);
    let Some(mut systemd) = Systemd::connect(Path::new(PRIVATE_SOCKET), limit)? else {
        return Ok(None);
    };
    let is_its = systemd.cgroup_of_unit(name)?.as_deref() == Some(pod.path());
    Ok(is_its.then_some(systemd))
}

fn notes() -> Result<Notes, super::Error> {
    let path = Path::new(NOTES);
    let Some(text) = read(path)? else { return Ok(Notes::new()) };
    serde_json::from_str(&text).map_err(|e| {
        super::Error::malformed(path, format!("{e}; remove it, and see to the quotas of pods"))
    })
}

fn write(notes: &Notes) -> Result<(), super::Error> {
    let path = Path::new(NOTES);
    let staged = path.with_extension("new");
    let written = match notes.is_empty() {
        true => std::fs::remove_file(path),
        false => serde_json::to_vec(notes)
            .map_err(io::Error::other)
            .and_then(|text| std::fs::write(&staged, text))
            .and_then(|()| std::fs::rename(&staged, path)),
    };
    match written {
        Err(e) if notes.is_empty() && super::is_gone(&e) => Ok(()),
        written => written.map_err(|e| super::Error::io("write", path, &e)),
    }
}

/// Two containers may start and end at the same time.
fn lock(deadline: Instant) -> Result<File, super::Error> {
    let notes = Path::new(NOTES);
    let folder = notes.parent().unwrap_or(Path::new("/"));
    let made = DirBuilder::new().recursive(true).mode(0o700).create(folder);
    made.map_err(|e| super::Error::io("make", folder, &e))?;
    let path = notes.with_extension("lock");
    let failed = |e: &io::Error| super::Error::io("lock", &path, e);
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(false).mode(0o600);
    let file = options.open(&path).map_err(|e| failed(&e))?;
    loop {
        match file.try_lock_exclusive() {
            Ok(()) => return Ok(file),
            Err(e) if e.kind() != io::ErrorKind::WouldBlock => return Err(failed(&e)),
            Err(_) if Instant::now() > deadline => {
                let by = "somebody keeps it locked (flock); lslocks shows who";
                return Err(failed(&io::Error::other(by)));
            }
            Err(_) => std::thread::sleep(PAUSE),
        }
    }
}

/// Whether a cgroup is in one of the kubelet's that has all pods; also of a node within a node, whose
/// kubelet has a cgroup above its pods'.
pub(super) fn has_pods(path: &str) -> bool {
    let is_pods = |name: &str| name.trim_start_matches("kubelet-").starts_with("kubepods");
    path.split('/').any(is_pods)
}

/// By name, as the kubelet's cgroup drivers give it: `pod…` or `kubepods-…-pod….slice`.
fn is_pod(cgroup: &Cgroup) -> bool {
    let name = cgroup.name();
    let is_slice = || name.strip_suffix(".slice").is_some_and(|stem| stem.contains("-pod"));
    let above = cgroup.parent();
    (name.starts_with("pod") && above.is_some_and(|above| has_pods(above.path())))
        || (is_slice() && has_pods(cgroup.path()))
}

#[cfg(test)]
mod tests;
