//! `kcm doctor`: whether a node is in order, from the kernel to the engines.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use kcm_core::state::{ConfDir, LockTimeout};

use super::{ConfDirFlag, Format};
use crate::doctor::{Finding, Status, Subject, examine};
use crate::engines::Engine;
use crate::logging::one_line;
use crate::machine::Machine;
use crate::output;

/// Checks this node, and says of each check whether it is ok, and if not, what to do
///
/// The exit status is 1 if any check fails.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  kcm doctor
  kcm doctor --runtime=containerd
  kcm doctor --output=json | jq '.[] | select(.status != \"ok\")'")]
pub(crate) struct Doctor {
    #[command(flatten)]
    conf_dir: ConfDirFlag,

    /// An engine that has to call the hook; may be given several times; else whichever is there
    #[arg(long = "runtime", value_name = "ENGINE")]
    runtimes: Vec<Engine>,

    /// Where kcm is installed
    #[arg(long, value_name = "DIR", default_value = "/opt/bin")]
    install_dir: PathBuf,

    /// Where kcm-hook is installed
    #[arg(long, value_name = "DIR", default_value = "/opt/kcm")]
    hook_dir: PathBuf,

    /// How to print it
    #[arg(long, value_name = "FORMAT", default_value = "table")]
    output: Format,
}

impl Doctor {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        let findings = examine(&Subject {
            machine: Machine::from_environment(),
            conf: ConfDir::new(&self.conf_dir.conf_dir, LockTimeout::from_environment()?),
            kcm: self.install_dir.join("kcm"),
            hook: self.hook_dir.join("kcm-hook"),
            engines: self.runtimes,
        });
        match self.output {
            Format::Json => output::json::print(&findings)?,
            Format::Table => print(&findings)?,
        }
        let has_failed = findings.iter().any(|finding| finding.status == Status::Fail);
        Ok(if has_failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
    }
}

/// One line a check; below one that is not ok, what to do.
fn print(findings: &[Finding]) -> anyhow::Result<()> {
    use std::io::Write;
    let width = findings.iter().map(|finding| finding.check.len()).max().unwrap_or_default();
    let mut text = String::new();
    for Finding { check, message, remedy, status } in findings {
        let status = match status {
            Status::Ok => "ok",
            Status::Warn => "warn",
            Status::Fail => "fail",
        };
        // The names of processes and cgroups are anybody's choice.
        let message = one_line(message);
        text += &format!("{status:<4}  {check:<width$}  {message}\n");
        if let Some(remedy) = remedy {
            text += &format!("{:4}  {:<width$}  → {}\n", "", "", one_line(remedy));
        }
    }
    std::io::stdout().write_all(text.as_bytes()).context("cannot write to standard output")
}
