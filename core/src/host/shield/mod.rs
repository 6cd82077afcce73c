//! What the shield sets on this node: each kind of item is found, read and written in its own way.
//!
//! ```text
//! apply        the plan, item by item, each read back; what it remembers, in the file
//! control      items that are one file: read, written (the mask of workqueues: `host::workqueues`)
//! interrupts  network  cpus     which of those there are
//! threads      affinities: kernel threads; those of others, which a cpuset write takes away
//! slices       systemd's AllowedCPUs
//! irqbalance   its banned list
//! ```

mod apply;
mod control;
mod cpus;
mod interrupts;
mod irqbalance;
mod network;
mod slices;
mod threads;

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::statvfs::{FsFlags, statvfs};

use super::cgroup::{Hierarchy, Version};
use super::procfs::Procfs;
use super::systemd::{self, Systemd};
use super::workqueues::Workqueues;
use super::{Error, partition, read};
use crate::CpuSet;
use crate::plan::shield::boot::Booted;
use crate::plan::shield::{self, Found, Item, Kept, Kind, Plan, Step, Wish, cpus as cpus_of};
use crate::plan::workqueues::Layers;

pub use apply::{Aim, Done, World, carry_out};

/// How long systemd may take for all that it is asked; an emulated machine reloads slowly.
const SYSTEMD: Duration = Duration::from_secs(90);

/// This node, as the shield sees it.
#[derive(Debug)]
pub struct Host {
    sys_root: PathBuf,
    procfs: Procfs,
    hierarchy: Option<Hierarchy>,
    systemd: Option<Systemd>,
    /// Of irqbalance and of threads: only where the host's processes are seen.
    sees_processes: bool,
    possible: CpuSet,
    workqueues: Workqueues,
}

impl Host {
    /// The node whose `sys/` is in `sys_root`.
    pub fn new(
        sys_root: &Path,
        procfs: Procfs,
        hierarchy: Option<Hierarchy>,
        possible: CpuSet,
    ) -> Result<Self, systemd::Error> {
        let sees_processes = procfs.sees_the_host().is_ok();
        let is_v2 = hierarchy.as_ref().is_some_and(|it| it.version() == Version::V2);
        // On cgroup v1 systemd writes no cpuset.
        let systemd = match is_v2 && sees_processes {
            true => Systemd::connect(Path::new(systemd::PRIVATE_SOCKET), SYSTEMD)?,
            false => None,
        };
        let workqueues = Workqueues::new(sys_root);
        let sys_root = sys_root.to_owned();
        Ok(Self { sys_root, procfs, hierarchy, systemd, sees_processes, possible, workqueues })
    }

    /// Whether systemd's units can be kept off CPUs.
    pub fn has_slices(&self) -> bool {
        self.systemd.is_some()
    }

    /// Whether threads can be seen, and so moved.
    pub fn sees_processes(&self) -> bool {
        self.sees_processes
    }

    /// A file system that would have to be written, and that is mounted read-only.
    pub fn read_only(&self) -> Option<PathBuf> {
        let sys = self.sys_root.join("sys/devices/system/cpu");
        let places = [sys, self.procfs.root().join("irq"), self.procfs.root().join("sys/kernel")];
        let is_read_only = |path: &PathBuf| {
            statvfs(path).is_ok_and(|found| found.flags().contains(FsFlags::ST_RDONLY))
        };
        places.into_iter().find(is_read_only)
    }

    /// Whether a container's cgroup can be a partition (since Linux 6.8, cgroup v2): then it gets CPUs
    /// that its slice's cpuset does not have.
    pub fn has_partitions(&self) -> bool {
        let Some(hierarchy) = &self.hierarchy else { return false };
        hierarchy.version() == Version::V2
            && (self.release() >= (6, 8) || hierarchy.at("/").file("cpuset.cpus.isolated").exists())
    }

    /// Whether a write to a cpuset takes from its threads what they have set themselves
    /// (kernel commit 8f9ea86fdf99, Linux 6.2).
    fn forgets_affinities(&self) -> bool {
        self.release() < (6, 2)
    }

