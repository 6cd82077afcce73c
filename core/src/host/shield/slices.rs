//! `AllowedCPUs=` of the units in which the node's own work is.
//!
//! systemd that is told to forget a list leaves it in the kernel, but where it was the last that needed
//! the cpuset controller there. So a unit gets the whole machine's CPUs first, and then none said; where
//! the kernel takes no empty list then, since somebody is in the cgroup, it keeps the whole one.

use std::time::{Duration, Instant};

use super::Host;
use crate::CpuSet;
use crate::host::cgroup::{Cgroup, Hierarchy};
use crate::host::{Error, cgroup, list, read};
use crate::plan::shield::{Found, Item, KERNEL_ONLY, Kind, cpus};
use crate::task::Pid;

/// Services, logins, and systemd itself.
pub(super) const UNITS: [&str; 3] = ["init.scope", "system.slice", "user.slice"];

/// How long systemd may take to write to the kernel what it has said yes to: it does so when it has
/// answered.
const PATIENCE: Duration = Duration::from_secs(10);

/// How names of containers' scopes begin, by engine.
const SCOPES: [(&str, &str); 5] = [
    ("docker-", "docker"),
    ("libpod-", "podman"),
    ("cri-containerd-", "containerd"),
    ("crio-", "CRI-O"),
    ("nerdctl-", "nerdctl"),
];

pub(super) fn find(host: &mut Host) -> Result<Vec<Found>, Error> {
    let mut found = Vec::new();
    for unit in UNITS {
        let item = Item::new(Kind::Slice, unit);
        match read_unit(host, unit) {
            Ok(now) => found.extend(now.map(|now| Found::new(item, now))),
            Err(why) => found.push(Found { fixed: Some(why), ..Found::new(item, "") }),
        }
    }
    Ok(found)
}

/// Who has a container in system.slice.
pub(super) fn containers(hierarchy: &Hierarchy) -> Option<String> {
    let folder = hierarchy.at("/system.slice").folder();
    let names = list(&folder).ok()?.into_iter().map(|entry| entry.file_name());
    names
        .filter_map(|name| {
            let name = name.to_string_lossy().into_owned();
            let is_it = |(prefix, _): &&(&str, &str)| name.starts_with(prefix);
            SCOPES.iter().find(is_it).filter(|_| name.ends_with(".scope"))
        })
        .map(|(_, engine)| (*engine).to_owned())
        .next()
}

/// The unit's cgroup, where it has one.
pub(super) fn cgroup_of(host: &mut Host, unit: &str) -> Result<Option<Cgroup>, String> {
    let (Some(systemd), Some(hierarchy)) = (&mut host.systemd, &host.hierarchy) else {
        return Ok(None);
    };
    let path = systemd.cgroup_of_unit(unit).map_err(|e| e.to_string())?;
    Ok(path.map(|path| hierarchy.at(&path)))
}

/// What a unit is restricted to; none where there is no such unit.
pub(super) fn read_unit(host: &mut Host, unit: &str) -> Result<Option<String>, String> {
    let Some(systemd) = &mut host.systemd else { return Ok(None) };
    let Some(told) = systemd.allowed_cpus(unit).map_err(|e| e.to_string())? else {
        return Ok(None);
    };
    let cgroup = cgroup_of(host, unit)?;
    let kernels = cgroup.map(|cgroup| cgroup.own_cpus()).transpose().map_err(|e| e.to_string())?;
    let kernels = kernels.unwrap_or_default();
    Ok(Some(value(&told, &kernels, &host.possible)))
}

/// What systemd was told and what the kernel has, as one value.
fn value(told: &CpuSet, kernels: &CpuSet, possible: &CpuSet) -> String {
    match (told.is_empty(), kernels.is_empty()) {
        (true, true) => String::new(),
        (true, false) if possible.is_subset(kernels) => String::new(),
        (true, false) => format!("{KERNEL_ONLY}{kernels}"),
        // It has no cgroup yet, as user.slice where nobody is logged in.
        (false, true) => told.to_string(),
        (false, false) => kernels.to_string(),
    }
}

