//! `kcm man-pages`: the manual, made from the command line's own definition.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::CommandFactory;

use super::Cli;

/// Writes the manual pages kcm.1, kcm-init.1 and so on into a folder
#[derive(Debug, clap::Args)]
#[command(hide = true)]
pub(crate) struct ManPages {
    /// Where to: a folder that is there
    folder: PathBuf,
}

impl ManPages {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        // The subcommand `help` has no page of its own.
        let kcm = Cli::command().disable_help_subcommand(true);
        clap_mangen::generate_to(kcm, &self.folder)
            .with_context(|| format!("cannot write manual pages into {}", self.folder.display()))?;
        Ok(ExitCode::SUCCESS)
    }
}
