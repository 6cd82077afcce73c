//! What a CPU has of its own: how deep it may sleep, and how its frequency is governed.

use super::{Host, control};
use crate::host::Error;
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
