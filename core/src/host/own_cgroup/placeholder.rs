//! A process that does nothing. systemd makes no scope without one to put into it, and the record
//! has to name the scope's cgroup before the command begins.

use std::io;
use std::path::Path;
use std::process::Child;

use super::super::errand::{Errand, THIS_PROGRAM};

/// Ends when this is dropped, and with this process.
#[derive(Debug)]
pub(super) struct Placeholder(Child);

impl Placeholder {
    pub(super) fn start() -> io::Result<Self> {
        Errand::HoldAPlace.start(Path::new(THIS_PROGRAM)).map(Self)
    }

    pub(super) fn pid(&self) -> u32 {
        self.0.id()
    }
}

impl Drop for Placeholder {
    fn drop(&mut self) {
        // It waits for the end of its standard input.
        drop(self.0.stdin.take());
        if let Err(error) = self.0.wait() {
            log::debug!("process {}: {error}", self.0.id());
        }
    }
}
