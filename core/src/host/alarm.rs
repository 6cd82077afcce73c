//! A limit on how long this process may wait and then hold something.

use std::io;
use std::time::Duration;

use nix::sys::signal::{SigEvent, SigSet, SigevNotify, Signal};
use nix::sys::time::TimeSpec;
use nix::sys::timer::{Expiration, Timer, TimerSetTimeFlags};
use nix::time::ClockId;

use super::sys;

/// How often the signal comes, should one arrive just before the call that it is to interrupt.
const AGAIN: Duration = Duration::from_millis(100);

/// A running timer; it stops when dropped.
#[derive(Debug)]
pub(crate) struct Alarm {
    timer: Timer,
}

/// The status that this process ends with should it hold a lock for too long; 1 unless set.
pub fn end_with(status: u8) {
    sys::LAST_STATUS.store(status.into(), std::sync::atomic::Ordering::Release);
}

impl Alarm {
    /// Every 100 ms, or after `limit` where that is less, interrupts whatever system call blocks.
    pub(crate) fn set(limit: Duration) -> io::Result<Self> {
        sys::interrupt_on_alarm()?;
        // Whoever started us may have blocked it, and a signal mask outlives execve (execve(2)).
        SigSet::from(Signal::SIGALRM).thread_unblock()?;
        let notify = SigevNotify::SigevSignal { signal: Signal::SIGALRM, si_value: 0 };
        let timer = Timer::new(ClockId::CLOCK_MONOTONIC, SigEvent::new(notify))?;
        let mut alarm = Self { timer };
        alarm.arm(limit.min(AGAIN))?;
        Ok(alarm)
    }

    /// From now on the limit counts anew, and past it the process writes `last_words` to standard
    /// error and ends.
    pub(crate) fn end_after(&mut self, limit: Duration, last_words: &str) -> io::Result<()> {
        self.arm(limit)?;
        sys::end_on_alarm(last_words);
        Ok(())
    }

    fn arm(&mut self, limit: Duration) -> io::Result<()> {
        let first = TimeSpec::from_duration(limit);
        let expiration = Expiration::IntervalDelayed(first, TimeSpec::from_duration(AGAIN));
        self.timer.set(expiration, TimerSetTimeFlags::empty()).map_err(io::Error::from)
    }
}

impl Drop for Alarm {
    fn drop(&mut self) {
        // A signal that is on its way must find nothing to end.
        let _ = sys::interrupt_on_alarm();
    }
}
