//! The proof that a cgroup is an owner's: a mark on the cgroup itself.
//!
//! Whoever may write the configuration directory can copy another's path, inode and start time into
//! a record. He cannot reach here: the hook marks the cgroup that it has bound by a [`note`].

use super::cgroup::Cgroup;
use super::procfs::Procfs;
use super::{Error, note};
use crate::allocation::{Allocation, Owner};
use crate::cpu_set::CpuSet;

const NOTE: note::Kind = note::Kind { attribute: c"trusted.kcm.owner", folder: "/run/kcm/marks" };

/// `CAP_SYS_ADMIN` (capabilities(7)), as a bit of `CapEff` (proc_pid_status(5)).
const SYS_ADMIN: u64 = 1 << 21;

/// What is written on a cgroup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark {
    /// For whom it was bound.
    pub owner: Owner,
    /// To which CPUs.
    pub cpus: CpuSet,
}

impl Mark {
    /// The mark that belongs on a holder's cgroup.
    pub fn on(record: &Allocation) -> Self {
        Self { owner: record.owner.clone(), cpus: record.cpus() }
    }

    fn parse(text: &str) -> Option<Self> {
        let (owner, cpus) = text.trim_end().split_once(' ')?;
        Some(Self { owner: owner.parse().ok()?, cpus: cpus.parse().ok()? })
    }
}

/// Marks a cgroup that was bound, in place of any earlier mark.
pub fn set(cgroup: &Cgroup, mark: &Mark) -> Result<(), Error> {
    NOTE.write(cgroup, &format!("{} {}", mark.owner, mark.cpus))
}

/// A cgroup's mark; none where it has none that this process can see.
pub fn of(cgroup: &Cgroup) -> Result<Option<Mark>, Error> {
    Ok(NOTE.read(cgroup)?.as_deref().and_then(Mark::parse))
}

/// Whether this process would see a mark: to others a marked cgroup looks like one without.
pub fn can_be_seen(procfs: &Procfs) -> bool {
    procfs.own_capabilities().is_some_and(|capabilities| capabilities & SYS_ADMIN != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_an_owner_and_its_cpus() {
        let mark = Mark::parse("c1 2-3,10").unwrap();
        assert_eq!((mark.owner.as_ref(), mark.cpus.to_string()), ("c1", "2-3,10".into()));
        for bad in ["", "c1", "c1 ", "c/1 2", "c1 x", " 2"] {
            assert_eq!(Mark::parse(bad), None, "{bad:?}");
        }
    }
}
