//! The few system calls for which nix has no safe way; all of this project's unsafe code.
#![allow(unsafe_code)]

use std::ffi::{CStr, CString};
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

/// Has a command, once started, die with the process `parent` that starts it, and have these
/// signals blocked and these ignored: what [`Command`] alone cannot do.
pub(super) fn tie_to_parent(command: &mut Command, parent: Pid, blocked: SigSet, ignored: SigSet) {
    let tie = move || {
        set_pdeathsig(Signal::SIGKILL)?;
        if nix::unistd::getppid() != parent {
            // It died before the line above.
            return Err(io::Error::from_raw_os_error(libc::ESRCH));
        }
        for signal in ignored.iter() {
            let ignore = SigAction::new(SigHandler::SigIgn, SaFlags::empty(), SigSet::empty());
            // SAFETY: there is no handler.
            unsafe { sigaction(signal, &ignore) }?;
        }
        blocked.thread_set_mask()?;
        Ok(())
    };
    // SAFETY: between fork and exec the closure makes system calls only (prctl, getppid,
    // sigaction, sigprocmask), all async-signal-safe, and allocates nothing.
    unsafe { command.pre_exec(tie) };
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

extern "C" fn on_alarm(_: i32) {
    let text = LAST_WORDS.load(Ordering::Acquire);
    if !text.is_null() {
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
    let action = SigAction::new(SigHandler::Handler(on_alarm), SaFlags::empty(), SigSet::empty());
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
