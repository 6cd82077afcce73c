//! A file system of one's own: full, read-only.

use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

use kcm_tests::kcm::run;

/// A mounted tmpfs, unmounted when dropped. Needs root.
pub(crate) struct Tmpfs {
    folder: TempDir,
}

impl Tmpfs {
    /// Options as `mount -o` takes them: `size=64k,nr_inodes=10`.
    pub(crate) fn new(options: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &format!("{options},mode=0755"), "kcm-test"]);
        run(mount.arg(folder.path())).succeeded();
        Self { folder }
    }

    /// Where it is mounted.
    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Mounts it read-only from here on.
    pub(crate) fn make_read_only(&self) {
        run(Command::new("mount").args(["-o", "remount,ro"]).arg(self.path())).succeeded();
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.path()).status();
    }
}
