//! File systems mounted for a test, over a folder that has content already.

use std::path::{Path, PathBuf};
use std::process::Command;

/// A mount that ends when it is dropped.
#[derive(Debug)]
pub struct Mount {
    path: PathBuf,
}

impl Mount {
    /// A tmpfs with these options over a folder, with a copy of what the folder has.
    pub fn tmpfs(path: &Path, options: &str) -> Self {
        let copy = tempfile::tempdir().unwrap();
        run("cp", &["-a", &format!("{}/.", path.display()), text(copy.path())]);
        run("mount", &["-t", "tmpfs", "-o", options, "tmpfs", text(path)]);
        let mount = Self { path: path.to_owned() };
        run("cp", &["-a", &format!("{}/.", copy.path().display()), text(path)]);
        mount
    }

    /// The folder itself, read-only.
    pub fn read_only(path: &Path) -> Self {
        run("mount", &["--bind", text(path), text(path)]);
        let mount = Self { path: path.to_owned() };
        run("mount", &["-o", "remount,bind,ro", text(path)]);
        mount
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.path).status();
    }
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn run(program: &str, words: &[&str]) {
    let status = Command::new(program).args(words).status().unwrap();
    assert!(status.success(), "{program} {words:?}: {status}");
}
