//! Who comes next: a writer that waits for the lock keeps new readers out of it.
//!
//! `flock(2)` alone lets readers in for as long as one of them is there, so that readers in loops keep
//! a writer waiting without end. So a writer, before it asks for the lock, locks the first byte of the
//! lock file by a lock of the *open file description* kind (fcntl_locking(2)), which has nothing to do
//! with `flock(2)`, and unlocks it once it has the lock. A reader begins only when nobody has that
//! byte. So a writer waits for the readers that are there, and those for one writer.
//!
//! The original knows nothing of it, and is kept out by the lock itself. The kernel drops both with
//! their process; one that was stopped there is passed by after half the time that the lock is waited for. Where a file system has no such locks, there is no turnstile.

use std::fs::File;
use std::io;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};

/// The byte that a waiting writer has.
const WRITERS: i64 = 0;
/// The byte that tells how the kernel names the file.
const NAMES: i64 = 1;

/// Locks the turnstile for a writer, waiting for one that has it.
pub(super) fn close(lock: &File) -> io::Result<()> {
    where_there_is_one(fcntl(lock, FcntlArg::F_OFD_SETLKW(&byte(WRITERS, libc::F_WRLCK))))
}

/// Lets readers, and the next writer, in again.
pub(super) fn open(lock: &File) {
    // To unlock never waits, so that no signal can come between.
    let _ = fcntl(lock, FcntlArg::F_OFD_SETLK(&byte(WRITERS, libc::F_UNLCK)));
}

/// Waits until no writer has it.
pub(super) fn pass(lock: &File) -> io::Result<()> {
    let mut found = byte(WRITERS, libc::F_RDLCK);
    where_there_is_one(fcntl(lock, FcntlArg::F_OFD_GETLK(&mut found)))?;
    if i32::from(found.l_type) != libc::F_WRLCK {
        return Ok(());
    }
    where_there_is_one(fcntl(lock, FcntlArg::F_OFD_SETLKW(&byte(WRITERS, libc::F_RDLCK))))?;
    open(lock);
    Ok(())
}

/// Does something while the kernel's tables have a lock of ours on this file.
pub(super) fn while_named<T>(lock: &File, look: impl FnOnce() -> Option<T>) -> Option<T> {
    fcntl(lock, FcntlArg::F_OFD_SETLK(&byte(NAMES, libc::F_RDLCK))).ok()?;
    let seen = look();
    fcntl(lock, FcntlArg::F_OFD_SETLK(&byte(NAMES, libc::F_UNLCK))).ok()?;
    seen
}

/// Only a signal is of interest to who waits: the lock itself keeps the directory, not the turnstile.
fn where_there_is_one(result: Result<i32, Errno>) -> io::Result<()> {
    match result {
        Err(Errno::EINTR) => Err(Errno::EINTR.into()),
        Err(errno) => {
            log::debug!("readers may keep a writer waiting here: {errno}");
            Ok(())
        }
        Ok(_) => Ok(()),
    }
}

fn byte(start: i64, kind: i32) -> libc::flock {
    let [l_type, l_whence] = [kind, libc::SEEK_SET].map(|n| i16::try_from(n).unwrap_or_default());
    libc::flock { l_type, l_whence, l_start: start, l_len: 1, l_pid: 0 }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods)] // a lock file without a directory
mod tests {
    use super::*;

    #[test]
    fn a_writer_that_waits_keeps_out_readers_and_one_that_has_ended_does_not() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let open_again = || File::options().read(true).write(true).open(file.path()).unwrap();
        let is_closed = |reader: &File| {
            let mut found = byte(WRITERS, libc::F_RDLCK);
            fcntl(reader, FcntlArg::F_OFD_GETLK(&mut found)).unwrap();
            i32::from(found.l_type) == libc::F_WRLCK
        };
        let reader = File::open(file.path()).unwrap();
        pass(&reader).unwrap();
        let writer = open_again();
        close(&writer).unwrap();
        assert!(is_closed(&reader));
        open(&writer);
        assert!(!is_closed(&reader));
        close(&writer).unwrap();
        drop(writer);
        assert!(!is_closed(&reader));
        pass(&reader).unwrap();
        close(&open_again()).unwrap();
    }
}
