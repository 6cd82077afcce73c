//! What a CPU has of its own: how deep it may sleep, and how its frequency is governed.

use super::{Host, control};
use crate::CpuSet;
use crate::host::{Error, read};
use crate::plan::shield::{Found, Item, Kind};

pub(super) fn find(host: &Host) -> Result<Vec<Found>, Error> {
    let mut found = Vec::new();
    for cpu in host.possible.iter() {
        for kind in [Kind::Latency, Kind::Governor] {
            let item = Item::new(kind, cpu.to_string());
            let now = control::read_item(host, &item)?;
            found.extend(now.map(|now| Found::new(item, now)));
        }
    }
    Ok(found)
}

impl Host {
    /// The governors that one of these CPUs can have (Documentation/admin-guide/pm/cpufreq); none where
    /// none of them has any.
    pub fn governors(&self, cpus: &CpuSet) -> Option<Vec<String>> {
        let folder = self.sys_root.join("sys/devices/system/cpu");
        cpus.iter().find_map(|cpu| {
            let path = folder.join(format!("cpu{cpu}/cpufreq/scaling_available_governors"));
            let text = read(&path).ok().flatten()?;
            Some(text.split_whitespace().map(str::to_owned).collect())
        })
    }
}
