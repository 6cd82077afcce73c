//! The CPUs that a command is given, and what holds them for it: a cgroup of its own, or its affinity
//! and a lock.

use std::fs::File;
use std::num::NonZeroUsize;

use anyhow::Context;
use kcm_core::allocation::{Allocation, Details, Owner};
use kcm_core::host::own_cgroup::OwnCgroup;
use kcm_core::host::{affinity, environ};
use kcm_core::node::pin::{self, Binding, Outcome};
use kcm_core::node::{self, Granted};
use kcm_core::pool::PoolName;
use kcm_core::request::Request;
use kcm_core::task::Process;
use kcm_core::{CpuSet, Node};

use super::aside;
use crate::logging;

/// What a command is to get.
#[derive(Clone, Debug)]
pub(crate) struct Wish {
    pub(crate) pool: PoolName,
    /// How many CPU lists of an exclusive pool.
    pub(crate) cores: NonZeroUsize,
    /// Only lists that lie in these CPUs; none: any.
    pub(crate) within: Option<CpuSet>,
    /// Whether it is bound to them.
    pub(crate) affinity: bool,
    /// Its command line, for the record.
    pub(crate) command: Vec<String>,
}

/// CPUs that are held for a command.
pub(crate) struct Held<'n> {
    node: &'n Node,
    allocation: Allocation,
    cpus: CpuSet,
    /// Those that the caller could use.
    callers: CpuSet,
    by: By,
}

/// What holds them, beside this process.
enum By {
    Cgroup(Box<OwnCgroup>),
    /// The record's lock, which all inherit, and this mark in their environment.
    Mark(String),
}

impl<'n> Held<'n> {
    pub(crate) fn take(wish: &Wish, node: &'n Node, online: &CpuSet) -> anyhow::Result<Self> {
        let callers = affinity::own().context("cannot tell which CPUs may be used")?;
        let pid = node.procfs.own_pid().context("cannot tell this process's host PID")?;
        let process = node.procfs.process(pid)?.context("cannot read this process's own state")?;
        let made = OwnCgroup::make(node.hierarchy.as_ref(), &node.procfs, &process);
        let mark = environ::new_mark(&node.procfs, owner(&process, false)?.as_ref())?;
        let take = |own: Option<&OwnCgroup>| {
            let usable = usable(online, own)?;
            let usable = wish
                .within
                .as_ref()
                .map_or_else(|| usable.clone(), |cpus| usable.intersection(cpus));
            let command = Some(wish.command.clone());
            let mark = own.is_none().then(|| environ::digest(mark.as_bytes()));
            let details = Details { command, mark, ..Details::default() };
            allocate(wish, node, &process, usable, own, details)
        };
        let (mut granted, by) = match made {
            Ok(mut own) => match take(Some(&own)) {
                Err(error) => {
                    own.remove();
                    return Err(error);
                }
                Ok(granted) => match restrict(node, &mut own, &granted) {
                    Ok(()) => (granted, Ok(own)),
                    Err(error) => {
                        let mut notices = Vec::new();
                        node.leave_partition(own.parts().0, &granted.allocation, &mut notices);
                        logging::notices(notices);
                        give_back(node, &granted.allocation);
                        own.remove();
                        (take(None)?, Err(error))
                    }
                },
            },
            Err(error) => (take(None)?, Err(error.into())),
        };
        let mut notices = Vec::new();
        let confirmed = node.confirm(&mut granted, &mut notices);
        logging::notices(notices);
        if let Err(error) = confirmed {
            give_back(node, &granted.allocation);
            if let Ok(own) = by {
                own.remove();
            }
            return Err(error.into());
        }
        // The record's lock, until somebody else holds the CPUs.
        let Granted { allocation, exclusive, hold, .. } = granted;
        let cpus = allocation.cpus();
        let stays = match exclusive {
            true => aside::move_off(&cpus, node, online),
            false => false,
        };
        if let (Err(_), Some(hold)) = (&by, &hold)
            && let Err(error) = hold.pass_on()
        {
            give_back(node, &allocation);
            return Err(error).context("cannot pass the lock of the record on to the command");
        }
        let why_no_cgroup = by.as_ref().err().map(ToString::to_string);
        let by = match by {
            Ok(own) => By::Cgroup(Box::new(own)),
            Err(_) => By::Mark(mark),
        };
        let held = Self { node, allocation, cpus, callers, by };
        held.tell(why_no_cgroup.as_deref(), stays);
        Ok(held)
    }

    /// Says on one line what holds the CPUs, and what keeps the command on them.
    fn tell(&self, why_no_cgroup: Option<&str>, stays: bool) {
        let Self { cpus, allocation: Allocation { pool, affinity, .. }, by, .. } = self;
        let by = match (by, affinity) {
            (By::Cgroup(own), true) => {
                format!("cgroup {}, which the command cannot leave by itself", own.path())
            }
            (By::Cgroup(own), false) => format!("cgroup {}, on all CPUs", own.path()),
            (By::Mark(_), true) => "the command's affinity, which it may change".to_owned(),
            (By::Mark(_), false) => "a lock".to_owned(),
        };
        let why = why_no_cgroup.map(|why| format!(": no cgroup, since {why}")).unwrap_or_default();
        let but = match stays {
            true => "; kcm itself stays where it is, since it may use none but exclusive CPUs",
            false => "",
        };
        log::info!("CPUs {cpus} of pool {pool} are held by {by}{why}{but}");
    }

