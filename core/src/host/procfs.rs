//! The host's processes, from a procfs.

use std::collections::HashSet;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};
use nix::unistd::{SysconfVar, sysconf};

use super::{Error, list, read, read_existing, read_pids};
use crate::cpu_set::CpuSet;
use crate::task::{Pid, Process};

/// Inode of the initial PID namespace (`PROC_PID_INIT_INO`, include/linux/proc_ns.h).
const INITIAL_PID_NAMESPACE: &str = "pid:[4026531836]";

/// Inode of the initial cgroup namespace (`PROC_CGROUP_INIT_INO`, include/linux/proc_ns.h).
const INITIAL_CGROUP_NAMESPACE: &str = "cgroup:[4026531835]";

/// Inode of the initial time namespace (`PROC_TIME_INIT_INO`, include/linux/proc_ns.h).
const INITIAL_TIME_NAMESPACE: &str = "time:[4026531834]";

/// A procfs, by the folder that it is mounted on.
#[derive(Clone, Debug)]
pub struct Procfs {
    root: PathBuf,
}

/// What `/proc/<pid>/stat` says of a process (proc_pid_stat(5)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stat {
    /// Whether the first thread has ended: a zombie, or on its way out.
    pub ended: bool,
    /// Field 22, clock ticks since boot.
    pub start_time: u64,
}

/// Why the processes of the host cannot be seen, so that nobody may be judged dead.
#[derive(Debug, thiserror::Error)]
pub enum Blind {
    /// The procfs belongs to another PID namespace than the host's.
    #[error(
        "{0} does not show the host's processes; mount the host's /proc (for example at /host/proc) \
         and set KCM_PROC_FS to that path"
    )]
    NotTheHosts(PathBuf),
    /// The procfs hides processes.
    #[error("{0}; mount procfs without hidepid, or run as root")]
    Hidden(Error),
}

impl Procfs {
    /// The procfs mounted on `root`.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// Where it is mounted.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Makes sure that this procfs shows every process of the host, by its host PID: PID 1 can be
    /// read (a `hidepid` mount would not let us), and it is a procfs of an outer PID namespace
    /// where this process is in an inner one.
    pub fn sees_the_host(&self) -> Result<(), Blind> {
        // Where this process is not seen, it is in an outer namespace or in another branch.
        if self.own_pid().is_none() {
            return Err(Blind::NotTheHosts(self.root.clone()));
        }
        read_existing(&self.path(Pid::INIT, "stat")).map_err(Blind::Hidden)?;
        if self.is_in_initial_namespace() {
            return Ok(());
        }
        // NSpid has a number for each namespace from the procfs's own down to this process's.
        let status = read_existing(&self.root.join("self/status")).map_err(Blind::Hidden)?;
        match field(&status, "NSpid").map(|pids| pids.split_whitespace().count()) {
            Some(2..) => Ok(()),
            _ => Err(Blind::NotTheHosts(self.root.clone())),
        }
    }

    /// The procfs of this process's own mounts, if what it shows is the host's without a doubt: this
    /// process is in the initial PID namespace.
    pub fn of_the_host() -> Result<Self, Blind> {
        let procfs = Self::new("/proc");
        match procfs.is_in_initial_namespace() {
            true => Ok(procfs),
            false => Err(Blind::NotTheHosts(procfs.root)),
        }
    }

    fn is_in_initial_namespace(&self) -> bool {
        self.is_own_namespace("pid", INITIAL_PID_NAMESPACE)
    }

    /// Whether the paths of cgroups that procfs shows this process are the kernel's own
    /// (cgroup_namespaces(7)).
    pub fn is_in_initial_cgroup_namespace(&self) -> bool {
        self.is_own_namespace("cgroup", INITIAL_CGROUP_NAMESPACE)
    }

    fn is_own_namespace(&self, kind: &str, expected: &str) -> bool {
        let namespace = std::fs::read_link(self.root.join("self/ns").join(kind));
        namespace.is_ok_and(|name| name.as_os_str() == expected)
    }

    /// This process's PID in the procfs's namespace; none where that does not show it.
    pub fn own_pid(&self) -> Option<Pid> {
        std::fs::read_link(self.root.join("self")).ok()?.to_str()?.parse().ok()
    }

    /// The process of this PID; none where there is none.
    pub fn stat(&self, pid: Pid) -> Result<Option<Stat>, Error> {
        let path = self.path(pid, "stat");
        let Some(text) = read(&path)? else { return Ok(None) };
        let stat = parse_stat(&text).ok_or_else(|| Error::malformed(&path, "not a stat line"))?;
        Ok(Some(stat))
    }

