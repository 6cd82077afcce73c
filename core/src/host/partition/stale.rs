//! CPUs that cgroups set aside for nobody any more, and who else has a claim on CPUs.
//!
//! A cgroup goes with its container, and its CPUs are everybody's at once; but those above it set them
//! aside still, so that no other branch of the tree can have them. And what was killed at the wrong
//! moment leaves a cgroup that nobody is in and that is a partition all the same.

use std::fmt;

use super::super::cgroup::{Cgroup, Hierarchy};
use super::super::{Error, list, mark};
use super::{EXCLUSIVE, MEMBER, PARTITION, State, write};
use crate::cpu_set::CpuSet;

/// How many cgroups are looked at: under the lock nothing is without a limit.
const MOST: usize = 10_000;

/// Who keeps others from having CPUs for themselves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InTheWay {
    /// A partition of these CPUs that somebody is in.
    Partition(String, State),
    /// A cgroup to which some of these CPUs and no others were given.
    Cpuset(String, CpuSet),
}

impl fmt::Display for InTheWay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Partition(cgroup, state) => {
                write!(
                    f,
                    "the cgroup {cgroup}, which has processes, is a partition ({state}) of them"
                )
            }
            Self::Cpuset(cgroup, cpus) => write!(
                f,
                "the cgroup {cgroup} was given CPUs {cpus} (--cpuset-cpus, AllowedCPUs=, or another kcm)"
            ),
        }
    }
}

/// What became of a look for whoever is in the way.
#[derive(Debug, Default)]
pub struct Cleared {
    /// Cgroups that are so no more: nobody was in them, or below them.
    pub cleared: Vec<String>,
    /// Those that still are.
    pub in_the_way: Vec<InTheWay>,
}

/// Takes CPUs out of what the cgroups above one set aside. Those that a partition has stay, whoever it
/// is: the kernel has them in nobody else's hands, the root's included.
pub fn give_back(hierarchy: &Hierarchy, cgroup: &Cgroup, cpus: &CpuSet) -> Result<(), Error> {
    let mut free: Option<CpuSet> = None;
    // From below: what a cgroup sets aside, the one above it must, too.
    for above in cgroup.ancestors().iter().rev() {
        let aside = above.exclusive_cpus()?;
        if aside.intersection(cpus).is_empty() {
            continue;
        }
        let free = match &free {
            Some(free) => free,
            None => free.insert(hierarchy.at("/").effective_cpus()?.intersection(cpus)),
        };
        let left = aside.difference(free);
        if left != aside && above.exists() {
            write(&above.file(EXCLUSIVE), &left.to_string())?;
        }
    }
    Ok(())
}

/// Has CPUs be set aside for nobody beside a cgroup and those above it, where nobody is that has them.
pub fn clear(cgroup: &Cgroup, cpus: &CpuSet) -> Result<Cleared, Error> {
    let mut found = Cleared::default();
    let mut left = MOST;
    let own = cgroup.clone();
    for at in std::iter::successors(Some(own), Cgroup::parent) {
        let Some(above) = at.parent() else { break };
        for beside in below(&above, &mut left)? {
            if beside.path() != at.path() {
                clear_in(&beside, cpus, &mut found, &mut left)?;
            }
        }
    }
    Ok(found)
}

/// The same in a cgroup and below it. Whether CPUs stay set aside there.
fn clear_in(
    cgroup: &Cgroup,
    cpus: &CpuSet,
    found: &mut Cleared,
    left: &mut usize,
) -> Result<bool, Error> {
    let aside = cgroup.exclusive_cpus()?;
    if aside.intersection(cpus).is_empty() {
        let own = cgroup.own_cpus()?;
        // One that was made by `cpuset.cpus` alone.
        if !own.intersection(cpus).is_empty()
            && let Some(state) = cgroup.partition()?.filter(|state| *state != State::Member)
        {
            found.in_the_way.push(InTheWay::Partition(cgroup.path().to_owned(), state));
            return Ok(true);
        }
        if own.is_empty() || !own.is_subset(cpus) {
            return Ok(false);
        }
        // What a container of kcm's has left.
        if !cgroup.is_populated()? && mark::of(cgroup)?.is_some() {
            disband(cgroup, cpus)?;
            found.cleared.push(cgroup.path().to_owned());
        } else {
            found.in_the_way.push(InTheWay::Cpuset(cgroup.path().to_owned(), own));
        }
        return Ok(false);
    }
    let mut stays = false;
    for below in below(cgroup, left)? {
        stays |= clear_in(&below, cpus, found, left)?;
    }
    if stays {
        return Ok(true);
    }
    let state = cgroup.partition()?.unwrap_or(State::Member);
    if state != State::Member && cgroup.is_populated()? {
        found.in_the_way.push(InTheWay::Partition(cgroup.path().to_owned(), state));
        return Ok(true);
    }
    disband(cgroup, cpus)?;
    found.cleared.push(cgroup.path().to_owned());
    Ok(false)
}

/// Has a cgroup neither have nor set aside CPUs for itself, nor, once nobody is in it, be given them: one
/// to which they were given keeps others from having them for themselves. (Of one with processes the
/// kernel takes no empty list.)
pub(super) fn disband(cgroup: &Cgroup, cpus: &CpuSet) -> Result<(), Error> {
    if cgroup.partition()?.is_some_and(|state| state != State::Member) {
        write(&cgroup.file(PARTITION), MEMBER)?;
    }
    let aside = cgroup.exclusive_cpus()?;
    let left = aside.difference(cpus);
    if left != aside {
        write(&cgroup.file(EXCLUSIVE), &left.to_string())?;
    }
    let own = cgroup.own_cpus()?;
    if !own.is_empty() && own.is_subset(cpus) && !cgroup.is_populated()? {
        write(&cgroup.file("cpuset.cpus"), "")?;
    }
    Ok(())
}

/// The cgroups right below one that have a cpuset.
fn below(cgroup: &Cgroup, left: &mut usize) -> Result<Vec<Cgroup>, Error> {
    let mut found = Vec::new();
    for entry in list(&cgroup.folder())? {
        if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            continue;
        }
        let Some(name) = entry.file_name().to_str().map(str::to_owned) else { continue };
        *left = left.checked_sub(1).ok_or_else(|| {
            let cause = format!("more than {MOST} cgroups are to be looked at");
            Error::malformed(&cgroup.folder(), cause)
        })?;
        found.push(cgroup.child(&name));
    }
    Ok(found)
}
