//! The kernel's tracing, in an instance of one's own (Documentation/trace/ftrace, "Instances"): what
//! others trace is neither seen nor disturbed.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read};
use std::ops::ControlFlow;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

use super::procfs::Procfs;
use super::{Error, list, read};
use crate::task::Pid;

/// Where it is mounted, today and before Linux 4.1.
const ROOTS: [&str; 2] = ["/sys/kernel/tracing", "/sys/kernel/debug/tracing"];

/// Each has a folder of this name, with the process and its start time behind it.
const NAME: &str = "kcm-noise-";

/// A mounted tracefs.
#[derive(Clone, Debug)]
pub struct Tracefs {
    root: PathBuf,
}

/// Why nothing can be traced.
#[derive(Debug, thiserror::Error)]
pub enum Unavailable {
    /// The kernel was built without.
    #[error("this kernel has no tracefs (CONFIG_TRACING)")]
    Missing,
    /// It is not for this process.
    #[error("{0}; run it as root, with CAP_SYS_ADMIN and no kernel lockdown")]
    Denied(Error),
}

impl Tracefs {
    /// The one that is mounted. Where none is, it is mounted for the calling thread alone, and for
    /// what that starts: in a mount namespace that ends with them (mount_namespaces(7)).
    pub fn find() -> Result<Self, Unavailable> {
        for root in ROOTS.map(PathBuf::from) {
            match fs::metadata(root.join("instances")) {
                Ok(_) => return Ok(Self { root }),
                Err(e) if e.kind() == ErrorKind::PermissionDenied => {
                    return Err(Unavailable::Denied(Error::io("read", &root, &e)));
                }
                Err(_) => {}
            }
        }
        let root = PathBuf::from(ROOTS[0]);
        if !root.is_dir() {
            return Err(Unavailable::Missing);
        }
        match mount_apart(&root) {
            Ok(()) => Ok(Self { root }),
            Err(Errno::ENODEV) => Err(Unavailable::Missing),
            Err(errno) => {
                Err(Unavailable::Denied(Error::io("mount tracefs on", &root, &errno.into())))
            }
        }
    }

    /// Makes an instance for this process, and removes those that killed ones have left.
    pub fn instance(&self, procfs: &Procfs, own: Pid) -> Result<Instance, Unavailable> {
        self.remove_abandoned(procfs);
        let start = procfs.stat(own).ok().flatten().map_or(0, |stat| stat.start_time);
        let path = self.root.join("instances").join(format!("{NAME}{own}-{start}"));
        match fs::create_dir(&path) {
            Ok(()) => Ok(Instance { path, pipe: None }),
            Err(e) => Err(Unavailable::Denied(Error::io("make", &path, &e))),
        }
    }

    /// Removes what is left of processes that were killed.
    fn remove_abandoned(&self, procfs: &Procfs) {
        let entries = list(&self.root.join("instances")).unwrap_or_default();
        for path in entries.into_iter().map(|entry| entry.path()) {
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            if is_abandoned(procfs, name)
                && let Err(e) = fs::remove_dir(&path)
            {
                log::debug!("cannot remove {}: {e}", path.display());
            }
        }
    }
}

/// Whether an instance's name is that of a process which has ended.
fn is_abandoned(procfs: &Procfs, name: &str) -> bool {
    let Some((pid, start)) = name.strip_prefix(NAME).and_then(|rest| rest.split_once('-')) else {
        return false;
    };
    let (Ok(pid), Ok(start)) = (pid.parse::<Pid>(), start.parse::<u64>()) else { return false };
    match procfs.stat(pid) {
        Ok(Some(stat)) => stat.ended || stat.start_time != start,
        Ok(None) => true,
        Err(_) => false,
    }
}

fn mount_apart(root: &Path) -> Result<(), Errno> {
    let nothing = None::<&str>;
    unshare(CloneFlags::CLONE_NEWNS)?;
    mount(nothing, "/", nothing, MsFlags::MS_REC | MsFlags::MS_SLAVE, nothing)?;
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(Some("tracefs"), root, Some("tracefs"), flags, nothing)
}

/// An instance; gone when dropped.
#[derive(Debug)]
pub struct Instance {
    path: PathBuf,
    /// Of which every event is read once.
    pipe: Option<File>,
}

impl Instance {
    /// Writes into one of its files.
    pub fn write(&self, name: &str, text: &str) -> Result<(), Error> {
        let path = self.path.join(name);
        fs::write(&path, text).map_err(|e| Error::io("write", &path, &e))
    }

    /// One of its files; empty where there is none.
    pub fn read(&self, name: &str) -> Result<String, Error> {
        Ok(read(&self.path.join(name))?.unwrap_or_default())
    }

    /// The events of a group (a folder below `events`), sorted; none where the kernel has none.
    pub fn events(&self, group: &str) -> Vec<String> {
        let entries = list(&self.path.join("events").join(group)).unwrap_or_default();
        let folders =
            entries.iter().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
        let mut names: Vec<String> =
            folders.filter_map(|entry| entry.file_name().into_string().ok()).collect();
        names.sort();
        names
    }

    /// Reads what was traced since it was last called, until nothing more is there or `take` has enough.
    /// It waits for nothing, so that no CPU that is traced has to wake anybody.
    pub fn drain(&mut self, mut take: impl FnMut(&[u8]) -> ControlFlow<()>) -> Result<(), Error> {
        let path = self.path.join("trace_pipe");
        let failed = |e: io::Error| Error::io("read", &path, &e);
        let pipe = match &mut self.pipe {
            Some(pipe) => pipe,
            none => {
                let flags =
                    OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(&path);
                none.insert(flags.map_err(failed)?)
            }
        };
        let mut bytes = vec![0; CHUNK];
        loop {
            match pipe.read(&mut bytes) {
                Ok(0) => return Ok(()),
                Ok(length) => {
                    if take(&bytes[..length]).is_break() {
                        return Ok(());
                    }
                }
                Err(e) if e.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => return Err(failed(e)),
            }
        }
    }
}

/// Bytes that are read at once; the kernel gives a page of text at the most.
const CHUNK: usize = 1 << 16;

impl Drop for Instance {
    fn drop(&mut self) {
        self.pipe = None;
        let _ = self.write("tracing_on", "0");
        // Busy for as long as somebody looks into it.
        for _ in 0..20 {
            match fs::remove_dir(&self.path) {
                Err(e) if e.raw_os_error() == Some(libc::EBUSY) => {
                    std::thread::sleep(Duration::from_millis(10));
                }
                _ => return,
            }
        }
        log::warn!(
            "{} is in use by somebody else, and stays; the next kcm noise removes it",
            self.path.display()
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instance_is_abandoned_when_its_very_process_has_ended() {
        let procfs = Procfs::new("/proc");
        let own = Pid::try_from(std::process::id() as i32).unwrap();
        let start = procfs.stat(own).unwrap().unwrap().start_time;
        for (name, expected) in [
            (format!("{NAME}{own}-{start}"), false),
            (format!("{NAME}{own}-{}", start + 1), true),
            (format!("{NAME}4194304-1"), true),
            (format!("{NAME}{own}"), false),
            (format!("{NAME}x-1"), false),
            ("somebody-elses-1-1".to_owned(), false),
        ] {
            assert_eq!(is_abandoned(&procfs, &name), expected, "{name}");
        }
    }
}
