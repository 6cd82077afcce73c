//! What the kernel counts for each CPU: interrupts, softirqs, time that the hypervisor gave to others.

use std::collections::BTreeMap;

use nix::unistd::{SysconfVar, sysconf};

use super::procfs::Procfs;
use super::{Error, read_up_to};

/// Bytes: 8,192 CPUs at 11 characters each, in 1,000 lines and more.
const LIMIT: u64 = 1 << 27;

/// Counts by CPU and name.
pub type Counts = BTreeMap<(u32, String), u64>;

/// `/proc/interrupts` (proc_interrupts(5)): by what is served, such as `eth0-rx-0` or `Local timer
/// interrupts`.
pub fn interrupts(procfs: &Procfs) -> Result<Counts, Error> {
    let text = read_up_to(&procfs.root().join("interrupts"), LIMIT)?.unwrap_or_default();
    Ok(parse(&text, |label, rest| match label.parse::<u32>() {
        // Chip, hardware number and trigger come before the device's names.
        Ok(_) => {
            let words = rest.split_ascii_whitespace();
            let name: Vec<&str> = words.skip_while(|word| !is_trigger(word)).skip(1).collect();
            if name.is_empty() { format!("interrupt {label}") } else { name.join(" ") }
        }
        Err(_) if rest.is_empty() => label.to_owned(),
        Err(_) => rest.to_owned(),
    }))
}

/// `5-edge`, `9-fasteoi`, `Edge`, `Level`: the word before the names.
fn is_trigger(word: &str) -> bool {
    let kinds = ["edge", "fasteoi", "level", "percpu", "simple"];
    let word = word.to_ascii_lowercase();
    kinds.iter().any(|kind| word == *kind || word.ends_with(&format!("-{kind}")))
}

/// `/proc/softirqs` (proc_softirqs(5)).
pub fn softirqs(procfs: &Procfs) -> Result<Counts, Error> {
    let text = read_up_to(&procfs.root().join("softirqs"), LIMIT)?.unwrap_or_default();
    Ok(parse(&text, |label, _| label.to_owned()))
}

/// A first line that names CPUs, then `label: count count … rest`.
fn parse(text: &str, name: impl Fn(&str, &str) -> String) -> Counts {
    let mut counts = Counts::new();
    let mut lines = text.lines();
    let cpus = lines.next().unwrap_or_default().split_ascii_whitespace();
    let cpus: Vec<u32> = cpus.filter_map(|word| word.strip_prefix("CPU")?.parse().ok()).collect();
    for line in lines {
        let Some((label, mut rest)) = line.split_once(':') else { continue };
        let mut found = Vec::new();
        for &cpu in &cpus {
            let (word, after) = match rest.trim_start().split_once(char::is_whitespace) {
                Some(split) => split,
                None => (rest.trim_start(), ""),
            };
            let Ok(count) = word.parse::<u64>() else { break };
            found.push((cpu, count));
            rest = after;
        }
        // ERR and MIS are of no CPU.
        if found.len() == cpus.len() {
            let name = name(label.trim(), rest.trim());
            for (cpu, count) in found {
                *counts.entry((cpu, name.clone())).or_default() += count;
            }
        }
    }
    counts
}

/// What the kernel says of a CPU's time since boot, in nanoseconds, counted in clock ticks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Times {
    /// With nothing to do, also while it waits for a disk.
    pub idle: u64,
    /// For how long its hypervisor ran others.
    pub steal: u64,
}

/// The times of each CPU (proc_stat(5)).
pub fn times(procfs: &Procfs) -> Result<BTreeMap<u32, Times>, Error> {
    let text = read_up_to(&procfs.root().join("stat"), LIMIT)?.unwrap_or_default();
    let ticks = sysconf(SysconfVar::CLK_TCK).ok().flatten().and_then(|n| u64::try_from(n).ok());
    let nanoseconds = 1_000_000_000 / ticks.filter(|&n| n > 0).unwrap_or(100);
    let of_line = |line: &str| {
        let mut words = line.strip_prefix("cpu")?.split_ascii_whitespace();
        let cpu = words.next()?.parse().ok()?;
        let numbers: Vec<u64> = words.map_while(|word| word.parse().ok()).collect();
        let time = |field: usize| Some(numbers.get(field)?.saturating_mul(nanoseconds));
        Some((cpu, Times { idle: time(3)?.saturating_add(time(4)?), steal: time(7)? }))
    };
    // The first line is of all CPUs: `cpu  1 2 …`.
    let lines = text.lines().filter(|line| !line.starts_with("cpu "));
    Ok(lines.filter_map(of_line).collect())
}

