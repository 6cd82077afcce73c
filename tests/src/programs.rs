//! The built programs: the very executables that users get.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

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
    fs::copy(program(name), &copy).unwrap();
    (folder, copy)
}
