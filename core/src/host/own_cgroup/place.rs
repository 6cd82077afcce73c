//! Where a cgroup for a command may be made.
//!
//! Nobody is moved whom kcm did not start, no limit of the caller's is evaded, and whoever ends the
//! caller must end the command, too:
//! - cgroup v1: below the caller's own. Its cpuset hierarchy says nothing of who belongs together.
//! - cgroup v2 below its root, where no systemd runs. Anywhere else there are processes in the
//!   caller's cgroup, so that no controller can be enabled in it (cgroup-v2, "No Internal Process
//!   Constraint").
//! - cgroup v2 in a login's session: a scope beside it in the user's slice.
//! - cgroup v2 in a unit that may divide itself, and in which kcm is alone: one below that.

use std::path::Path;

use super::super::Error;
use super::super::cgroup::{Cgroup, Hierarchy, Version};
use super::super::procfs::Procfs;
use super::super::systemd::{self, PRIVATE_SOCKET, Systemd};
use super::{Failure, LIMIT, PREFIX, maker};

/// Where systemd as PID 1 leaves its traces (sd_booted(3)).
const SYSTEMD_RUNS: &str = "/run/systemd/system";

/// A place for a command's cgroup.
#[derive(Debug)]
pub(super) enum Place {
    /// Below this one.
    Below(Cgroup),
    /// Below this one, in which kcm is alone, and which it has to leave first.
    AloneIn(Cgroup),
    /// As a scope in this slice.
    Scope { slice: Cgroup, systemd: Box<Systemd> },
}

/// Why a command gets no cgroup of its own.
#[derive(Debug, thiserror::Error)]
pub enum Nowhere {
    /// The cgroup file system is not here.
    #[error("the host's cgroup file system is not to be seen here")]
    Unseen,
    /// Paths do not mean the same to us as to others.
    #[error("this process is in a cgroup namespace of its own")]
    Namespace,
    /// Others are in the caller's cgroup.
    #[error("{0} is neither a login's session nor a unit with Delegate=yes in which kcm is alone")]
    Shared(String),
}

impl Place {
    pub(super) fn find(hierarchy: Option<&Hierarchy>, procfs: &Procfs) -> Result<Self, Failure> {
        let hierarchy = hierarchy.filter(|all| all.is_whole()).ok_or(Nowhere::Unseen)?;
        if !procfs.is_in_initial_cgroup_namespace() {
            return Err(Nowhere::Namespace.into());
        }
        let own = hierarchy.own();
        let base = around(own.clone());
        if !base.exists() {
            return Err(Nowhere::Unseen.into());
        }
        if base.version() == Version::V1 {
            return Ok(Self::Below(base));
        }
        if base.is_root() {
            return match Path::new(SYSTEMD_RUNS).exists() {
                true => Err(Nowhere::Shared("/".to_owned()).into()),
                false => Ok(Self::Below(base)),
            };
        }
        let shared = || Failure::from(Nowhere::Shared(base.path().to_owned()));
        let name = own.name();
        if !name.ends_with(".scope") && !name.ends_with(".service") {
            return Err(shared());
        }
        // Its process ids are systemd's only there.
        let is_systemds =
            procfs.own_pid().is_some_and(|pid| pid.as_raw() as u32 == std::process::id());
        let connect = || -> Result<Option<Systemd>, systemd::Error> {
            let Some(mut systemd) = Systemd::connect(Path::new(PRIVATE_SOCKET), LIMIT)? else {
                return Ok(None);
            };
            // A cgroup can have any name.
            let is_its_unit = systemd.control_group(name)?.as_deref() == Some(own.path());
            Ok(is_its_unit.then_some(systemd))
        };
        let mut systemd = match is_systemds {
            true => connect()?.ok_or_else(shared)?,
            false => return Err(shared()),
        };
        if let Some(slice) = slice_of_session(&own) {
            return Ok(Self::Scope { slice, systemd: systemd.into() });
        }
        let is_alone = own.processes()?.iter().all(|pid| pid.as_raw() as u32 == std::process::id());
        match is_alone && systemd.is_delegated(name)? {
            true => Ok(Self::AloneIn(own)),
            false => Err(shared()),
        }
    }
}

/// A cgroup, or, where it is another command's, the one around that: a `kcm isolate` within another
/// takes CPUs of its own.
fn around(mut cgroup: Cgroup) -> Cgroup {
    while maker(cgroup.name()).is_some()
        && let Some(parent) = cgroup.parent()
    {
        cgroup = parent;
    }
    cgroup
}

/// The user's slice that a login's session is in (or a command's scope, which stands beside the
/// session that it was started from), as systemd-logind names both.
fn slice_of_session(cgroup: &Cgroup) -> Option<Cgroup> {
    let slice = cgroup.parent()?;
    let is_users = slice.name().starts_with("user-") && slice.name().ends_with(".slice");
    let name = cgroup.name();
    let is_session = name.starts_with("session-") || name.starts_with(&format!("kcm-{PREFIX}"));
    (is_users && is_session && name.ends_with(".scope")).then_some(slice)
}

pub(super) fn io(action: &'static str, error: &std::io::Error) -> Error {
    Error::io(action, Path::new(PRIVATE_SOCKET), error)
}