/// For how long a CPU ran threads that have left it since, in nanoseconds, by CPU
/// (Documentation/scheduler/sched-stats); nothing where the kernel does not tell.
pub fn run_times(procfs: &Procfs) -> Result<BTreeMap<u32, u64>, Error> {
    let text = read_up_to(&procfs.root().join("schedstat"), LIMIT)?.unwrap_or_default();
    let of_line = |line: &str| {
        let mut words = line.strip_prefix("cpu")?.split_ascii_whitespace();
        Some((words.next()?.parse().ok()?, words.nth(6)?.parse().ok()?))
    };
    Ok(text.lines().filter_map(of_line).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Captured on Linux 6.18, and the last device line on 6.12 (virtio-blk by INTx).
    const INTERRUPTS: &str = "           CPU0       CPU1       \n \
        26:          0         14  IO-APIC   4-edge      ttyS0\n \
        36:          0    5944286  PCI-MSIX-0000:00:02.0   1-edge      virtio1-req.0\n \
        11:          2          1  IO-APIC  11-fasteoi   virtio3, uhci_hcd:usb1\n\
        LOC:   10578716   10666149   Local timer interrupts\n\
        ERR:          0\n";

    #[test]
    fn interrupts_are_counted_by_what_they_serve() {
        let folder = tempfile::tempdir().unwrap();
        let procfs = Procfs::new(folder.path());
        std::fs::write(folder.path().join("interrupts"), INTERRUPTS).unwrap();
        let found = interrupts(&procfs).unwrap();
        let found: Vec<(u32, &str, u64)> =
            found.iter().map(|((cpu, name), count)| (*cpu, name.as_str(), *count)).collect();
        assert_eq!(
            found,
            [
                (0, "Local timer interrupts", 10_578_716),
                (0, "ttyS0", 0),
                (0, "virtio1-req.0", 0),
                (0, "virtio3, uhci_hcd:usb1", 2),
                (1, "Local timer interrupts", 10_666_149),
                (1, "ttyS0", 14),
                (1, "virtio1-req.0", 5_944_286),
                (1, "virtio3, uhci_hcd:usb1", 1),
            ]
        );
        for bad in ["", "CPU0\n", "nothing\n1: x", "  CPU0 CPU1\n LOC: 1\n x"] {
            assert!(parse(bad, |label, _| label.to_owned()).is_empty(), "{bad:?}");
        }
    }

    #[test]
    fn times_and_softirqs_of_this_machine_are_there_for_each_cpu() {
        let procfs = Procfs::new("/proc");
        let times = times(&procfs).unwrap();
        let softirqs = softirqs(&procfs).unwrap();
        for cpu in super::super::affinity::own().unwrap().iter() {
            assert!(times[&cpu].idle > 0, "{times:?}");
            assert!(softirqs.contains_key(&(cpu, "TIMER".to_owned())), "{softirqs:?}");
        }
    }

    #[test]
    fn the_run_time_of_a_cpu_is_the_seventh_number() {
        let folder = tempfile::tempdir().unwrap();
        let procfs = Procfs::new(folder.path());
        assert!(run_times(&procfs).unwrap().is_empty());
        // Captured on Linux 6.12.
        let text = "version 16\ntimestamp 4294903421\n\
                    cpu0 0 0 0 0 0 0 1193018254 210432098 3512\n\
                    domain0 03 0 0 0 0 0 0 0 0 0 0 0\n\
                    cpu1 0 0 0 0 0 0 77 1 2\n";
        std::fs::write(folder.path().join("schedstat"), text).unwrap();
        assert_eq!(run_times(&procfs).unwrap(), BTreeMap::from([(0, 1_193_018_254), (1, 77)]));
    }
}
