//! Being asked to end, by SIGTERM or SIGINT.
//!
//! Outside of [`Stop::listen`] the two wait. Within, they interrupt what blocks, which is the wait for
//! a lock, and are remembered.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::signal::{SigSet, SigmaskHow, Signal};
use nix::sys::time::TimeSpec;

use super::sys;

/// The right to be asked; one for a process.
#[derive(Debug)]
pub struct Stop {
    signals: SigSet,
}

impl Stop {
    /// From now on the two signals end nothing by themselves.
    pub fn new() -> io::Result<Self> {
        let signals = SigSet::from_iter([Signal::SIGTERM, Signal::SIGINT]);
        signals.thread_block()?;
        sys::remember_stop()?;
        Ok(Self { signals })
    }

    /// Does some work that may be interrupted in its waits.
    pub fn listen<T>(&self, work: impl FnOnce() -> T) -> io::Result<T> {
        self.signals.thread_unblock()?;
        let result = work();
        self.signals.thread_block()?;
        Ok(result)
    }

    /// Waits so long, or until one of these files of the kernel's changes (`POLLPRI`, poll(2)), or until
    /// it is asked. Whether it was, also before.
    pub fn within(&self, time: Duration, changing: &[File]) -> io::Result<bool> {
        let mut open = self.signals.thread_swap_mask(SigmaskHow::SIG_BLOCK)?;
        self.signals.into_iter().for_each(|signal| open.remove(signal));
        let watch = |file| PollFd::new(AsFd::as_fd(file), PollFlags::POLLPRI);
        let mut watched: Vec<PollFd<'_>> = changing.iter().map(watch).collect();
        match ppoll(&mut watched, Some(TimeSpec::from_duration(time)), Some(open)) {
            Ok(_) | Err(Errno::EINTR) => Ok(is_asked()),
            Err(errno) => Err(errno.into()),
        }
    }
}

/// Whether this process was asked to end.
pub fn is_asked() -> bool {
    sys::is_stop_remembered()
}

/// Has the calling thread, one that only helps, never get the two signals: the main thread would
/// not wake up.
pub fn leave_to_the_main_thread() {
    // It fails for invalid arguments alone.
    let _ = SigSet::from_iter([Signal::SIGTERM, Signal::SIGINT]).thread_block();
}
