//! The lock of the configuration directory: one `flock(2)` on `lock`, waited for and held for a
//! limited time.

use std::fs::File;
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use fs2::FileExt;

use super::contents::POOLS;
use super::dir::{Dir, identity_of};
use super::error::Error;
use super::turnstile;
use crate::host::alarm::Alarm;
use crate::host::{procfs, stop};
use crate::task::Pid;
use crate::text::one_line;

/// The lock file's name.
pub(crate) const LOCK: &str = "lock";

/// How long the lock is held, and how long it is waited for, at the most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LockTimeout {
    held: Duration,
    waited_for: Duration,
}

/// What a time limit is at the least.
const SHORTEST: Duration = Duration::from_millis(1);

/// A malformed `KCM_LOCK_TIMEOUT`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("KCM_LOCK_TIMEOUT is {0:?}: give seconds greater than 0, as in 30 or 0.5")]
pub struct BadTimeout(String);

impl LockTimeout {
    /// What `KCM_LOCK_TIMEOUT` says, 30 seconds where it is unset.
    pub fn from_environment() -> Result<Self, BadTimeout> {
        match std::env::var_os("KCM_LOCK_TIMEOUT") {
            None => Ok(Self::default()),
            Some(value) => value.to_string_lossy().parse(),
        }
    }
}

impl LockTimeout {
    /// The same, but waited for until then at the most; never for no time, which would not be a limit.
    pub(super) fn until(self, deadline: Instant) -> Self {
        let left = deadline.saturating_duration_since(Instant::now());
        Self { waited_for: self.waited_for.min(left.max(SHORTEST)), ..self }
    }

    fn of(limit: Duration) -> Self {
        Self { held: limit, waited_for: limit }
    }

    /// How long a use of the directory takes at the most: to wait for the lock, and then to hold it.
    pub fn longest_use(self) -> Duration {
        self.held + self.waited_for
    }
}

impl Default for LockTimeout {
    fn default() -> Self {
        Self::of(Duration::from_secs(30))
    }
}

impl std::str::FromStr for LockTimeout {
    type Err = BadTimeout;

    fn from_str(text: &str) -> Result<Self, BadTimeout> {
        let seconds = text.parse::<f64>().ok().filter(|&s| (0.001..=1e6).contains(&s));
        let limit = seconds.map(|s| Self::of(Duration::from_secs_f64(s)));
        limit.ok_or_else(|| BadTimeout(crate::pool::shorten(text)))
    }
}

/// Who may be in the directory at the same time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// The one writer that makes the directory.
    Create,
    /// One writer alone.
    Exclusive,
    /// Any number of readers.
    Shared,
}

/// The lock, had. The kernel drops it with the descriptor, whatever becomes of this process.
#[derive(Debug)]
pub(crate) struct Lock {
    // Before the file: the time limit ends when the lock does.
    _alarm: Alarm,
    _file: File,
}

/// The lock's file, kept open by one who had the lock and will want it once more, for a moment: that
/// costs two system calls.
#[derive(Debug)]
pub struct Turn(File);

impl Lock {
    /// Lets others have it.
    pub(super) fn keep(self) -> Option<Turn> {
        let Self { _alarm: alarm, _file: file } = self;
        drop(alarm);
        FileExt::unlock(&file).ok().map(|()| Turn(file))
    }
}

impl Turn {
    /// Whether the lock could be had at once.
    pub(super) fn take(&self) -> bool {
        self.0.try_lock_exclusive().is_ok()
    }

    /// It ends with this process at the latest.
    pub(super) fn give(&self) {
        let _ = FileExt::unlock(&self.0);
    }
}

/// Opens the directory and locks it. Should somebody have replaced the directory or its lock file
/// while we waited, the new one is locked instead.
pub(crate) fn open_locked(
    path: &Path,
    mode: Mode,
    limit: LockTimeout,
) -> Result<(Dir, Lock), Error> {
    let lock_path = path.join(LOCK);
    let failed = |cause| Error::Timer { path: lock_path.clone(), cause };
    let deadline = Instant::now() + limit.waited_for;
    let mut alarm = Alarm::set(limit.waited_for).map_err(failed)?;
    loop {
        let not_initialised = || Error::NotInitialised { path: path.to_owned() };
        let dir = Dir::open(path)?.ok_or_else(not_initialised)?;
        let file = open_lock_file(&dir, mode)?;
        wait(&file, mode, deadline, &lock_path, limit)?;
        let ours = identity_of(&file).map_err(|cause| Error::Io {
            action: "read",
            path: lock_path.clone(),
            cause,
        })?;
        let current = Dir::open(path)?;
        let same_dir = match &current {
            Some(current) => current.identity(".")? == dir.identity(".")?,
            None => false,
        };
        if same_dir && dir.identity(LOCK)? == Some(ours) {
            alarm.end_after(limit.held, &held_too_long(&lock_path, limit)).map_err(failed)?;
            return Ok((dir, Lock { _alarm: alarm, _file: file }));
        }
    }
}

/// Opens the lock file; a writer makes it where it is missing, but only in a directory of kcm's.
fn open_lock_file(dir: &Dir, mode: Mode) -> Result<File, Error> {
    let missing = match dir.lock_file(LOCK, mode) {
        Err(error) if error.is_missing() => error,
        result => return result,
    };
    match (dir.dir(POOLS)?, mode) {
        (None, _) => Err(Error::NotInitialised { path: dir.path().to_owned() }),
        (Some(_), Mode::Shared) => Err(missing),
        (Some(_), _) => dir.lock_file(LOCK, Mode::Create),
    }
}

