//! The unit of systemd's that a container is in.

use std::path::Path;
use std::time::{Duration, Instant};

use super::cgroup::{Cgroup, Version};
use super::systemd::{self, PRIVATE_SOCKET, Restriction, Systemd};

/// For all that is asked of systemd for one container.
const LIMIT: Duration = Duration::from_secs(5);

/// A scope of systemd's that holds one container and nothing else.
#[derive(Debug)]
pub struct Scope {
    unit: String,
    cgroup: Cgroup,
    systemd: Systemd,
}

/// Why a container's scope is not known, or not changed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The cgroup file system.
    #[error(transparent)]
    Host(#[from] super::Error),
    /// systemd.
    #[error(transparent)]
    Systemd(#[from] systemd::Error),
}

impl Scope {
    /// The scope of a container's cgroup: that cgroup itself, or the one right above where the
    /// runtime made a subgroup in it (crun's `container`). None where systemd does not run or has
    /// no such unit at that very place (a cgroup can have any name), where the cpuset controller is
    /// cgroup v1's, with which systemd does nothing, or where `holds_it_alone` denies: any other
    /// scope is a login session's or a nested node's. systemd is not waited for beyond the deadline.
    pub fn of(
        cgroup: &Cgroup,
        deadline: Option<Instant>,
        holds_it_alone: impl FnOnce(&Cgroup) -> Result<bool, super::Error>,
    ) -> Result<Option<Self>, Error> {
        let is_scope = |cgroup: &Cgroup| cgroup.name().ends_with(".scope");
        let at = if is_scope(cgroup) { Some(cgroup.clone()) } else { cgroup.parent() };
        let Some(at) = at.filter(|at| is_scope(at) && at.version() == Version::V2) else {
            return Ok(None);
        };
        if !holds_it_alone(&at)? {
            return Ok(None);
        }
        let Some(mut systemd) = Systemd::connect(Path::new(PRIVATE_SOCKET), LIMIT)? else {
            return Ok(None);
        };
        if let Some(deadline) = deadline {
            systemd.until(deadline);
        }
        let unit = at.name().to_owned();
        let is_there = systemd.control_group(&unit)?.as_deref() == Some(at.path());
        Ok(is_there.then_some(Self { unit, cgroup: at, systemd }))
    }

    /// One that systemd has just made, with the connection by which it was asked to.
    pub(super) fn made(unit: String, cgroup: Cgroup, systemd: Systemd) -> Self {
        Self { unit, cgroup, systemd }
    }

    /// The scope's own cgroup.
    pub fn cgroup(&self) -> &Cgroup {
        &self.cgroup
    }

    /// Restricts it until it ends.
    pub fn restrict(&mut self, to: Restriction<'_>) -> Result<(), Error> {
        Ok(self.systemd.restrict_scope(&self.unit, to)?)
    }
}
