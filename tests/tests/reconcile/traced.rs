//! Reconcile under strace(1): what it writes, and where.

use std::fs;
use std::process::Command;

use kcm_tests::conf_dir::ConfDir;
use kcm_tests::kcm::{Outcome, bare, kcm, run};
use tempfile::NamedTempFile;

/// One run and the lines of its trace, in which descriptors have their paths.
#[derive(Debug)]
pub(crate) struct Traced {
    /// How it ended.
    pub(crate) outcome: Outcome,
    /// `<name>(<arguments>) = <result>`.
    pub(crate) calls: Vec<String>,
}

/// `strace` with these options, of `kcm reconcile` with these flags, into this file.
pub(crate) fn strace(
    conf: &ConfDir,
    options: &[&str],
    trace: &NamedTempFile,
    flags: &[&str],
) -> Command {
    let mut command = Command::new("strace");
    bare(&mut command);
    command.args(["-f", "-y", "-s", "300"]).args(options).arg("-o").arg(trace.path());
    command.arg(kcm().get_program()).arg("reconcile").args(flags);
    command.env("KCM_CONF_DIR", conf.path());
    command
}

/// Reconciles a directory and looks at each system call.
pub(crate) fn traced(conf: &ConfDir, flags: &[&str]) -> Traced {
    let trace = NamedTempFile::new().unwrap();
    let outcome = run(&mut strace(conf, &[], &trace, flags));
    Traced { outcome, calls: calls(&trace) }
}

/// The system calls that have ended by now.
pub(crate) fn calls(trace: &NamedTempFile) -> Vec<String> {
    let text = fs::read_to_string(trace.path()).unwrap();
    let whole = text.lines().filter(|line| line.contains(") = "));
    whole.filter_map(|line| Some(line.split_once(' ')?.1.trim_start().to_owned())).collect()
}

impl Traced {
    /// The calls that write, or open for writing, below `/sys/fs/cgroup`.
    pub(crate) fn cgroup_writes(&self) -> Vec<&str> {
        let writes = |call: &&str| {
            let for_writing = ["O_WRONLY", "O_RDWR", "O_CREAT"].iter().any(|f| call.contains(f));
            call.starts_with("open") && for_writing
                || ["write", "pwrite", "mkdir", "unlink", "rmdir"]
                    .iter()
                    .any(|n| call.starts_with(n))
        };
        let calls = self.calls.iter().map(String::as_str);
        calls.filter(|call| call.contains("/sys/fs/cgroup")).filter(writes).collect()
    }

    /// The calls of this name.
    pub(crate) fn named(&self, name: &str) -> Vec<&str> {
        let calls = self.calls.iter().map(String::as_str);
        calls.filter(|call| call.split('(').next() == Some(name)).collect()
    }
}
