//! Between the command and whoever started kcm: signals go on, stops and ends are passed on, and
//! what the command leaves behind is waited for.
//!
//! The command stays in this process's own process group, so that a terminal treats both as the one
//! job that they are. What the terminal sends (Ctrl-C, Ctrl-Z, a change of its size) the command
//! gets by itself; what another process sends to this one alone is passed on (sigaction(2),
//! `SI_KERNEL` and `SI_USER`).

use std::io;
use std::process::{Child, ExitStatus};

use kcm_core::host::child::{self, Event};
use nix::errno::Errno;
use nix::sys::signal::{SigSet, Signal, kill, raise};
use nix::sys::signalfd::{SfdFlags, SignalFd, siginfo};
use nix::unistd::{Pid, getpgrp, getsid, tcgetpgrp};

/// Passed on to the command.
const PASSED_ON: [Signal; 7] = [
    Signal::SIGTERM,
    Signal::SIGINT,
    Signal::SIGHUP,
    Signal::SIGQUIT,
    Signal::SIGUSR1,
    Signal::SIGUSR2,
    Signal::SIGWINCH,
];

/// What this process acts on besides.
const OBSERVED: [Signal; 3] = [Signal::SIGCHLD, Signal::SIGTSTP, Signal::SIGCONT];

/// Waits for a command and for all that it starts.
pub(super) struct Supervisor {
    signals: SignalFd,
    /// Whether this is PID 1 of a PID namespace, a container's init.
    is_init: bool,
    child: Pid,
    /// Whether the command is stopped now.
    is_stopped: bool,
    /// How the command has ended; none while it runs.
    ended: Option<ExitStatus>,
}

impl Supervisor {
    /// Before the command is started: from now on signals wait until they are read, and what it
    /// leaves behind becomes ours.
    pub(super) fn new() -> io::Result<Self> {
        let ours = SigSet::from_iter(PASSED_ON.into_iter().chain(OBSERVED));
        ours.thread_block()?;
        let signals = SignalFd::with_flags(&ours, SfdFlags::SFD_CLOEXEC)?;
        let is_init = Pid::this() == INIT;
        if !is_init {
            child::adopt_orphans()?;
        }
        Ok(Self { signals, is_init, child: INIT, is_stopped: false, ended: None })
    }

    /// Until nothing of it lives. Gives the command's status as a shell would: its code, or 128+N
    /// where signal N ended it. `tell` hears once of the processes that outlive the command.
    pub(super) fn wait(mut self, child: &Child, tell: impl Fn(&[String])) -> io::Result<u8> {
        self.child = Pid::from_raw(i32::try_from(child.id()).map_err(io::Error::other)?);
        let mut is_told = false;
        loop {
            let is_anything_left = self.reap()?;
            if let Some(status) = self.ended {
                if !is_anything_left {
                    return Ok(shell_status(status));
                }
                if !is_told {
                    self.command_has_ended(&tell);
                    is_told = true;
                }
            }
            match self.signals.read_signal() {
                Ok(Some(signal)) => self.handle(&signal)?,
                Ok(None) | Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
    }

    /// Takes note of all that has happened to children. Whether there are any left.
    fn reap(&mut self) -> io::Result<bool> {
        loop {
            match child::next_event()? {
                Event::Change(pid, status) if pid == self.child.as_raw() => self.changed(status),
                // An orphan of the command's.
                Event::Change(..) => {}
                Event::Nothing => return Ok(true),
                Event::NoChildren => return Ok(false),
            }
        }
    }

    fn changed(&mut self, status: ExitStatus) {
        use std::os::unix::process::ExitStatusExt;
        if let Some(signal) = status.stopped_signal() {
            self.is_stopped = true;
            self.stop_with_it(signal);
        } else if status.continued() {
            self.is_stopped = false;
        } else {
            self.ended = Some(status);
        }
    }

    /// A shell sees this process, not the command: for the job to be stopped, this must be, too. By
    /// SIGTSTP, which stops nothing where no shell would continue it (setpgid(2), orphaned process
    /// groups); and with a command that somebody stopped by SIGSTOP only in the foreground, since
    /// whoever did that may continue the command alone.
    fn stop_with_it(&self, signal: i32) {
        if self.is_init || signal == libc::SIGSTOP && !is_in_foreground() {
            return;
        }
        let stop = SigSet::from(Signal::SIGTSTP);
        // In this order: one from the terminal may be waiting, too, and what continues us takes
        // away the one that is left (signal(7)); raised later, it would stop us a second time.
        let stopped = raise(Signal::SIGTSTP).and_then(|()| stop.thread_unblock());
        // Here it goes on, some day.
        if let Err(errno) = stopped.and_then(|()| stop.thread_block()) {
            log::warn!("cannot stop with the command: {errno}");
        }
    }

    fn command_has_ended(&self, tell: &impl Fn(&[String])) {
        if self.is_init {
            // The kernel would, as soon as we end; but until then the CPUs are not free.
            let _ = kill(EVERYBODY, Signal::SIGKILL);
            return;
        }
        let left: Vec<String> = child::descendants().iter().map(ToString::to_string).collect();
        if !left.is_empty() {
            tell(&left);
        }
    }

    fn handle(&mut self, info: &siginfo) -> io::Result<()> {
        let signal = i32::try_from(info.ssi_signo).map(Signal::try_from);
        let Ok(Ok(signal)) = signal else { return Ok(()) };
        // A hangup the kernel tells the leader of the session alone.
        let is_told_alone = signal == Signal::SIGHUP && getsid(None) == Ok(Pid::this());
        let is_terminals = info.ssi_code == libc::SI_KERNEL && !is_told_alone;
        match signal {
            Signal::SIGCHLD => {}
            Signal::SIGCONT => {
                // It may have been continued with us, and has said so by now.
                self.reap()?;
                if self.is_stopped {
                    self.send(signal);
                }
            }
            Signal::SIGTSTP if is_terminals && self.ended.is_some() => {
                self.stop_with_it(libc::SIGTSTP);
            }
            _ if is_terminals => {}
            _ => self.send(signal),
        }
        Ok(())
    }

    /// To the command, or, when that has ended, to all that is left of it.
    fn send(&self, signal: Signal) {
        let pids = match self.ended {
            None => vec![self.child],
            Some(_) => child::descendants().iter().map(|pid| Pid::from_raw(pid.as_raw())).collect(),
        };
        for pid in pids {
            match kill(pid, signal) {
                // It has ended meanwhile.
                Ok(()) | Err(Errno::ESRCH) => {}
                Err(errno) => log::warn!("cannot pass {signal} on to process {pid}: {errno}"),
            }
        }
    }
}

const INIT: Pid = Pid::from_raw(1);

/// All processes of this PID namespace but its first (kill(2)).
const EVERYBODY: Pid = Pid::from_raw(-1);

/// Whether this process's group is the one that its terminal listens to (tcgetpgrp(3)).
fn is_in_foreground() -> bool {
    let terminal = child::controlling_terminal();
    terminal.is_some_and(|terminal| tcgetpgrp(terminal) == Ok(getpgrp()))
}

fn shell_status(status: ExitStatus) -> u8 {
    use std::os::unix::process::ExitStatusExt;
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal));
    code.and_then(|code| u8::try_from(code).ok()).unwrap_or(u8::MAX)
}
