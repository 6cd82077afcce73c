//! The built programs: the very executables that users get.

use std::path::PathBuf;

/// A built program of `dist/`, or of `$KCM_TEST_BIN_DIR` (in the guest).
pub fn program(name: &str) -> PathBuf {
    let dir = std::env::var_os("KCM_TEST_BIN_DIR").map(PathBuf::from);
    let dir = dir.unwrap_or_else(|| concat!(env!("CARGO_MANIFEST_DIR"), "/../dist").into());
    let path = dir.join(name);
    assert!(path.exists(), "{} is not there: run `make build` first", path.display());
    path
}
