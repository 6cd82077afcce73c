//! Looking up names of hosts.

use super::sys;

/// Has names looked up in `/etc/hosts` and by DNS, whatever `/etc/nsswitch.conf` says: its other
/// ways are shared libraries, which a static program would load in the version that it finds, and
/// may crash by.
pub fn resolve_by_files_and_dns() {
    if !sys::configure_hosts_lookup() {
        log::debug!("cannot choose how names are looked up; /etc/nsswitch.conf decides");
    }
}
