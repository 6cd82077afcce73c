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

/// For how long a CPU's hypervisor ran others, in nanoseconds since boot, by CPU (`steal` of
/// proc_stat(5), counted in clock ticks).
pub fn steal(procfs: &Procfs) -> Result<BTreeMap<u32, u64>, Error> {
    let text = read_up_to(&procfs.root().join("stat"), LIMIT)?.unwrap_or_default();
    let ticks = sysconf(SysconfVar::CLK_TCK).ok().flatten().and_then(|n| u64::try_from(n).ok());
    let nanoseconds = 1_000_000_000 / ticks.filter(|&n| n > 0).unwrap_or(100);
    let of_line = |line: &str| {
        let mut words = line.strip_prefix("cpu")?.split_ascii_whitespace();
        let cpu = words.next()?.parse().ok()?;
        let steal: u64 = words.nth(7)?.parse().ok()?;
        Some((cpu, steal.saturating_mul(nanoseconds)))
    };
    // The first line is of all CPUs: `cpu  1 2 …`.
    let lines = text.lines().filter(|line| !line.starts_with("cpu "));
    Ok(lines.filter_map(of_line).collect())
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
    fn steal_and_softirqs_of_this_machine_are_there_for_each_cpu() {
        let procfs = Procfs::new("/proc");
        let steal = steal(&procfs).unwrap();
        let softirqs = softirqs(&procfs).unwrap();
        for cpu in super::super::affinity::own().unwrap().iter() {
            assert!(steal.contains_key(&cpu), "{steal:?}");
            assert!(softirqs.contains_key(&(cpu, "TIMER".to_owned())), "{softirqs:?}");
        }
    }
}
