//! Interrupts that some device uses (Documentation/core-api/irq/irq-affinity).

use super::{Host, control};
use crate::host::{Error, list};
use crate::plan::shield::{Found, Item, Kind};

/// Each with where it may be served; one that no driver has asked for is placed when one does.
pub(super) fn find(host: &Host) -> Result<Vec<Found>, Error> {
    let mut found = Vec::new();
    for entry in list(&host.procfs.root().join("irq"))? {
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.parse::<u32>().is_err() || handlers(host, &name)?.is_empty() {
            continue;
        }
        let item = Item::new(Kind::Interrupt, name);
        let now = control::read_item(host, &item)?;
        found.extend(now.map(|now| Found::new(item, now)));
    }
    Ok(found)
}

/// Who serves an interrupt: a folder is each handler's.
pub(super) fn handlers(host: &Host, number: &str) -> Result<Vec<String>, Error> {
    let entries = list(&host.procfs.root().join("irq").join(number))?.into_iter();
    let folders = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    let mut names: Vec<String> =
        folders.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    Ok(names)
}

impl Host {
    /// Who serves an interrupt, for people.
    pub fn served_by(&self, number: &str) -> String {
        handlers(self, number).unwrap_or_default().join(", ")
    }
}
