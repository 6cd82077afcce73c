//! `kcm crds`: the definitions of the custom resources.

use std::io::Write;
use std::process::ExitCode;

use anyhow::Context;

use crate::cluster::crds::definitions;

/// Prints the definitions of the custom resources NodeReport and ReconcileReport, as YAML
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  kcm crds | kubectl apply --server-side -f -")]
pub(crate) struct Crds {}

impl Crds {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        let mut text = String::from("# Made by: kcm crds\n");
        for definition in definitions() {
            text.push_str("---\n");
            text.push_str(&serde_saphyr::to_string(&definition).context("cannot write YAML")?);
        }
        std::io::stdout().write_all(text.as_bytes()).context("cannot write to standard output")?;
        Ok(ExitCode::SUCCESS)
    }
}
