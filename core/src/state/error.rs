//! What can go wrong in the configuration directory.

use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::errno::Errno;

use crate::pool::PoolName;
use crate::task::Pid;

/// What went wrong in the configuration directory, where, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A system call failed.
    #[error("cannot {action} {path}: {}", explain(cause))]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        cause: std::io::Error,
    },
    /// No directory, or none of kcm's.
    #[error("{path} is no kcm configuration directory; make one with: kcm init --conf-dir={path}")]
    NotInitialised {
        /// The directory.
        path: PathBuf,
    },
    /// A directory with something of somebody else's.
    #[error(
        "{path} has {found:?} in it and is no kcm configuration directory; give an empty one, or \
         one that does not exist, with --conf-dir"
    )]
    NotEmpty {
        /// The directory.
        path: PathBuf,
        /// One thing that is in it.
        found: String,
    },
    /// No such pool.
    #[error("Requested pool {name} does not exist; the pools are {}", list(known))]
    UnknownPool {
        /// The pool asked for.
        name: PoolName,
        /// Those that there are.
        known: Vec<PoolName>,
    },
    /// Lists one folder deeper, as CMK 1.1 and newer have them.
    #[error(
        "{path} is a directory of CMK (1.1 or newer), whose lists lie below a socket's folder; give \
         another --conf-dir, or move it away and make a new one with kcm init"
    )]
    Cmk {
        /// A folder where a CPU list should be.
        path: PathBuf,
    },
    /// Something else stands where a file should be.
    #[error("{path} is no plain file but {what}, and nothing of kcm's makes that; {remedy}")]
    NotAFile {
        /// The path.
        path: PathBuf,
        /// What it is.
        what: &'static str,
        /// What to do.
        remedy: &'static str,
    },
    /// A file larger than any that kcm writes.
    #[error("{path} is larger than {limit} bytes, and nothing of kcm's writes that; {remedy}")]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// What is read at the most.
        limit: u64,
        /// What to do.
        remedy: &'static str,
    },
    /// A file's content is not what belongs there.
    #[error("{path}: {cause}; {remedy}")]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        cause: String,
        /// What to do.
        remedy: &'static str,
    },
    /// A list's `tasks` is damaged.
    #[error("{cause}")]
    Damaged {
        /// What is wrong, where, and what to do.
        cause: String,
    },
    /// Content that nobody could read again.
    #[error(
        "{path} would be {size} bytes long, and no more than {limit} are ever read; end some of \
         those that are in it, or ask for less"
    )]
    DoesNotFit {
        /// The file.
        path: PathBuf,
        /// How long it would be.
        size: usize,
        /// What is read at the most.
        limit: u64,
    },
    /// The lock was not had in time.
    #[error(
        "{path} was not free within {limit:?}{}; see what that process does, or raise \
         KCM_LOCK_TIMEOUT",
        held_by(*holder)
    )]
    LockTimeout {
        /// The lock file.
        path: PathBuf,
        /// How long was waited.
        limit: Duration,
        /// Who has it, where `/proc/locks` tells.
        holder: Option<Pid>,
    },
    /// This process was asked to end while it waited for the lock.
    #[error("asked to end while waiting for {path}")]
    Stopped {
        /// The lock file.
        path: PathBuf,
    },
    /// The timer for the lock could not be set up.
    #[error("cannot limit the wait for {path}: {cause}")]
    Timer {
        /// The lock file.
        path: PathBuf,
        /// Why not.
        cause: std::io::Error,
    },
}

impl Error {
    pub(crate) fn io(action: &'static str, path: &Path, errno: Errno) -> Self {
        Self::Io { action, path: path.to_owned(), cause: errno.into() }
    }

    /// Whether it is because this process may not write there: an ordinary user, or a read-only
    /// mount.
    pub(crate) fn is_no_permission(&self) -> bool {
        use std::io::ErrorKind::{PermissionDenied, ReadOnlyFilesystem};
        matches!(self, Self::Io { cause, .. }
            if matches!(cause.kind(), PermissionDenied | ReadOnlyFilesystem))
    }

    /// Whether it is because of what is in a file or stands in its place, not because the file
    /// could not be read.
    pub(crate) fn is_content(&self) -> bool {
        match self {
            Self::Malformed { .. }
            | Self::TooLarge { .. }
            | Self::NotAFile { .. }
            | Self::Damaged { .. } => true,
            Self::Io { cause, .. } => Self::is_link(cause),
            _ => false,
        }
    }

    /// Whether it is because something is not there.
    pub(crate) fn is_missing(&self) -> bool {
        matches!(self, Self::Io { cause, .. } if cause.kind() == std::io::ErrorKind::NotFound)
    }

    /// Whether a folder stood in the way.
    pub(crate) fn is_folder(&self) -> bool {
        matches!(self, Self::Io { cause, .. } if cause.kind() == std::io::ErrorKind::IsADirectory)
    }

    /// Whether a symbolic link stood in the way.
    fn is_link(cause: &std::io::Error) -> bool {
        cause.raw_os_error() == Some(libc::ELOOP)
    }
}

fn explain(cause: &std::io::Error) -> String {
    if Error::is_link(cause) {
        return "it is a symbolic link, which is not followed here; remove it".into();
    }
    match cause.raw_os_error() {
        Some(libc::ENOSPC | libc::EDQUOT) => format!("{cause}; make room on that file system"),
        Some(libc::EROFS) => format!("{cause}; mount it writable"),
        Some(libc::EACCES | libc::EPERM) => format!("{cause}; run it as root"),
        _ => cause.to_string(),
    }
}

fn held_by(holder: Option<Pid>) -> String {
    holder.map(|pid| format!(": process {pid} holds it")).unwrap_or_default()
}

fn list(known: &[PoolName]) -> String {
    match known {
        [] => "none".into(),
        _ => known.iter().map(PoolName::to_string).collect::<Vec<_>>().join(", "),
    }
}