/// Restricts a unit, or lifts the restriction.
pub(super) fn write_unit(host: &mut Host, unit: &str, value: &str) -> Result<(), String> {
    let list = if value.is_empty() { host.possible.clone() } else { cpus(value) };
    restrict(host, unit, &list)?;
    wait_for(host, unit, &list)?;
    if value.is_empty() || value.starts_with(KERNEL_ONLY) {
        restrict(host, unit, &CpuSet::new())?;
        if value.is_empty()
            && let Some(cgroup) = cgroup_of(host, unit)?
        {
            // Mostly refused: somebody is in it.
            let _ = cgroup::write(&cgroup.file("cpuset.cpus"), "\n");
        }
    }
    Ok(())
}

fn restrict(host: &mut Host, unit: &str, cpus: &CpuSet) -> Result<(), String> {
    let Some(systemd) = &mut host.systemd else { return Err("systemd is not there".to_owned()) };
    systemd.restrict(unit, cpus).map_err(|e| e.to_string())
}

/// Waits until the kernel has it, where the unit has a cgroup.
fn wait_for(host: &mut Host, unit: &str, cpus: &CpuSet) -> Result<(), String> {
    let begun = Instant::now();
    loop {
        let Some(cgroup) = cgroup_of(host, unit)? else { return Ok(()) };
        let has = cgroup.own_cpus().map_err(|e| e.to_string())?;
        if has == *cpus || !cgroup.exists() {
            return Ok(());
        }
        if begun.elapsed() > PATIENCE {
            return Err(format!(
                "systemd said yes to AllowedCPUs={cpus}, and cpuset.cpus of {unit} has {}: see \
                 journalctl _PID=1",
                crate::plan::shield::said(&has.to_string())
            ));
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

impl Host {
    /// The unit that a holder of CPU lists is in, and by whose cpuset it would lose them: by its cgroup,
    /// or where it has none its process. None for one in a partition, which keeps its CPUs, and for
    /// one that is gone.
    pub fn would_lose(&self, cgroup: Option<&str>, pid: Pid) -> Option<&'static str> {
        let hierarchy = self.hierarchy.as_ref()?;
        let own = || cgroup::of_process(hierarchy, &self.procfs, pid).ok().flatten();
        let mut at = match cgroup {
            Some(path) => Some(hierarchy.at(path)).filter(Cgroup::exists)?,
            None => own()?,
        };
        let unit =
            UNITS.into_iter().find(|unit| hierarchy.at(&format!("/{unit}")).contains(&at))?;
        loop {
            let kind = read(&at.file("cpuset.cpus.partition")).ok().flatten().unwrap_or_default();
            if matches!(kind.trim(), "root" | "isolated") {
                return None;
            }
            match at.parent() {
                Some(parent) if !parent.is_root() => at = parent,
                _ => return Some(unit),
            }
        }
    }

    /// Units whose cpuset holds every CPU of the machine though nobody has said so: what is left where
    /// the kernel takes no empty list.
    pub fn whole_units(&mut self) -> Vec<String> {
        let mut whole = Vec::new();
        for unit in UNITS {
            let told = self.systemd.as_mut().and_then(|systemd| systemd.allowed_cpus(unit).ok());
            let has = cgroup_of(self, unit).ok().flatten();
            let has = has.and_then(|cgroup| cgroup.own_cpus().ok()).unwrap_or_default();
            let is_told = told.flatten().is_none_or(|told| !told.is_empty());
            if !is_told && !has.is_empty() && self.possible.is_subset(&has) {
                whole.push(unit.to_owned());
            }
        }
        whole
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_has_kept_is_told_from_what_systemd_was_told() {
        let set = |text| CpuSet::parse_possibly_empty(text).unwrap();
        for (told, kernels, expected) in [
            ("", "", ""),
            ("", "0-15", ""),
            ("", "0-3", "kernel 0-3"),
            ("0-3", "", "0-3"),
            ("0-3", "0-3", "0-3"),
            // Somebody has written the file by hand.
            ("0-3", "0-7", "0-7"),
        ] {
            assert_eq!(value(&set(told), &set(kernels), &set("0-15")), expected);
        }
    }
}
