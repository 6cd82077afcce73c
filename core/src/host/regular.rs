//! Opening plain files, and nothing else.
//!
//! To open a device, a FIFO or a socket can act by itself: a tape rewinds, a watchdog starts, a FIFO
//! waits for its other end. So what a path leads to is looked at first, by a descriptor that opens
//! nothing (`O_PATH`, open(2)), and then that very file is opened through it, so that nobody can put
//! another in its place between the two.

use std::fs::{File, FileType, OpenOptions};
use std::io::{self, Read};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Component, Path};

/// Opens a plain file for reading. A symbolic link is followed: the administrator's paths have them,
/// and so do mounted ConfigMaps.
pub fn open(path: &Path) -> io::Result<File> {
    open_for(path, OpenOptions::new().read(true))
}

/// Opens a plain file that is there for writing, without making it shorter.
pub(crate) fn open_to_write(path: &Path) -> io::Result<File> {
    open_for(path, OpenOptions::new().write(true))
}

fn open_for(path: &Path, access: &OpenOptions) -> io::Result<File> {
    if is_the_kernels(path) {
        return access.open(path);
    }
    let seen = OpenOptions::new().read(true).custom_flags(libc::O_PATH).open(path)?;
    let kind = seen.metadata()?.file_type();
    if !kind.is_file() {
        return Err(io::Error::other(format!("it is {}, and no plain file", name(kind))));
    }
    // The file itself, whatever its name has come to lead to (proc_pid_fd(5)).
    match access.open(format!("/proc/self/fd/{}", seen.as_raw_fd())) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => open_seen(path, access, &seen),
        opened => opened,
    }
}

/// Where no `/proc` is mounted, as in another root that is installed on: by its name once more, which
/// must lead to the same file.
fn open_seen(path: &Path, access: &OpenOptions, seen: &File) -> io::Result<File> {
    let flags = libc::O_NONBLOCK | libc::O_NOCTTY;
    let opened = access.clone().custom_flags(flags).open(path)?;
    let identity = |file: &File| file.metadata().map(|found| (found.dev(), found.ino()));
    match identity(&opened)? == identity(seen)? {
        true => Ok(opened),
        false => Err(io::Error::other("it was replaced meanwhile; try again")),
    }
}

/// Below `/proc` and `/sys` is the kernel's own alone, where a file is what its path says, and a
/// container's start opens dozens of them.
fn is_the_kernels(path: &Path) -> bool {
    ["/proc", "/sys"].iter().any(|root| path.starts_with(root))
        && path.components().all(|part| part != Component::ParentDir)
}

/// What a file is, for a message.
fn name(kind: FileType) -> &'static str {
    match kind {
        kind if kind.is_dir() => "a folder",
        kind if kind.is_fifo() => "a FIFO",
        kind if kind.is_socket() => "a socket",
        kind if kind.is_char_device() || kind.is_block_device() => "a device",
        _ => "something else",
    }
}

/// Reads a plain file of at most `limit` bytes; a larger one is an error.
pub fn read(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    read_open(open(path)?, limit)
}

/// The same, as text.
pub fn read_text(path: &Path, limit: u64) -> io::Result<String> {
    String::from_utf8(read(path, limit)?).map_err(|_| io::Error::other("it is no text (UTF-8)"))
}

/// Reads an open file of at most `limit` bytes.
pub(crate) fn read_open(file: File, limit: u64) -> io::Result<Vec<u8>> {
    // With room for a page at once: the kernel gives no size for its files, so that the standard
    // library would begin with 32 bytes, and ask for the size first.
    let mut bytes = Vec::with_capacity(4096);
    file.take(limit + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit {
        return Err(io::Error::other(format!("it is larger than {limit} bytes")));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixListener;

    #[test]
    fn plain_files_are_opened_through_links_and_nothing_else_is() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        std::fs::write(at("file"), "text").unwrap();
        std::os::unix::fs::symlink("file", at("link")).unwrap();
        nix::unistd::mkfifo(&at("fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        std::os::unix::fs::symlink("fifo", at("fifo-link")).unwrap();
        std::os::unix::fs::symlink("/dev/zero", at("device")).unwrap();
        let _socket = UnixListener::bind(at("socket")).unwrap();
        for name in ["file", "link"] {
            let text = read(&at(name), 4).unwrap();
            assert_eq!(text, b"text", "{name}");
        }
        for (name, what) in [
            ("fifo", "a FIFO"),
            ("fifo-link", "a FIFO"),
            ("device", "a device"),
            ("socket", "a socket"),
            (".", "a folder"),
        ] {
            let error = read(&at(name), 4).unwrap_err().to_string();
            assert!(error.contains(&format!("it is {what}")), "{name}: {error}");
            let error = open_to_write(&at(name)).unwrap_err().to_string();
            assert!(error.contains(&format!("it is {what}")), "{name}: {error}");
        }
        assert_eq!(read(&at("none"), 4).unwrap_err().kind(), io::ErrorKind::NotFound);
        let error = read(&at("file"), 3).unwrap_err().to_string();
        assert!(error.contains("larger than 3 bytes"), "{error}");
    }
}