    /// The record of them.
    pub(crate) fn allocation(&self) -> &Allocation {
        &self.allocation
    }

    /// The CPUs.
    pub(crate) fn cpus(&self) -> &CpuSet {
        &self.cpus
    }

    /// Those that the command is bound to.
    pub(crate) fn commands_cpus(&self) -> CpuSet {
        if self.allocation.affinity { self.cpus.clone() } else { self.callers.clone() }
    }

    /// Where the command enters its cgroup, if it has one.
    pub(crate) fn entrance(&self) -> anyhow::Result<Option<File>> {
        match &self.by {
            By::Cgroup(own) => Ok(Some(own.entrance()?)),
            By::Mark(_) => Ok(None),
        }
    }

    /// The command has entered its cgroup, or never will.
    pub(crate) fn is_entered(&mut self) {
        if let By::Cgroup(own) = &mut self.by {
            own.has_been_entered();
        }
    }

    /// What the command's environment is marked with.
    pub(crate) fn mark(&self) -> Option<&str> {
        match &self.by {
            By::Cgroup(_) => None,
            By::Mark(mark) => Some(mark),
        }
    }

    /// Gives the CPUs back, unless somebody is still in the cgroup, who then holds them.
    pub(crate) fn give_back(self) {
        let own = match self.by {
            By::Cgroup(own) => own,
            By::Mark(_) => return give_back(self.node, &self.allocation),
        };
        match own.processes() {
            Ok(pids) if !pids.is_empty() => {
                let pids: Vec<String> = pids.iter().map(ToString::to_string).collect();
                let (cpus, pool) = (&self.cpus, &self.allocation.pool);
                log::warn!(
                    "CPUs {cpus} of pool {pool} stay held until these have ended, which are in \
                     cgroup {} and which kcm did not start: {}",
                    own.path(),
                    pids.join(", ")
                );
            }
            _ => {
                give_back(self.node, &self.allocation);
                own.remove();
            }
        }
    }
}

/// The CPUs that the command may use at all.
fn usable(online: &CpuSet, own: Option<&OwnCgroup>) -> anyhow::Result<CpuSet> {
    let failed = "cannot tell which CPUs may be used";
    match own {
        Some(own) => Ok(own.usable().context(failed)?.intersection(online)),
        None => affinity::reachable(online).context(failed),
    }
}

fn allocate(
    wish: &Wish,
    node: &Node,
    process: &Process,
    usable: CpuSet,
    own: Option<&OwnCgroup>,
    details: Details,
) -> anyhow::Result<Granted> {
    let mut request = Request {
        owner: owner(process, false)?,
        process: process.clone(),
        pool: wish.pool.clone(),
        cores: wish.cores,
        usable,
        cgroup: own.map(|own| own.id().clone()),
        affinity: wish.affinity,
        partition: None,
        within: wish.within.clone(),
        had: None,
        details,
    };
    let mut notices = Vec::new();
    let mut granted = node.allocate(&request, &mut notices);
    if let Err(node::Error::OwnerTaken { .. }) = granted {
        // Left by an earlier process with our PID, which was killed.
        request.owner = owner(&request.process, true)?;
        granted = node.allocate(&request, &mut notices);
    }
    logging::notices(notices);
    Ok(granted?)
}

/// `isolate-<host pid>`; where that is taken, with the start time, too, which no two processes of
/// one PID share.
fn owner(process: &Process, is_taken: bool) -> anyhow::Result<Owner> {
    let Process { pid, start_time, .. } = process;
    Ok(match is_taken {
        false => format!("isolate-{pid}").parse()?,
        true => format!("isolate-{pid}-{}", start_time.unwrap_or_default()).parse()?,
    })
}

/// Has the cgroup keep to the CPUs, and hold them.
fn restrict(node: &Node, own: &mut OwnCgroup, granted: &Granted) -> anyhow::Result<()> {
    let Granted { allocation, .. } = granted;
    if allocation.affinity {
        let (cpus, usable) = (allocation.cpus(), own.usable()?);
        let binding = Binding { usable: Some(&usable), ..Binding::granted(granted, &cpus) };
        let (cgroup, scope) = own.parts();
        let outcome = pin::restrict(node, cgroup, scope, binding)?;
        if let Outcome::Shared(why) = outcome {
            log::warn!("others may run on CPUs {cpus}, which are no cpuset partition: {why}");
        }
    }
    Ok(own.mark(allocation)?)
}

/// What cannot be given back now is taken back by the next allocation: this process is dead then.
fn give_back(node: &Node, allocation: &Allocation) {
    let mut notices = Vec::new();
    let result = node.give_back(allocation, &mut notices);
    logging::notices(notices);
    if let Err(error) = result {
        let error = anyhow::Error::from(error);
        log::warn!("cannot give back the CPUs now: {error:#}; the next allocation will take them");
    }
}
