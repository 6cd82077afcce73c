//! Holding a record for as long as any process lives that has inherited its descriptor.
//!
//! An OFD lock belongs to an open file, not to a process: it ends when the last descriptor of that
//! open file is closed, in whatever process it has come to be (fcntl_locking(2), "Open file
//! description locks"). Only whoever may write a record can take one from outside: a write lock needs
//! a file that is open for writing.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::rc::Rc;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};

use super::dir::{Dir, identity_of};
use super::error::Error;

/// Above what programs use themselves: shells redirect descriptors up to 9, and keep their own from
/// 10 on and at 255; systemd passes sockets from 3 on.
const LOWEST_NUMBER: i32 = 100;

/// A record and the copy of it that is an index, locked as long as this is: others know by either
/// that somebody is at work on its owner, or that something of its owner lives.
#[derive(Debug)]
pub struct Hold {
    files: Vec<File>,
    folder: Rc<Dir>,
    name: String,
}

impl Hold {
    /// Locks files that were just written, before anybody else can open them, and of which one is to
    /// have this name in this folder.
    pub(super) fn on(files: Vec<File>, folder: Rc<Dir>, name: String) -> io::Result<Self> {
        for file in &files {
            fcntl(file, FcntlArg::F_OFD_SETLK(&whole_file(libc::F_WRLCK)))?;
        }
        Ok(Self { files, folder, name })
    }

    /// Whether one of the files is the record: then nobody who has taken away or replaced it has had its
    /// owner judged without this lock.
    pub fn is_in_place(&self) -> Result<bool, Error> {
        let there = self.folder.identity(&self.name)?;
        let is_it = |file: &File| identity_of(file).is_ok_and(|ours| there == Some(ours));
        Ok(self.files.iter().any(is_it))
    }

    /// Passes it on to all that this process starts from here on: it ends with the last of them (or
    /// when each has closed the descriptor).
    pub fn pass_on(&self) -> io::Result<()> {
        for file in &self.files {
            let number = match fcntl(file, FcntlArg::F_DUPFD(LOWEST_NUMBER)) {
                // So few descriptors are allowed (RLIMIT_NOFILE).
                Err(Errno::EINVAL) => fcntl(file, FcntlArg::F_DUPFD(0)),
                number => number,
            }?;
            log::debug!("descriptor {number} locks the record, and every descendant inherits it");
        }
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