    /// Which process it is, beyond the reuse of process ids; none where it has ended.
    pub fn process(&self, pid: Pid) -> Result<Option<Process>, Error> {
        match self.stat(pid)? {
            Some(stat) if !stat.ended => Ok(Some(Process {
                pid,
                start_time: self.clock_is_the_hosts().then_some(stat.start_time),
                boot_id: self.boot_id()?,
            })),
            _ => Ok(None),
        }
    }

    /// Whether a process of this boot, or a thread of it, is alive; `same_clock` as
    /// [`Self::clock_is_the_hosts`] says.
    pub fn is_alive(&self, process: &Process, same_clock: bool) -> Result<bool, Error> {
        let Some(stat) = self.stat(process.pid)? else { return Ok(false) };
        let comparable = process.start_time.filter(|_| same_clock);
        if comparable.is_some_and(|start| start != stat.start_time) {
            return Ok(false);
        }
        Ok(!stat.ended || self.has_live_thread(process.pid)?)
    }

    /// Whether any thread of a process has not ended: its first may end before the others.
    fn has_live_thread(&self, pid: Pid) -> Result<bool, Error> {
        Ok(self.live_thread(pid)?.is_some())
    }

    /// A thread of a process that has not ended.
    pub(super) fn live_thread(&self, pid: Pid) -> Result<Option<Pid>, Error> {
        for thread in self.threads(pid)? {
            let text = read(&self.path(pid, &format!("task/{thread}/stat")))?;
            if text.as_deref().and_then(parse_stat).is_some_and(|stat| !stat.ended) {
                return Ok(Some(thread));
            }
        }
        Ok(None)
    }

    /// A number that nobody can guess, and that no two have: 122 bits, written as a UUID (random(4)).
    pub(super) fn random_uuid(&self) -> Result<String, Error> {
        let text = read_existing(&self.root.join("sys/kernel/random/uuid"))?;
        Ok(text.trim().to_owned())
    }

    /// Whether start times of this process's time namespace are comparable with PID 1's
    /// (time_namespaces(7): procfs shifts start times by the reader's offsets).
    pub fn clock_is_the_hosts(&self) -> bool {
        // A kernel without time namespaces has one clock.
        let Ok(ours) = std::fs::read_link(self.root.join("self/ns/time")) else { return true };
        // PID 1's can be seen with CAP_SYS_PTRACE over it alone: where it cannot, nothing is compared.
        ours.as_os_str() == INITIAL_TIME_NAMESPACE
            || std::fs::read_link(self.root.join("1/ns/time")).is_ok_and(|hosts| hosts == ours)
    }

    /// The boot that this is (random(4)): of this very procfs, not of what somebody has mounted
    /// over it.
    pub fn boot_id(&self) -> Result<String, Error> {
        let path = self.root.join("sys/kernel/random/boot_id");
        let device = |path: &Path| {
            use std::os::unix::fs::MetadataExt;
            std::fs::metadata(path)
                .map(|found| found.dev())
                .map_err(|e| Error::io("read", path, &e))
        };
        if device(&path)? != device(&self.path(Pid::INIT, "stat"))? {
            let cause = format!(
                "something is mounted over it, so that nobody can tell who is of this boot; unmount \
                 it, or set KCM_PROC_FS to a procfs of the host's other than {}",
                self.root.display()
            );
            return Err(Error::malformed(&path, cause));
        }
        Ok(read_existing(&path)?.trim().to_owned())
    }

    /// All processes.
    pub fn pids(&self) -> Result<HashSet<Pid>, Error> {
        let entries = list(&self.root)?.into_iter();
        Ok(entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect())
    }

    /// The capabilities that this process has in effect, a bit each (capabilities(7)); none where
    /// that cannot be told.
    pub fn own_capabilities(&self) -> Option<u64> {
        let status = read(&self.root.join("self/status")).ok()??;
        u64::from_str_radix(field(&status, "CapEff")?, 16).ok()
    }

