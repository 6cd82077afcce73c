//! Running the built `kcm`.

use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Output};

use crate::conf_dir::ConfDir;
use crate::programs::program;

/// `kcm` in an environment of nothing but the path.
pub fn kcm() -> Command {
    let mut command = Command::new(program("kcm"));
    bare(&mut command);
    command
}

/// Takes the environment away, so that nothing of the caller's changes a test.
pub fn bare(command: &mut Command) {
    let path = std::env::var_os("PATH").unwrap_or_default();
    command.env_clear().env("PATH", path).env("LC_ALL", "C");
}

/// `kcm reconcile` in this directory, to its end.
pub fn reconcile(conf: &ConfDir, flags: &[&str]) -> Outcome {
    run(kcm().arg("reconcile").args(flags).env("KCM_CONF_DIR", conf.path()))
}

/// How a program ended and what it printed.
#[derive(Debug)]
pub struct Outcome {
    /// The exit status; none if a signal ended it.
    pub code: Option<i32>,
    /// The signal that ended it.
    pub signal: Option<i32>,
    /// Its standard output.
    pub out: String,
    /// Its standard error.
    pub err: String,
}

impl From<Output> for Outcome {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code(),
            signal: output.status.signal(),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

/// Runs a command to its end.
pub fn run(command: &mut Command) -> Outcome {
    let output = command.output();
    let output = output.unwrap_or_else(|e| panic!("cannot run {command:?}: {e}"));
    output.into()
}

impl Outcome {
    /// It did what it was asked to.
    pub fn succeeded(self) -> Self {
        assert_eq!((self.code, self.signal), (Some(0), None), "{self:?}");
        self
    }

    /// It failed with status 1 and one ERROR line that has all these parts.
    pub fn failed_with(self, parts: &[&str]) -> Self {
        assert_eq!((self.code, self.out.as_str()), (Some(1), ""), "{self:?}");
        let errors = self.lines("ERROR");
        assert_eq!(errors.len(), 1, "{self:?}");
        for part in parts {
            assert!(errors[0].contains(part), "{part:?} is not in {self:?}");
        }
        self
    }

    /// The messages of one level in the log. Every line must have a level.
    pub fn lines(&self, level: &str) -> Vec<&str> {
        let split = |line| str::split_once(line, ' ').unwrap_or_else(|| panic!("{line:?}"));
        let lines: Vec<(&str, &str)> = self.err.lines().map(split).collect();
        for (level, _) in &lines {
            let known = ["ERROR", "WARNING", "INFO", "DEBUG"].contains(level);
            assert!(known, "not a line of the log: {:?}", self.err);
        }
        let of_level = lines.into_iter().filter(|(l, _)| *l == level);
        of_level.map(|(_, message)| message).collect()
    }
}
