//! The cgroup of a pod of the kubelet's, and its CFS quota: lifted as long as a container is in it that
//! has CPUs for itself alone.
//!
//! The kubelet gives a pod the sum of its containers' quotas, so that one that needs no quota any more
//! would use up the others'. Without the pod's, each is still bound by its own, or by its CPUs: what
//! the pod may use at the most is the sum of these. A note on the pod's cgroup says what it had, and
//! for whom it was lifted; the last of them has it put back.

use std::fs::File;
use std::path::Path;
use std::time::{Duration, Instant};

use fs2::FileExt;

use super::cgroup::{Cgroup, Hierarchy, Version};
use super::quota::Quota;
use super::scope::Error;
use super::systemd::{NO_QUOTA, PRIVATE_SOCKET, Systemd};
use super::{list, note};

const NOTE: note::Kind = note::Kind { attribute: c"trusted.kcm.quota", folder: "/run/kcm/pods" };

/// How long somebody waits before he tries the lock again.
const PAUSE: Duration = Duration::from_millis(2);

/// A pod's cgroup, as one of its containers sees it.
#[derive(Debug)]
pub struct Pod {
    cgroup: Cgroup,
    /// The container's own, right below; empty for none.
    container: String,
}

/// What a pod had, and for whom it has it no more.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Lifted {
    quota: Quota,
    /// systemd's `CPUQuotaPerSecUSec=` of its slice, where it has one.
    property: Option<u64>,
    containers: Vec<String>,
}

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

    /// All of a machine's.
    pub fn all(hierarchy: &Hierarchy) -> Result<Vec<Self>, Error> {
        let mut pods = Vec::new();
        let mut folders = vec![hierarchy.at("/")];
        while let Some(folder) = folders.pop() {
            for entry in list(&folder.folder())? {
                let cgroup = folder.child(&entry.file_name().to_string_lossy());
                let leads_to_pods = has_pods(cgroup.path()) || cgroup.name().starts_with("kubelet");
                if is_pod(&cgroup) {
                    pods.push(Self { cgroup, container: String::new() });
                } else if leads_to_pods && entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                    folders.push(cgroup);
                }
            }
        }
        Ok(pods)
    }

    /// Its cgroup.
    pub fn cgroup(&self) -> &Cgroup {
        &self.cgroup
    }

    /// Has it have no quota as long as the container is there. The one that it had. For all of it there
    /// is so much time.
    pub fn lift_quota(&self, limit: Duration) -> Result<Option<Quota>, Error> {
        if self.cgroup.cpu_quota()?.is_none() && self.lifted()?.is_none() {
            return Ok(None);
        }
        let deadline = Instant::now() + limit;
        let _lock = self.lock(deadline)?;
        let quota = self.cgroup.cpu_quota()?;
        let mut systemd = self.systemd(deadline)?;
        let lifted = match (quota, self.lifted()?) {
            (None, None) => return Ok(None),
            (None, Some(lifted)) => lifted,
            // Also where somebody has given it another since it was lifted.
            (Some(quota), before) => {
                let property = match &mut systemd {
                    Some(systemd) => systemd.quota(self.cgroup.name())?,
                    None => None,
                };
                let containers = before.map(|before| before.containers).unwrap_or_default();
                Lifted { quota, property, containers }
            }
        };
        let mut containers = self.living(lifted.containers);
        containers.push(self.container.clone());
        // First, so that it is put back whatever becomes of this process.
        let lifted = Lifted { containers, ..lifted };
        NOTE.write(&self.cgroup, &lifted.to_string())?;
        if quota.is_some() {
            self.set(systemd, NO_QUOTA, None)?;
        }
        Ok(Some(lifted.quota))
    }

    /// Gives it back what it had where none is there any more for whom it was lifted, now that this
    /// container has ended. What it has again.
    pub fn put_quota_back(&self, limit: Duration) -> Result<Option<Quota>, Error> {
        if self.lifted()?.is_none() {
            return Ok(None);
        }
        let deadline = Instant::now() + limit;
        let _lock = self.lock(deadline)?;
        let Some(lifted) = self.lifted()? else { return Ok(None) };
        let containers = self.living(lifted.containers.clone());
        if !containers.is_empty() {
            NOTE.write(&self.cgroup, &Lifted { containers, ..lifted }.to_string())?;
            return Ok(None);
        }
        // One that it was given meanwhile is somebody else's.
        let is_ours = self.cgroup.cpu_quota()?.is_none();
        if is_ours {
            let systemd = self.systemd(deadline)?;
            self.set(systemd, lifted.property.unwrap_or(NO_QUOTA), Some(lifted.quota))?;
        }
        NOTE.write(&self.cgroup, "")?;
        Ok(is_ours.then_some(lifted.quota))
    }

    fn lifted(&self) -> Result<Option<Lifted>, Error> {
        Ok(NOTE.read(&self.cgroup)?.as_deref().and_then(Lifted::parse))
    }

    /// Those of these containers that are there, but for this one.
    fn living(&self, containers: Vec<String>) -> Vec<String> {
        let is_there = |name: &String| self.cgroup.folder().join(name).is_dir();
        containers.into_iter().filter(|name| *name != self.container && is_there(name)).collect()
    }

    /// systemd first, which writes its own value back at times; then the file, which has it exactly.
    fn set(
        &self,
        systemd: Option<Systemd>,
        property: u64,
        quota: Option<Quota>,
    ) -> Result<(), Error> {
        if let Some(mut systemd) = systemd {
            systemd.set_quota(self.cgroup.name(), property)?;
        }
        Ok(self.cgroup.set_cpu_quota(quota)?)
    }

    /// Where the pod is a slice of systemd's. On v1 systemd and the kubelet write different files.
    fn systemd(&self, deadline: Instant) -> Result<Option<Systemd>, Error> {
        let name = self.cgroup.name();
        if self.cgroup.version() == Version::V1 || !name.ends_with(".slice") {
            return Ok(None);
        }
        let limit = deadline.saturating_duration_since(Instant::now()).max(PAUSE);
        let Some(mut systemd) = Systemd::connect(Path::new(PRIVATE_SOCKET), limit)? else {
            return Ok(None);
        };
        let is_its = systemd.cgroup_of_unit(name)?.as_deref() == Some(self.cgroup.path());
        Ok(is_its.then_some(systemd))
    }

    /// Of the pod's folder: two of its containers may start and end at the same time.
    fn lock(&self, deadline: Instant) -> Result<File, super::Error> {
        let folder = self.cgroup.folder();
        let failed = |e: &std::io::Error| super::Error::io("lock", &folder, e);
        let file = File::open(&folder).map_err(|e| failed(&e))?;
        loop {
            match file.try_lock_exclusive() {
                Ok(()) => return Ok(file),
                Err(e) if e.kind() != std::io::ErrorKind::WouldBlock => return Err(failed(&e)),
                Err(_) if Instant::now() > deadline => {
                    let by = "somebody keeps it locked (flock); lslocks shows who";
                    return Err(failed(&std::io::Error::other(by)));
                }
                Err(_) => std::thread::sleep(PAUSE),
            }
        }
    }
}

impl Lifted {
    fn parse(text: &str) -> Option<Self> {
        let mut lines = text.lines();
        let quota = lines.next()?.parse().ok()?;
        let property = match lines.next()? {
            "-" => None,
            number => Some(number.parse().ok()?),
        };
        Some(Self { quota, property, containers: lines.map(str::to_owned).collect() })
    }
}

impl std::fmt::Display for Lifted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let property = self.property.map_or("-".to_owned(), |number| number.to_string());
        write!(f, "{}\n{property}", self.quota)?;
        self.containers.iter().try_for_each(|name| write!(f, "\n{name}"))
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
