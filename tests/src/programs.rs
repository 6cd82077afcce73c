//! The built programs: the very executables that users get.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

/// A built program of `dist/`, or of `$KCM_TEST_BIN_DIR` (in the guest).
pub fn program(name: &str) -> PathBuf {
    let dir = std::env::var_os("KCM_TEST_BIN_DIR").map(PathBuf::from);
    let dir = dir.unwrap_or_else(|| concat!(env!("CARGO_MANIFEST_DIR"), "/../dist").into());
    let path = dir.join(name);
    assert!(path.exists(), "{} is not there: run `make build` first", path.display());
    path
}

/// A copy of a built program that any user may run, in a folder of its own.
pub fn for_any_user(name: &str) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).unwrap();
    let copy = folder.path().join(name);
    copy_to(name, &copy);
    (folder, copy)
}

/// Copies a built program.
pub fn copy_to(name: &str, path: &Path) {
    copy(&program(name), path);
}

/// Copies a program, by another process: a process that another thread of this one starts would for a
/// moment have the copy open for writing, and nobody could run it (ETXTBSY, execve(2)).
pub fn copy(program: &Path, path: &Path) {
    let copied = Command::new("cp").arg(program).arg(path).status().unwrap();
    assert!(copied.success(), "cannot copy {}", program.display());
}