fn wait(
    file: &File,
    mode: Mode,
    deadline: Instant,
    path: &Path,
    limit: LockTimeout,
) -> Result<(), Error> {
    let patiently = |attempt: &dyn Fn() -> io::Result<()>| loop {
        match attempt() {
            Ok(()) => return Ok(()),
            // The alarm's signal, or one that asks us to end.
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {
                if stop::is_asked() {
                    return Err(Error::Stopped { path: path.to_owned() });
                }
                if Instant::now() >= deadline {
                    let (path, holder) = (path.to_owned(), holder(file));
                    return Err(Error::LockTimeout { path, limit: limit.waited_for, holder });
                }
            }
            Err(cause) => return Err(Error::Io { action: "lock", path: path.to_owned(), cause }),
        }
    };
    // Whoever was stopped there must not stop the others: the turnstile is a courtesy.
    let courtesy = deadline.checked_sub(limit.waited_for / 2).unwrap_or(deadline);
    let politely = |attempt: &dyn Fn() -> io::Result<()>| {
        patiently(&|| match attempt() {
            Err(_) if Instant::now() >= courtesy && !stop::is_asked() => Ok(()),
            result => result,
        })
    };
    match mode {
        Mode::Create | Mode::Exclusive => {
            politely(&|| turnstile::close(file))?;
            patiently(&|| file.lock_exclusive())?;
            turnstile::open(file);
        }
        Mode::Shared => {
            politely(&|| turnstile::pass(file))?;
            patiently(&|| FileExt::lock_shared(file))?;
        }
    }
    Ok(())
}

fn held_too_long(path: &Path, limit: LockTimeout) -> String {
    let line = format!(
        "kcm: held {} for longer than {:?} and ended itself; the configuration directory is as \
         before or as after; raise KCM_LOCK_TIMEOUT if this machine is that slow",
        path.display(),
        limit.held
    );
    one_line(&line, 1000) + "\n"
}

/// The process that holds a lock on this file, where `/proc/locks` tells.
fn holder(file: &File) -> Option<Pid> {
    let named = turnstile::while_named(file, || name_in_locks(&procfs::own_locks(file)?));
    let name = named.or_else(|| {
        let (device, inode) = identity_of(file).ok()?;
        let (major, minor) = (libc::major(device), libc::minor(device));
        Some(format!("{major:02x}:{minor:02x}:{inode}"))
    })?;
    parse_holder(&procfs::locks()?, &name)
}

/// How the kernel names the file of the locks that an open file has (proc_pid_fdinfo(5)). Only it
/// knows: with overlayfs and btrfs the numbers are others than stat(2) gives.
fn name_in_locks(fdinfo: &str) -> Option<String> {
    let lock = fdinfo.lines().find_map(|line| line.strip_prefix("lock:"))?;
    lock.split_whitespace().nth(5).map(str::to_owned)
}

/// proc_locks(5): `1: FLOCK  ADVISORY  WRITE 708 08:02:1048 0 EOF`; `->` marks those that wait.
fn parse_holder(locks: &str, name: &str) -> Option<Pid> {
    locks.lines().find_map(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words[..] {
            [_, "FLOCK", _, _, pid, file, ..] if file == name => pid.parse().ok(),
            _ => None,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_are_seconds_with_fractions() {
        assert_eq!("0.5".parse(), Ok(LockTimeout::of(Duration::from_millis(500))));
        assert_eq!("30".parse(), Ok(LockTimeout::default()));
        for bad in ["", "0", "-1", "x", "nan", "inf", "1e30", "5s"] {
            assert!(bad.parse::<LockTimeout>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_wait_ends_at_the_deadline_at_the_latest_and_is_never_no_wait() {
        let at = |seconds| Instant::now() + Duration::from_secs(seconds);
        let limit = LockTimeout::default();
        let cut = limit.until(at(10));
        assert_eq!(cut.held, limit.held, "what is held is no wait");
        assert!((9..=10).contains(&cut.waited_for.as_secs()), "{cut:?}");
        assert_eq!(limit.until(at(40)), limit);
        assert_eq!(limit.until(Instant::now()).waited_for, SHORTEST);
    }

    #[test]
    fn the_holder_is_read_from_proc_locks_and_waiters_are_not_it() {
        let locks = "1: POSIX  ADVISORY  WRITE 5 08:02:77 0 EOF\n\
                     2: FLOCK  ADVISORY  WRITE 708 08:02:77 0 EOF\n\
                     2: -> FLOCK  ADVISORY  WRITE 709 08:02:77 0 EOF\n";
        assert_eq!(parse_holder(locks, "08:02:77").map(Pid::as_raw), Some(708));
        assert_eq!(parse_holder(locks, "08:02:78"), None);
        let fdinfo = "pos:\t0\nflags:\t0100002\nmnt_id:\t24\nino:\t9\n\
                      lock:\t1: OFDLCK ADVISORY  READ  -1 00:2b:77 1 1\n";
        assert_eq!(name_in_locks(fdinfo).as_deref(), Some("00:2b:77"));
        assert_eq!(name_in_locks("pos:\t0\n"), None);
    }
}
