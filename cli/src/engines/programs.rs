//! Programs of the host's.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, ensure};

/// Not the caller's own, which says nothing about another root.
const PATH: [&str; 6] =
    ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"];

/// Where a program is.
pub(crate) fn find(name: &str) -> anyhow::Result<PathBuf> {
    let places = PATH.iter().map(|folder| Path::new(folder).join(name));
    let found = places.into_iter().find(|path| path.is_file());
    found.with_context(|| format!("there is no program {name} in {}", PATH.join(":")))
}

/// Runs a program, and gives what it prints.
pub(crate) fn run<A: AsRef<OsStr>>(name: &str, args: &[A]) -> anyhow::Result<String> {
    let mut command = Command::new(find(name)?);
    command.args(args).env("PATH", PATH.join(":")).env("LC_ALL", "C").stdin(Stdio::null());
    // In a chroot systemctl does nothing otherwise.
    command.env("SYSTEMD_IGNORE_CHROOT", "1");
    let words: Vec<_> = args.iter().map(|arg| arg.as_ref().to_string_lossy()).collect();
    let line = format!("{name} {}", words.join(" "));
    let output = command.output().with_context(|| format!("cannot run {line}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{line}: {}: {}", output.status, said.trim());
    String::from_utf8(output.stdout).with_context(|| format!("{line} prints no text"))
}

/// Fails unless a program of kcm's can be run where it is.
pub(crate) fn try_program(path: &Path) -> anyhow::Result<()> {
    let mut command = Command::new(path);
    // A pipe, since there may be no /dev in another root.
    command.arg("--version").env_clear().stdin(Stdio::piped());
    let output = command.output().with_context(|| format!("cannot execute {}", path.display()))?;
    let said = String::from_utf8_lossy(&output.stderr);
    let line = path.display();
    ensure!(output.status.success(), "{line} --version: {}: {}", output.status, said.trim());
    Ok(())
}
