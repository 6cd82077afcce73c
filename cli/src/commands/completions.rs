//! `kcm completions`: what a shell completes, made from the command line's own definition.

use std::io::Write;
use std::process::ExitCode;

use anyhow::Context;
use clap::CommandFactory;
use clap_complete::Shell;

use super::Cli;

/// Prints the completions of a shell
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  kcm completions bash >/etc/bash_completion.d/kcm")]
pub(crate) struct Completions {
    /// The shell
    shell: Shell,
}

impl Completions {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        let mut text = Vec::new();
        clap_complete::generate(self.shell, &mut Cli::command(), "kcm", &mut text);
        std::io::stdout().write_all(&text).context("cannot write to standard output")?;
        Ok(ExitCode::SUCCESS)
    }
}