    fn release(&self) -> (u32, u32) {
        let text = read(&self.procfs.root().join("sys/kernel/osrelease")).ok().flatten();
        let text = text.unwrap_or_default();
        let mut numbers = text.split(|c: char| !c.is_ascii_digit()).map(|n| n.parse().unwrap_or(0));
        (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
    }

    /// Who of system.slice is a container, or would have one there: docker, and whatever has made a
    /// scope for one.
    pub fn containers_in_system_slice(&self) -> Option<String> {
        slices::containers(self.hierarchy.as_ref()?)
            .or_else(|| self.process("dockerd").map(|_| "docker".to_owned()))
    }

    /// A process of this name.
    fn process(&self, name: &str) -> Option<crate::task::Pid> {
        if !self.sees_processes {
            return None;
        }
        threads::named(&self.procfs, name)
    }

    /// What it was booted with; `managed` are the interrupts that nobody moves.
    pub fn booted(&self, managed: Vec<String>) -> Result<Booted, Error> {
        let path = self.sys_root.join("sys/devices/system/cpu/nohz_full");
        // Where none has it, some kernels write `(null)` there.
        let cpus = |text: String| CpuSet::parse_possibly_empty(&text).unwrap_or_default();
        let cmdline = self.procfs.cmdline()?;
        Ok(Booted { cmdline, nohz_full: read(&path)?.map(cpus), managed })
    }

    /// What irqbalance leaves alone as long as nobody tells it.
    pub fn left_by_irqbalance(&self) -> CpuSet {
        let folder = self.sys_root.join("sys/devices/system/cpu");
        let list = |name| {
            let text = read(&folder.join(name)).ok().flatten().unwrap_or_default();
            CpuSet::parse_possibly_empty(&text).unwrap_or_default()
        };
        list("isolated").union(&list("nohz_full"))
    }

    /// What to do so that the node's own work keeps off the shield's CPUs.
    pub fn plan_on(&mut self, kept: &[Kept], wish: &Wish) -> Result<Plan, Error> {
        let mut found = self.find(kept)?;
        let plan = shield::on(&found, kept, wish);
        Ok(match self.add_threads(&plan, &mut found)? {
            true => shield::on(&found, kept, wish),
            false => plan,
        })
    }

    /// What to do so that everything is as it was before.
    pub fn plan_off(&mut self, kept: &[Kept]) -> Result<Plan, Error> {
        let mut found = self.find(kept)?;
        let plan = shield::off(&found, kept);
        Ok(match self.add_threads(&plan, &mut found)? {
            true => shield::off(&found, kept),
            false => plan,
        })
    }

    /// Adds the threads that lose what they have set themselves when the plan is carried out.
    fn add_threads(&mut self, plan: &Plan, found: &mut Vec<Found>) -> Result<bool, Error> {
        let is_written = |step: &&Step| step.item.kind == Kind::Slice && step.now != step.wanted;
        let units = plan.steps.iter().filter(is_written).map(|step| step.item.name.clone());
        let units: Vec<String> = units.collect();
        if units.is_empty() || !self.forgets_affinities() {
            return Ok(false);
        }
        let known: HashSet<_> = found.iter().filter_map(|found| found.item.thread).collect();
        let more = threads::of_units(self, &units)?.into_iter();
        let before = found.len();
        found.extend(more.filter(|it| it.item.thread.is_some_and(|it| !known.contains(&it))));
        Ok(found.len() > before)
    }

    /// Everything that there is to set; what was kept of before is found, too.
    fn find(&mut self, kept: &[Kept]) -> Result<Vec<Found>, Error> {
        let mut found: Vec<Found> = irqbalance::find(self).into_iter().collect();
        found.extend(interrupts::find(self)?);
        found.extend(slices::find(self)?);
        found.extend(threads::kernel(self, kept)?);
        found.extend(self.single_files()?);
        found.extend(network::find(self)?);
        found.extend(cpus::find(self)?);
        found.extend(threads::kept(self, kept)?);
        Ok(found)
    }

    /// The CPUs that partitions have taken from everybody else.
    fn partitioned(&self) -> CpuSet {
        partition::taken(self.hierarchy.as_ref(), &self.sys_root)
    }

    /// But for CPUs that partitions have: work would come onto those.
    fn write_workqueues(&self, value: &str) -> Result<(), String> {
        let said = |e: Error| e.to_string();
        let theirs = partition::taken_or_isolated(self.hierarchy.as_ref(), &self.sys_root);
        let wish = cpus_of(value);
        self.workqueues.shield(&wish, &theirs.map_err(said)?).map_err(said)?;
        let seen = self.read_workqueues().map_err(said)?.map(|found| found.now);
        match wish.difference(&cpus_of(&seen.unwrap_or_default())) {
            kept_out if kept_out.is_empty() => Ok(()),
            kept_out => Err(format!(
                "CPUs {kept_out} stay out of it for as long as a partition has them: run it once more \
                 when that has ended"
            )),
        }
    }

    fn read_workqueues(&self) -> Result<Option<Found>, Error> {
        let found = |layers: Layers| Found {
            before: Some(layers.others().to_string()),
            ..Found::new(Item::new(Kind::Workqueues, ""), layers.seen_by_the_shield().to_string())
        };
        Ok(self.workqueues.layers()?.map(found))
    }

    fn single_files(&mut self) -> Result<Vec<Found>, Error> {
        let mut found: Vec<Found> = self.read_workqueues()?.into_iter().collect();
        for kind in [Kind::NewInterrupts, Kind::Watchdog, Kind::Statistics] {
            let item = Item::new(kind, "");
            let now = control::read_item(self, &item)?;
            found.extend(now.map(|now| Found::new(item, now)));
        }
        Ok(found)
    }
}

impl World for Host {
    fn read(&mut self, item: &Item) -> Result<Option<String>, String> {
        let said = |e: Error| e.to_string();
        match item.kind {
            Kind::Irqbalance => Ok(irqbalance::banned(self)),
            Kind::Slice => slices::read_unit(self, &item.name),
            Kind::Thread | Kind::KernelThread => threads::read_thread(self, item).map_err(said),
            Kind::Workqueues => Ok(self.read_workqueues().map_err(said)?.map(|found| found.now)),
            _ => control::read_item(self, item).map_err(said),
        }
    }

    fn write(&mut self, item: &Item, value: &str) -> Result<(), String> {
        match item.kind {
            Kind::Irqbalance => irqbalance::ban(self, value),
            Kind::Slice => slices::write_unit(self, &item.name, value),
            Kind::Thread | Kind::KernelThread => threads::bind(self, item, value),
            Kind::Workqueues => self.write_workqueues(value),
            _ => control::write_item(self, item, value),
        }
    }

    fn is(&self, item: &Item, now: &str, value: &str) -> bool {
        now == value || item.kind == Kind::KernelThread && threads::is_given(self, now, value)
    }
}
