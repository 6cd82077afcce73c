//! `kcm`: makes and shows the pools of CPUs on a node.

mod cluster;
mod commands;
mod doctor;
mod engines;
mod guards;
mod logging;
mod machine;
mod metrics;
mod noise;
mod output;
mod picture;
mod report;
mod shield;

use std::process::ExitCode;

use clap::Parser;
use commands::Cli;
use kcm_core::host::errand;

fn main() -> ExitCode {
    if let Some(done) = errand::run_if_sent().or_else(noise::run_if_sent) {
        return done;
    }
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        // Help and the version, too: those go to standard output, with status 0.
        Err(usage) => {
            let _ = usage.print();
            return ExitCode::from(u8::try_from(usage.exit_code()).unwrap_or(2));
        }
    };
    let failed = cli.status_of_failure();
    match logging::init().and_then(|()| cli.run()) {
        Ok(code) => code,
        Err(error) => {
            logging::failure(&error);
            failed
        }
    }
}