    /// For how long a process has run, by the clock that its start time was taken from
    /// (clock_gettime(2), `CLOCK_BOOTTIME`).
    pub fn age(&self, stat: Stat) -> Duration {
        let ticks = sysconf(SysconfVar::CLK_TCK).ok().flatten().and_then(|n| u64::try_from(n).ok());
        let ticks = ticks.filter(|&n| n > 0).unwrap_or(100);
        let nanoseconds = (stat.start_time % ticks).saturating_mul(1_000_000_000) / ticks;
        let started =
            Duration::from_secs(stat.start_time / ticks) + Duration::from_nanos(nanoseconds);
        let up = clock_gettime(ClockId::CLOCK_BOOTTIME).map_or(Duration::ZERO, Duration::from);
        up.saturating_sub(started)
    }

    /// The threads of a process; none where it has ended.
    pub fn threads(&self, pid: Pid) -> Result<Vec<Pid>, Error> {
        let entries = list(&self.path(pid, "task"))?.into_iter();
        let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
        Ok(names.filter_map(|name| name.parse().ok()).collect())
    }

    /// The children of a process, of all its threads, as far as the kernel tells
    /// (`CONFIG_PROC_CHILDREN`).
    pub fn children(&self, pid: Pid) -> Vec<Pid> {
        let threads = self.threads(pid).unwrap_or_default().into_iter();
        let files = threads.map(|thread| self.path(pid, &format!("task/{thread}/children")));
        let texts: Vec<String> = files.filter_map(|file| read_pids(&file).ok().flatten()).collect();
        texts
            .iter()
            .flat_map(|text| text.split_whitespace())
            .filter_map(|n| n.parse().ok())
            .collect()
    }

    /// All living descendants of a process, as far as the kernel tells.
    pub fn descendants(&self, pid: Pid) -> Vec<Pid> {
        let mut found: Vec<Pid> = Vec::new();
        let mut look_at = vec![pid];
        while let Some(pid) = look_at.pop() {
            let children = self.children(pid);
            found.extend(&children);
            look_at.extend(children);
        }
        found
    }

    /// Whether a process is in a container: in a PID namespace below that of the procfs, or, with
    /// the host's PID namespace, with mounts of its own (namespaces(7)). The latter is told only to
    /// whoever may look into PID 1 (`CAP_SYS_PTRACE`).
    pub fn is_in_container(&self, pid: Pid) -> Result<bool, Error> {
        Ok(!self.is_in_the_hosts_pid_namespace(pid)?
            || self.namespace(pid, "mnt")? != self.namespace(Pid::INIT, "mnt")?)
    }

    /// Whether a process has one number only, that of the procfs's own namespace.
    pub fn is_in_the_hosts_pid_namespace(&self, pid: Pid) -> Result<bool, Error> {
        let status = read(&self.path(pid, "status"))?.unwrap_or_default();
        Ok(field(&status, "NSpid").is_none_or(|pids| pids.split_whitespace().count() < 2))
    }

    /// The process that a process is a child of; none where it has ended.
    pub fn parent(&self, pid: Pid) -> Result<Option<Pid>, Error> {
        let stat = read(&self.path(pid, "stat"))?.unwrap_or_default();
        Ok(field_of_stat(&stat, 4).and_then(|parent| parent.parse().ok()))
    }

    /// The file that a process is an execution of, by device and inode; none where it has ended.
    pub(crate) fn program(&self, pid: Pid) -> Result<Option<(u64, u64)>, Error> {
        let path = self.path(pid, "exe");
        match super::criu::identity(&path) {
            Ok(identity) => Ok(Some(identity)),
            Err(e) if super::is_gone(&e) => Ok(None),
            Err(e) => Err(Error::io("read", &path, &e)),
        }
    }

    /// Which PID namespace a process is in (pid_namespaces(7)).
    pub fn pid_namespace(&self, pid: Pid) -> Result<PathBuf, Error> {
        self.namespace(pid, "pid")
    }

    fn namespace(&self, pid: Pid, kind: &str) -> Result<PathBuf, Error> {
        let path = self.path(pid, &format!("ns/{kind}"));
        std::fs::read_link(&path).map_err(|e| Error::io("read", &path, &e))
    }

    /// The CPUs that a thread may run on: `Cpus_allowed_list`; none where it has ended.
    pub fn allowed_cpus(&self, pid: Pid, thread: Pid) -> Result<Option<CpuSet>, Error> {
        let path = self.path(pid, &format!("task/{thread}/status"));
        let Some(status) = read(&path)? else { return Ok(None) };
        let list = field(&status, "Cpus_allowed_list");
        let cpus = list.and_then(|list| list.parse().ok());
        cpus.map(Some).ok_or_else(|| Error::malformed(&path, "no Cpus_allowed_list"))
    }

