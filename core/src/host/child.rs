//! The processes that this one starts, and those that they leave behind.

use std::fs::File;
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitStatus};

use nix::sys::prctl::set_child_subreaper;
use nix::sys::signal::{SigSet, Signal};
use nix::unistd::getpid;

use super::procfs::Procfs;
use super::sys;
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

/// Starts a command that dies when this process does (`PR_SET_PDEATHSIG`, prctl(2)), with the
/// signals that this one was started with. The error is that of fork(2) or of execvp(3).
pub fn spawn(mut command: Command, inherited: Inherited) -> io::Result<Child> {
    sys::tie_to_parent(&mut command, getpid(), inherited.blocked, inherited.ignored);
    command.spawn()
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
    let procfs = Procfs::new("/proc");
    let mut found: Vec<Pid> = Vec::new();
    let mut look_at: Vec<Pid> = Pid::try_from(getpid().as_raw()).into_iter().collect();
    while let Some(pid) = look_at.pop() {
        let children = procfs.children(pid);
        found.extend(&children);
        look_at.extend(children);
    }
    found
}
