//! The few system calls for which nix has no safe way; all of this project's unsafe code.
#![allow(unsafe_code)]

use std::io;
use std::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};

use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};

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

/// What the handler of SIGALRM writes before it ends the process; null while it must only
/// interrupt a system call.
static LAST_WORDS: AtomicPtr<u8> = AtomicPtr::new(std::ptr::null_mut());
static LAST_WORDS_LEN: AtomicUsize = AtomicUsize::new(0);

extern "C" fn on_alarm(_: i32) {
    let text = LAST_WORDS.load(Ordering::Acquire);
    if !text.is_null() {
        // SAFETY: write and _exit are async-signal-safe; `text` was leaked with this length
        // (end_on_alarm), so it is valid for ever.
        unsafe {
            libc::write(2, text.cast(), LAST_WORDS_LEN.load(Ordering::Acquire));
            libc::_exit(1);
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

/// From now on SIGALRM writes `last_words` to standard error and ends the process with status 1.
pub(super) fn end_on_alarm(last_words: &str) {
    // Leaked: the handler may run at any time. A few bytes each time the lock is taken.
    let text: &'static mut str = last_words.to_owned().leak();
    LAST_WORDS_LEN.store(text.len(), Ordering::Release);
    LAST_WORDS.store(text.as_mut_ptr(), Ordering::Release);
}