    /// `/proc/<pid>/cgroup` (cgroups(7)); none where the process has ended.
    pub fn cgroup(&self, pid: Pid) -> Result<Option<String>, Error> {
        read(&self.path(pid, "cgroup"))
    }

    /// `/proc/self/cgroup`.
    pub fn own_cgroup(&self) -> Result<String, Error> {
        read_existing(&self.root.join("self/cgroup"))
    }

    /// The kernel's command line.
    pub fn cmdline(&self) -> Result<String, Error> {
        read_existing(&self.root.join("cmdline"))
    }

    fn path(&self, pid: Pid, name: &str) -> PathBuf {
        self.root.join(format!("{pid}/{name}"))
    }
}

/// Bytes of `/proc/locks`: 60 and more a lock, of which everybody can have many.
const LIMIT_OF_LOCKS: u64 = 1 << 23;

/// `/proc/locks`, as far as it can be read.
pub(crate) fn locks() -> Option<String> {
    super::read_up_to(Path::new("/proc/locks"), LIMIT_OF_LOCKS).ok().flatten()
}

/// What the kernel says of an open file of this process, and of the locks that it has.
pub(crate) fn own_locks(file: &std::fs::File) -> Option<String> {
    read(Path::new(&format!("/proc/self/fdinfo/{}", file.as_raw_fd()))).ok().flatten()
}

/// A program's name may hold anything, so the fields are counted after the last `)`.
fn parse_stat(text: &str) -> Option<Stat> {
    let start_time = field_of_stat(text, 22)?.parse().ok()?;
    Some(Stat { ended: matches!(field_of_stat(text, 3)?, "Z" | "X" | "x"), start_time })
}

/// A field of a `stat` line, by its number in proc_pid_stat(5), from 3.
pub(crate) fn field_of_stat(text: &str, number: usize) -> Option<&str> {
    text.rsplit_once(')')?.1.split_ascii_whitespace().nth(number.checked_sub(3)?)
}

pub(super) fn field<'a>(status: &'a str, name: &str) -> Option<&'a str> {
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    line.map(str::trim)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};

    /// Captured on Linux 6.18; the name is a hostile program's.
    const STAT: &str = "4711 (a) Z 1 (b)) S 1 4711 4711 0 -1 4194560 100 0 0 0 1 2 0 0 20 0 1 0 \
                        242639 2129920 200 18446744073709551615 1 1 0 0 0 0 0 0 0 0 0 0 17 1 0 0";

    #[test]
    fn a_stat_line_is_read_after_the_last_parenthesis() {
        assert_eq!(parse_stat(STAT), Some(Stat { ended: false, start_time: 242639 }));
        assert!(parse_stat(&STAT.replace(") S ", ") Z ")).unwrap().ended);
        for bad in ["", "1 (x", "1 (x)", "1 (x) S 1 2"] {
            assert_eq!(parse_stat(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_process_is_alive_until_it_ends_and_another_with_its_pid_is_not_it() {
        let procfs = Procfs::new("/proc");
        let mut child = Command::new("sleep").arg("60").stdin(Stdio::null()).spawn().unwrap();
        let pid = Pid::try_from(child.id() as i32).unwrap();
        let process = procfs.process(pid).unwrap().unwrap();
        assert!(procfs.is_alive(&process, true).unwrap());
        let later = Process { start_time: process.start_time.map(|t| t + 1), ..process.clone() };
        assert!(!procfs.is_alive(&later, true).unwrap() && procfs.is_alive(&later, false).unwrap());
        child.kill().unwrap();
        while !procfs.stat(pid).unwrap().unwrap().ended {
            std::thread::yield_now();
        }
        assert!(!procfs.is_alive(&process, true).unwrap(), "a zombie is dead");
        child.wait().unwrap();
        assert!(
            !procfs.is_alive(&process, true).unwrap() && procfs.process(pid).unwrap().is_none()
        );
    }

    #[test]
    fn a_folder_that_is_no_procfs_is_not_trusted() {
        let empty = tempfile::tempdir().unwrap();
        assert!(matches!(Procfs::new(empty.path()).sees_the_host(), Err(Blind::NotTheHosts(_))));
        std::os::unix::fs::symlink("4711", empty.path().join("self")).unwrap();
        assert!(matches!(Procfs::new(empty.path()).sees_the_host(), Err(Blind::Hidden(_))));
        Procfs::new("/proc").sees_the_host().unwrap();
    }
}
