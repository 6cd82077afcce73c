//! Packet steering (Documentation/networking/scaling): which CPUs take over what a queue receives, and
//! which queue a CPU sends by. A queue whose list is empty steers nothing, and stays so.

use super::{Host, control};
use crate::host::{Error, list};
use crate::plan::shield::{Found, Item, Kind};

pub(super) fn find(host: &Host) -> Result<Vec<Found>, Error> {
    let mut found = Vec::new();
    let all = list(&host.sys_root.join("sys/class/net"))?.into_iter();
    // Beside the interfaces' links is a file where there is bonding.
    for interface in all.filter(|entry| entry.path().is_dir()) {
        for queue in list(&interface.path().join("queues"))? {
            let name = queue.file_name().to_string_lossy().into_owned();
            let kind = match name.starts_with("rx-") {
                true => Kind::Receive,
                false => Kind::Transmit,
            };
            let interface = interface.file_name();
            let item = Item::new(kind, format!("{}/{name}", interface.to_string_lossy()));
            let now = control::read_item(host, &item)?.filter(|now| !now.is_empty());
            found.extend(now.map(|now| Found::new(item, now)));
        }
    }
    Ok(found)
}
