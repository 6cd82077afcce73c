//! Who shares a CPU that each has for itself, told by the kernel alone: no file of kcm's is looked at,
//! and none of its code. A process that may run on one CPU of a machine that has several was bound to it;
//! so there must be one owner a CPU.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use crate::machine::cpuset_mount;

/// A process that is bound to one CPU.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bound {
    /// Whose it is: a cgroup, or the command of an `isolate`.
    pub owner: String,
    /// The process.
    pub pid: i32,
    /// Its start time, by which it is told from a later one.
    pub started: String,
    /// The CPU.
    pub cpu: u32,
}

/// The processes in cgroups of this test's own that are bound to one CPU, and those of these commands of
/// `isolate` that are.
pub fn bound(commands: &[i32]) -> Vec<Bound> {
    let test = std::process::id();
    let is_own = |name: &str| {
        name == format!("kcm-test-{test}") || name.starts_with(&format!("kcmtest{test}x"))
    };
    let mut found = Vec::new();
    for parent in folders(&cpuset_mount()) {
        if is_own(parent.file_name().unwrap().to_str().unwrap()) {
            for cgroup in folders(&parent) {
                let owner = cgroup.display().to_string();
                found.extend(processes(&cgroup).into_iter().filter_map(|pid| look(&owner, pid)));
            }
        }
    }
    found.extend(commands.iter().filter_map(|&pid| look(&format!("command {pid}"), pid)));
    found
}

/// Two owners of one CPU, both alive at one time. A container whose start may yet fail is none: its
/// runtime ends it if it does, before its first instruction.
pub fn two_owners(commands: &[i32], is_starting: impl Fn(i32) -> bool) -> Option<[Bound; 2]> {
    let mut by_cpu: BTreeMap<u32, Vec<Bound>> = BTreeMap::new();
    // In this order: one that is starting now may have been bound before.
    let bound = bound(commands).into_iter();
    for process in bound.filter(|process| !is_starting(process.pid)) {
        by_cpu.entry(process.cpu).or_default().push(process);
    }
    by_cpu.into_values().find_map(|all| {
        let first = all.first()?.clone();
        let other = all.into_iter().find(|other| other.owner != first.owner)?;
        // What was seen first may have ended before the other came: it must be there still.
        let is_there = look(&first.owner, first.pid).as_ref() == Some(&first);
        (is_there && ![&first, &other].iter().any(|it| is_starting(it.pid)))
            .then_some([first, other])
    })
}

fn folders(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).filter(|path| path.is_dir()).collect()
}

fn processes(cgroup: &Path) -> Vec<i32> {
    let text = fs::read_to_string(cgroup.join("cgroup.procs")).unwrap_or_default();
    text.lines().filter_map(|line| line.parse().ok()).collect()
}

/// Field 3 of `stat` is the state, field 22 the start time (proc_pid_stat(5)).
fn look(owner: &str, pid: i32) -> Option<Bound> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    if matches!(fields[0], "Z" | "X") {
        return None;
    }
    let cpus = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"))?;
    let cpu = cpus.trim().parse().ok()?;
    Some(Bound { owner: owner.to_owned(), pid, started: fields[19].to_owned(), cpu })
}
