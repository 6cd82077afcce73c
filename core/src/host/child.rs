//! The processes that this one starts, and those that they leave behind.

use std::fs::File;
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitStatus};

use nix::sys::prctl::set_child_subreaper;
use nix::sys::signal::{SigSet, Signal};
use nix::unistd::getpid;

use super::procfs::Procfs;
use super::sys::{self, Missed, Start};
use crate::cpu_set::CpuSet;
use crate::task::Pid;

/// The signals that this process was started with, as far as it changes them for itself (signal(7)).
#[derive(Clone, Copy, Debug)]
pub struct Inherited {
    blocked: SigSet,
    ignored: SigSet,
}

impl Inherited {
    /// Takes note of them, before anything is changed. From then on the ends of children are
    /// noticed, which they are not with SIGCHLD ignored (wait(2)).
    pub fn take() -> io::Result<Self> {
        let blocked = SigSet::thread_get_mask()?;
        Ok(Self { blocked, ignored: sys::heed(&[Signal::SIGCHLD, Signal::SIGALRM])? })
    }
}

/// Where a command runs from its first instruction on.
#[derive(Debug, Default)]
pub struct Place {
    /// In the cgroup whose list of processes this is (`tasks` of cgroup v1, `cgroup.procs` of v2),
    /// open for writing.
    pub cgroup: Option<File>,
    /// On exactly these CPUs; where this is none, on those that the caller may use.
    pub cpus: Option<CpuSet>,
}

/// Why a command does not run.
#[derive(Debug, thiserror::Error)]
pub enum NotStarted {
    /// Its cgroup does not take it.
    #[error("cannot put the command into its cgroup: {0}")]
    Cgroup(#[source] io::Error),
    /// It may not run on those CPUs.
    #[error("cannot bind the command to its CPUs: {0}")]
    Cpus(#[source] io::Error),
    /// The kernel bound it to some of those CPUs only.
    #[error(
        "cannot bind the command to all of its CPUs: some are offline or outside its cpuset; see who \
         else sets cpusets here, or give --no-affinity"
    )]
    SomeCpus,
    /// fork(2).
    #[error("cannot start a process: {0}")]
    Fork(#[source] io::Error),
    /// execvp(3).
    #[error(transparent)]
    Exec(io::Error),
}

/// Starts a command that dies when this process does (`PR_SET_PDEATHSIG`, prctl(2), unless it
/// changes its user), with the signals that this one was started with, in its place.
pub fn spawn(
    mut command: Command,
    inherited: Inherited,
    place: Place,
) -> Result<Child, NotStarted> {
    let Inherited { blocked, ignored } = inherited;
    let cpus = place.cpus.map(|cpus| cpus.to_bytes());
    let start = Start { parent: getpid(), blocked, ignored, enter: place.cgroup, cpus };
    sys::start_with(&mut command, start);
    command.spawn().map_err(|error| match Missed::in_error(&error) {
        Some((Missed::Entering, cause)) => NotStarted::Cgroup(cause),
        Some((Missed::Binding, cause)) => NotStarted::Cpus(cause),
        Some((Missed::AllCpus, _)) => NotStarted::SomeCpus,
        None => match error.raw_os_error() {
            Some(libc::EAGAIN | libc::ENOMEM) => NotStarted::Fork(error),
            _ => NotStarted::Exec(error),
        },
    })
}

/// From now on what descendants leave behind becomes a child of this process, not of PID 1
/// (`PR_SET_CHILD_SUBREAPER`, prctl(2)).
pub fn adopt_orphans() -> io::Result<()> {
    set_child_subreaper(true).map_err(io::Error::from)
}

/// What has happened to a child.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// This child, by its number, has ended, stopped or continued.
    Change(i32, ExitStatus),
    /// Nothing that was not told yet.
    Nothing,
    /// There are no children.
    NoChildren,
}

/// The next thing that has happened to any child; it does not wait for one. A child that has ended
/// is gone with this.
pub fn next_event() -> io::Result<Event> {
    loop {
        match sys::wait_any() {
            Ok((0, _)) => return Ok(Event::Nothing),
            Ok((pid, status)) => return Ok(Event::Change(pid, ExitStatus::from_raw(status))),
            Err(e) if e.raw_os_error() == Some(libc::ECHILD) => return Ok(Event::NoChildren),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
}

/// The terminal that this process can be controlled from; none for one without (tty(4)).
pub fn controlling_terminal() -> Option<File> {
    File::open("/dev/tty").ok()
}

/// All living descendants of this process, by its own PID namespace's numbers; as far as `/proc`
/// tells.
pub fn descendants() -> Vec<Pid> {
    let own = Pid::try_from(getpid().as_raw()).ok();
    own.map(|pid| Procfs::new("/proc").descendants(pid)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Stdio;

    fn start(program: &str, place: Place) -> Result<String, NotStarted> {
        let mut command = Command::new(program);
        command.args(["-m1", "^Cpus_allowed_list", "/proc/self/status"]).stdout(Stdio::piped());
        let inherited = Inherited { blocked: SigSet::empty(), ignored: SigSet::empty() };
        let output = spawn(command, inherited, place)?.wait_with_output().unwrap();
        Ok(String::from_utf8(output.stdout).unwrap().trim().rsplit_once('\t').unwrap().1.to_owned())
    }

    #[test]
    fn a_command_is_on_its_cpus_from_the_start_while_its_parent_stays_where_it_is() {
        let all = crate::host::affinity::own().unwrap();
        for cpu in all.iter() {
            let cpus = Some(CpuSet::from_iter([cpu]));
            assert_eq!(start("grep", Place { cgroup: None, cpus }).unwrap(), cpu.to_string());
        }
        assert_eq!(crate::host::affinity::own().unwrap(), all);
    }

    #[test]
    fn what_a_command_did_not_come_to_is_told_apart() {
        let first = crate::host::affinity::own().unwrap().first().unwrap();
        let on = |cpus: &[u32]| Place { cgroup: None, cpus: Some(cpus.iter().copied().collect()) };
        let full = File::options().write(true).open("/dev/full").unwrap();
        let full = Place { cgroup: Some(full), cpus: None };
        for (program, place, expected) in [
            ("grep", on(&[8191]), "cannot bind the command to its CPUs: Invalid argument"),
            ("grep", on(&[first, 8191]), "cannot bind the command to all of its CPUs"),
            ("grep", full, "cannot put the command into its cgroup: No space left on device"),
            ("/nonexistent", Place::default(), "No such file or directory"),
        ] {
            let error = start(program, place).unwrap_err().to_string();
            assert!(error.starts_with(expected), "{error}");
        }
    }
}
