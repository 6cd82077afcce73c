//! The few system calls for which nix has no safe way; all of this project's unsafe code.
#![allow(unsafe_code)]

use std::ffi::{CStr, CString};
use std::fs::File;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicPtr, AtomicUsize, Ordering};

use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};

use nix::unistd::Pid;

use crate::cpu_set::CpuSet;

/// Binds one thread to CPUs, of any number: nix's and libc's sets end at CPU 1,023
/// (`sched_setaffinity(2)`, "Handling systems with large CPU affinity masks").
pub(super) fn set_affinity(tid: i32, cpus: &CpuSet) -> io::Result<()> {
    let mask = cpus.to_bytes();
    // SAFETY: the kernel reads `mask.len()` bytes from `mask`, which lives through the call.
    let result =
        unsafe { libc::syscall(libc::SYS_sched_setaffinity, tid, mask.len(), mask.as_ptr()) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// The CPUs that the calling thread may run on (`sched_getaffinity(2)`), of any number: the kernel
/// refuses a buffer that is too small for its CPUs.
pub(super) fn affinity() -> io::Result<CpuSet> {
    let mut mask = vec![0u8; 128];
    loop {
        // SAFETY: the kernel writes at most `mask.len()` bytes to `mask`, which lives through the
        // call.
        let result =
            unsafe { libc::syscall(libc::SYS_sched_getaffinity, 0, mask.len(), mask.as_mut_ptr()) };
        match usize::try_from(result) {
            Ok(written) => return Ok(CpuSet::from_bytes(&mask[..written])),
            Err(_) => {
                let error = io::Error::last_os_error();
                let too_small = error.raw_os_error() == Some(libc::EINVAL) && mask.len() < 1 << 16;
                if !too_small {
                    return Err(error);
                }
                mask.resize(mask.len() * 2, 0);
            }
        }
    }
}

/// Sets an extended attribute of a folder or file (`setxattr(2)`).
pub(super) fn set_attribute(path: &Path, name: &CStr, value: &[u8]) -> io::Result<()> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    // SAFETY: two strings that end in NUL, and `value.len()` bytes that the kernel only reads; all
    // live through the call.
    let result = unsafe {
        libc::setxattr(path.as_ptr(), name.as_ptr(), value.as_ptr().cast(), value.len(), 0)
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// An extended attribute of a folder or file, of at most `limit` bytes (`getxattr(2)`).
pub(super) fn attribute(path: &Path, name: &CStr, limit: usize) -> io::Result<Vec<u8>> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let mut value = vec![0u8; 1 << 10];
    loop {
        // SAFETY: two strings that end in NUL; the kernel writes at most `value.len()` bytes to
        // `value`. All live through the call.
        let result = unsafe {
            libc::getxattr(path.as_ptr(), name.as_ptr(), value.as_mut_ptr().cast(), value.len())
        };
        match usize::try_from(result) {
            Ok(length) => {
                value.truncate(length);
                return Ok(value);
            }
            Err(_) => {
                let error = io::Error::last_os_error();
                if error.raw_os_error() != Some(libc::ERANGE) || value.len() >= limit {
                    return Err(error);
                }
                value.resize(value.len() * 8, 0);
            }
        }
    }
}

/// Has this process ignore none of these signals any more. Those that it did.
pub(super) fn heed(signals: &[Signal]) -> io::Result<SigSet> {
    let mut ignored = SigSet::empty();
    for &signal in signals {
        let action = SigAction::new(SigHandler::SigDfl, SaFlags::empty(), SigSet::empty());
        // SAFETY: there is no handler.
        let before = unsafe { sigaction(signal, &action) }.map_err(io::Error::from)?;
        if matches!(before.handler(), SigHandler::SigIgn) {
            ignored.add(signal);
        }
    }
    Ok(ignored)
}

/// What a process does between fork(2) and exec(2), which [`Command`] alone cannot have it do.
pub(super) struct Start {
    /// Die with this process, which starts it.
    pub(super) parent: Pid,
    /// Have these signals blocked.
    pub(super) blocked: SigSet,
    /// Ignore these.
    pub(super) ignored: SigSet,
    /// Enter the cgroup whose list of processes this file is.
    pub(super) enter: Option<File>,
    /// Be bound to exactly these CPUs, as `sched_setaffinity(2)` wants them.
    pub(super) cpus: Option<Vec<u8>>,
}

/// What a process did not come to do before its exec(2). The only way to tell the one that started
/// it is an error's number ([`Command`] passes on nothing else): errno, and above it which it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Missed {
    /// Entering its cgroup.
    Entering = 1,
    /// Being bound to CPUs.
    Binding = 2,
    /// Having all of those CPUs: the kernel silently leaves out what the cpuset does not have.
    AllCpus = 3,
}

/// Above every errno (errno-base.h: 4,095 at the most).
const MISSED_SHIFT: i32 = 16;

impl Missed {
    fn with(self, errno: i32) -> io::Error {
        io::Error::from_raw_os_error((self as i32) << MISSED_SHIFT | errno)
    }

    /// What an error of [`Command::spawn`] stands for, and its errno.
    pub(super) fn in_error(error: &io::Error) -> Option<(Self, io::Error)> {
        let number = error.raw_os_error()?;
        let all = [Self::Entering, Self::Binding, Self::AllCpus];
        let missed = all.into_iter().find(|&it| it as i32 == number >> MISSED_SHIFT)?;
        Some((missed, io::Error::from_raw_os_error(number & ((1 << MISSED_SHIFT) - 1))))
    }
}

impl Start {
    /// Async-signal-safe, and allocates nothing (fork(2)).
    fn make_so(&self) -> io::Result<()> {
        set_pdeathsig(Signal::SIGKILL)?;
        if nix::unistd::getppid() != self.parent {
            // It died before the line above.
            return Err(io::Error::from_raw_os_error(libc::ESRCH));
        }
        // 0 is whoever writes it (cgroups(7)); in one write(2).
        if let Some(file) = &self.enter
            && let Err(errno) = nix::unistd::write(file, b"0")
        {
            return Err(Missed::Entering.with(errno as i32));
        }
        if let Some(cpus) = &self.cpus {
            bind_exactly(cpus)?;
        }
        for signal in self.ignored.iter() {
            let ignore = SigAction::new(SigHandler::SigIgn, SaFlags::empty(), SigSet::empty());
            // SAFETY: there is no handler.
            unsafe { sigaction(signal, &ignore) }?;
        }
        self.blocked.thread_set_mask()?;
        Ok(())
    }
}

/// Binds the calling thread, and makes sure that it has all of those CPUs. Allocates nothing.
fn bind_exactly(mask: &[u8]) -> io::Result<()> {
    let errno = || io::Error::last_os_error().raw_os_error().unwrap_or_default();
    // SAFETY: the kernel reads `mask.len()` bytes from `mask`, which lives through the call.
    if unsafe { libc::syscall(libc::SYS_sched_setaffinity, 0, mask.len(), mask.as_ptr()) } != 0 {
        return Err(Missed::Binding.with(errno()));
    }
    let mut actual = [0u8; LARGEST_MASK];
    // SAFETY: the kernel writes at most `actual.len()` bytes to `actual`, which lives through the
    // call.
    let result =
        unsafe { libc::syscall(libc::SYS_sched_getaffinity, 0, actual.len(), actual.as_mut_ptr()) };
    if result < 0 {
        return Err(Missed::Binding.with(errno()));
    }
    let byte = |mask: &[u8], at: usize| mask.get(at).copied().unwrap_or_default();
    let is_equal = (0..actual.len().max(mask.len())).all(|at| byte(&actual, at) == byte(mask, at));
    if is_equal { Ok(()) } else { Err(Missed::AllCpus.with(0)) }
}

/// Room for the most CPUs that a kernel can be built for, 8,192 (`CONFIG_NR_CPUS`, x86).
const LARGEST_MASK: usize = 1024;

/// Has a command, once started, do all this first.
pub(super) fn start_with(command: &mut Command, start: Start) {
    // SAFETY: between fork and exec the closure makes system calls only (prctl, getppid, write,
    // sched_setaffinity, sched_getaffinity, sigaction, sigprocmask), all async-signal-safe, and
    // allocates nothing.
    unsafe { command.pre_exec(move || start.make_so()) };
}

/// The next change of any child: its PID, 0 for none, and the raw status (`waitpid(2)`). nix's
/// loses a child that a real-time signal ended: it knows no name for that.
pub(super) fn wait_any() -> io::Result<(i32, i32)> {
    let mut status = 0;
    let options = libc::WNOHANG | libc::WUNTRACED | libc::WCONTINUED;
    // SAFETY: the kernel writes one int to `status`, which lives through the call.
    let pid = unsafe { libc::waitpid(-1, &raw mut status, options) };
    if pid < 0 { Err(io::Error::last_os_error()) } else { Ok((pid, status)) }
}

/// What the handler of SIGALRM writes before it ends the process; null while it must only
/// interrupt a system call.
static LAST_WORDS: AtomicPtr<u8> = AtomicPtr::new(std::ptr::null_mut());
static LAST_WORDS_LEN: AtomicUsize = AtomicUsize::new(0);
/// The status that it ends the process with.
pub(super) static LAST_STATUS: AtomicI32 = AtomicI32::new(1);

extern "C" fn on_alarm(_: i32, info: *mut libc::siginfo_t, _: *mut libc::c_void) {
    // Another's is not ours to act on: an alarm(2) that somebody had set outlives execve.
    // SAFETY: with SA_SIGINFO the kernel gives a valid one (sigaction(2)).
    let is_timers = unsafe { (*info).si_code } == libc::SI_TIMER;
    let text = LAST_WORDS.load(Ordering::Acquire);
    if is_timers && !text.is_null() {
        // SAFETY: write and _exit are async-signal-safe; `text` was leaked with this length
        // (end_on_alarm), so it is valid for ever.
        unsafe {
            libc::write(2, text.cast(), LAST_WORDS_LEN.load(Ordering::Acquire));
            libc::_exit(LAST_STATUS.load(Ordering::Acquire));
        }
    }
}

/// Has SIGALRM interrupt a blocking system call (no `SA_RESTART`).
pub(super) fn interrupt_on_alarm() -> io::Result<()> {
    LAST_WORDS.store(std::ptr::null_mut(), Ordering::Release);
    let handler = SigHandler::SigAction(on_alarm);
    let action = SigAction::new(handler, SaFlags::SA_SIGINFO, SigSet::empty());
    // SAFETY: the handler touches atomics only, and calls async-signal-safe functions only.
    unsafe { sigaction(Signal::SIGALRM, &action) }.map(drop).map_err(io::Error::from)
}

/// From now on SIGALRM writes `last_words` to standard error and ends the process.
pub(super) fn end_on_alarm(last_words: &str) {
    // Leaked: the handler may run at any time. A few bytes each time the lock is taken.
    let text: &'static mut str = last_words.to_owned().leak();
    LAST_WORDS_LEN.store(text.len(), Ordering::Release);
    LAST_WORDS.store(text.as_mut_ptr(), Ordering::Release);
}

/// Whether SIGTERM or SIGINT came.
static STOP: AtomicBool = AtomicBool::new(false);

extern "C" fn on_stop(_: i32) {
    STOP.store(true, Ordering::Release);
}

/// Has SIGTERM and SIGINT be remembered, and interrupt a blocking system call (no `SA_RESTART`).
pub(super) fn remember_stop() -> io::Result<()> {
    let action = SigAction::new(SigHandler::Handler(on_stop), SaFlags::empty(), SigSet::empty());
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        // SAFETY: the handler touches one atomic only.
        unsafe { sigaction(signal, &action) }.map_err(io::Error::from)?;
    }
    Ok(())
}

/// Whether one came since.
pub(super) fn is_stop_remembered() -> bool {
    STOP.load(Ordering::Acquire)
}

/// Chooses `files dns` for hosts, in place of `/etc/nsswitch.conf` (nsswitch.conf(5)); whether it
/// did. Both are part of a static glibc (2.34 and newer).
pub(super) fn configure_hosts_lookup() -> bool {
    unsafe extern "C" {
        fn __nss_configure_lookup(
            database: *const libc::c_char,
            services: *const libc::c_char,
        ) -> libc::c_int;
    }
    // SAFETY: two strings that end in NUL and live for ever; the function copies what it needs.
    unsafe { __nss_configure_lookup(c"hosts".as_ptr(), c"files dns".as_ptr()) == 0 }
}
