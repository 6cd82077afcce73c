//! What this program does in a process of its own, which it starts from itself: what may have to be
//! killed, or to be moved.

use std::ffi::OsStr;
use std::io::{self, Read};
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};

use super::environ;

/// What a process of this program is there for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Errand {
    /// Being there, until its standard input ends.
    HoldAPlace,
    /// Looking for marks in the environments of processes.
    LookForMarks,
}

/// Also where the file was replaced, or lies outside of this root.
pub(super) const THIS_PROGRAM: &str = "/proc/self/exe";

/// No command line of a person's begins so.
const ARGUMENT: &str = "--errand";

impl Errand {
    const ALL: [Self; 2] = [Self::HoldAPlace, Self::LookForMarks];

    fn name(self) -> &'static str {
        match self {
            Self::HoldAPlace => "hold-a-place",
            Self::LookForMarks => "look-for-marks",
        }
    }

    /// Starts it, with pipes to its standard input and from its output, and nothing of ours in its
    /// environment.
    pub(super) fn start(self, program: &Path) -> io::Result<Child> {
        Command::new(program)
            .args([ARGUMENT, self.name()])
            .env_clear()
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
    }
}

/// Does the errand that this process was started for; none where it is none. Every program that
/// uses this crate asks this first.
pub fn run_if_sent() -> Option<ExitCode> {
    let mut words = std::env::args_os().skip(1);
    if words.next().as_deref() != Some(OsStr::new(ARGUMENT)) {
        return None;
    }
    let name = words.next()?;
    let errand = Errand::ALL.into_iter().find(|errand| *name == *errand.name())?;
    let done = match errand {
        Errand::HoldAPlace => io::stdin().read(&mut [0]).map(drop),
        Errand::LookForMarks => environ::look(io::stdin().lock(), io::stdout()),
    };
    Some(if done.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
