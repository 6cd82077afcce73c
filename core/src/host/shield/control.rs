//! Items that are one file of the kernel's: read as a CPU list, a number or a word; written in one go.

use std::path::PathBuf;

use super::Host;
use crate::CpuSet;
use crate::host::sysfs::parse_mask;
use crate::host::{Error, cgroup, is_gone, regular};
use crate::plan::shield::{Item, Kind, cpus};

/// How a file has its value.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Format {
    /// CPUs as `0-3,8`.
    List,
    /// CPUs as words of 32 bits in hexadecimal.
    Mask,
    /// Anything else.
    Word,
}

/// The file of an item. Names come from the state file, too, which is root's alone; even so none leads
/// out of its folder.
fn place(host: &Host, item: &Item) -> (PathBuf, Format) {
    let proc = host.procfs.root();
    let sys = host.sys_root.join("sys");
    let name = match item.name.split('/').any(|part| part == "..") {
        true => "none",
        false => &item.name,
    };
    let cpu = sys.join(format!("devices/system/cpu/cpu{name}"));
    let queue = |file: &str| {
        let (interface, queue) = name.split_once('/').unwrap_or((name, ""));
        sys.join("class/net").join(interface).join("queues").join(queue).join(file)
    };
    match item.kind {
        Kind::NewInterrupts => (proc.join("irq/default_smp_affinity"), Format::Mask),
        Kind::Interrupt => (proc.join("irq").join(name).join("smp_affinity_list"), Format::List),
        Kind::Watchdog => (proc.join("sys/kernel/watchdog_cpumask"), Format::List),
        Kind::Statistics => (proc.join("sys/vm/stat_interval"), Format::Word),
        Kind::Receive => (queue("rps_cpus"), Format::Mask),
        Kind::Transmit => (queue("xps_cpus"), Format::Mask),
        Kind::Latency => (cpu.join("power/pm_qos_resume_latency_us"), Format::Word),
        _ => (cpu.join("cpufreq/scaling_governor"), Format::Word),
    }
}

/// The value of an item; none where it is not there.
pub(super) fn read_item(host: &Host, item: &Item) -> Result<Option<String>, Error> {
    let (path, format) = place(host, item);
    let text = match regular::read_text(&path, super::super::LIMIT) {
        Ok(text) => text,
        // A queue that is alone tells nothing of whom it sends for; a CPU that is offline has no
        // governor.
        Err(e) if is_gone(&e) || is_silent(&e) => return Ok(None),
        Err(e) => return Err(Error::io("read", &path, &e)),
    };
    let text = text.lines().next().unwrap_or_default();
    let malformed = |cause: String| Error::malformed(&path, cause);
    Ok(Some(match format {
        Format::Word => text.trim().to_owned(),
        Format::Mask => parse_mask(text).map_err(malformed)?.to_string(),
        Format::List => {
            let list = CpuSet::parse_possibly_empty(text);
            list.map_err(|e| malformed(e.to_string()))?.to_string()
        }
    }))
}

fn is_silent(error: &std::io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EINVAL | libc::EBUSY | libc::EIO | libc::EOPNOTSUPP))
}

/// Writes the value of an item. Why the kernel has not taken it, if so.
pub(super) fn write_item(host: &Host, item: &Item, value: &str) -> Result<(), String> {
    let (path, format) = place(host, item);
    let text = match format {
        Format::Mask => cpus(value).to_mask(),
        _ => value.to_owned(),
    };
    // With its end, so that it is one line also where a file of a test's is not the kernel's.
    cgroup::write(&path, &format!("{text}\n")).map_err(|e| e.to_string())
}
