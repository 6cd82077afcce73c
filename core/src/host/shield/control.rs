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
        Kind::Workqueues => (workqueues(host), Format::Mask),
        Kind::Watchdog => (proc.join("sys/kernel/watchdog_cpumask"), Format::List),
        Kind::Statistics => (proc.join("sys/vm/stat_interval"), Format::Word),
        Kind::Receive => (queue("rps_cpus"), Format::Mask),
        Kind::Transmit => (queue("xps_cpus"), Format::Mask),
        Kind::Latency => (cpu.join("power/pm_qos_resume_latency_us"), Format::Word),
        _ => (cpu.join("cpufreq/scaling_governor"), Format::Word),
    }
}

fn workqueues(host: &Host) -> PathBuf {
    host.sys_root.join("sys/devices/virtual/workqueue/cpumask")
}

/// The value of an item; none where it is not there.
pub(super) fn read_item(host: &Host, item: &Item) -> Result<Option<String>, Error> {
    let (mut path, format) = place(host, item);
    // What was asked for: of it the kernel takes the CPUs of isolated partitions while there are any.
    let requested = path.with_file_name("cpumask_requested");
    if item.kind == Kind::Workqueues && requested.exists() {
        path = requested;
    }
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
        Format::Mask => mask(&cpus(value)),
        _ => value.to_owned(),
    };
    // With its end, so that it is one line also where a file of a test's is not the kernel's.
    cgroup::write(&path, &format!("{text}\n")).map_err(|e| e.to_string())
}

/// The kernel's mask format: words of 32 bits, the highest first.
fn mask(cpus: &CpuSet) -> String {
    let bytes = cpus.to_bytes();
    let words = bytes.chunks(4).map(|word| {
        let word: [u8; 4] = std::array::from_fn(|n| word.get(n).copied().unwrap_or_default());
        format!("{:08x}", u32::from_le_bytes(word))
    });
    let words: Vec<String> = words.rev().collect();
    let words = words.join(",");
    let significant = words.trim_start_matches(['0', ',']);
    if significant.is_empty() { "0".to_owned() } else { significant.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mask_is_written_as_the_kernel_reads_it() {
        for (list, expected) in [
            ("0", "1"),
            ("0-15", "ffff"),
            ("0-1,6-15", "ffc3"),
            ("32", "1,00000000"),
            ("0-63", "ffffffff,ffffffff"),
            ("31,64", "1,00000000,80000000"),
            ("96", "1,00000000,00000000,00000000"),
        ] {
            let cpus: CpuSet = list.parse().unwrap();
            assert_eq!(mask(&cpus), expected);
            assert_eq!(parse_mask(expected).unwrap(), cpus);
        }
        assert_eq!(mask(&CpuSet::new()), "0");
    }
}
