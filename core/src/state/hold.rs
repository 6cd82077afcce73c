//! Holding a record for as long as any process lives that has inherited its descriptor.
//!
//! An OFD lock belongs to an open file, not to a process: it ends when the last descriptor of that
//! open file is closed, in whatever process it has come to be (fcntl_locking(2), "Open file
//! description locks"). Only whoever may write a record can take one from outside: a write lock needs
//! a file that is open for writing.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};

/// Above what programs use themselves: shells redirect descriptors up to 9, and keep their own from
/// 10 on and at 255; systemd passes sockets from 3 on.
const LOWEST_NUMBER: i32 = 100;

/// A record, locked as long as this is: others know by it that somebody is at work on its owner, or
/// that something of its owner lives.
#[derive(Debug)]
pub struct Hold(File);

impl Hold {
    /// Locks a record that was just written, before anybody else can open it.
    pub(super) fn on(record: File) -> io::Result<Self> {
        fcntl(&record, FcntlArg::F_OFD_SETLK(&whole_file(libc::F_WRLCK)))?;
        Ok(Self(record))
    }

    /// Passes it on to all that this process starts from here on: it ends with the last of them (or
    /// when each has closed the descriptor).
    pub fn pass_on(&self) -> io::Result<()> {
        let number = match fcntl(&self.0, FcntlArg::F_DUPFD(LOWEST_NUMBER)) {
            // So few descriptors are allowed (RLIMIT_NOFILE).
            Err(Errno::EINVAL) => fcntl(&self.0, FcntlArg::F_DUPFD(0)),
            number => number,
        }?;
        log::debug!("the record is locked by descriptor {number}, which every descendant inherits");
        Ok(())
    }
}

/// Whether another open file has a write lock: a read lock would not conflict with one.
pub(super) fn is_write_locked(record: impl AsFd) -> Result<bool, Errno> {
    let mut lock = whole_file(libc::F_RDLCK);
    fcntl(record, FcntlArg::F_OFD_GETLK(&mut lock))?;
    Ok(i32::from(lock.l_type) != libc::F_UNLCK)
}

fn whole_file(kind: i32) -> libc::flock {
    // The kinds are 0, 1 and 2; a length of 0 is to the end, l_pid is unused.
    let [l_type, l_whence] = [kind, libc::SEEK_SET].map(|n| i16::try_from(n).unwrap_or_default());
    libc::flock { l_type, l_whence, l_start: 0, l_len: 0, l_pid: 0 }
}
