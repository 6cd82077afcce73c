//! `--metrics-addr`: what a command that goes on has seen and done, for Prometheus, and whether it is
//! well.
//!
//! The rounds happen on the main thread, the serving on one thread of its own. Between the two is
//! the [`Board`]: at the end of a round its text is written anew, and a request is answered with it.
//! So a request costs no look at the node, and cannot make a round wait.

mod answer;
mod board;
mod families;
mod findings;
mod labels;
mod serve;

use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use board::Board;
use families::Families;
pub(crate) use findings::Findings;
use kcm_core::state::LockTimeout;

use crate::logging;

/// The metrics of this process, being served.
#[derive(Debug)]
pub(crate) struct Metrics {
    families: Families,
    board: Arc<Board>,
}

impl Metrics {
    /// Serves them at this address from here on, for rounds that are so far apart.
    pub(crate) fn serve(address: SocketAddr, interval: Duration) -> anyhow::Result<Self> {
        let families = Families::new(interval);
        let patience = 3 * interval + LockTimeout::from_environment()?.longest_use();
        let board = Arc::new(Board::new(families.text(), patience));
        let address = serve::start(address, Arc::clone(&board))?;
        log::info!("metrics are at http://{address}/metrics");
        Ok(Self { families, board })
    }

    /// Adds a round: what it found, how it ended, and how long it took.
    pub(crate) fn add(
        &mut self,
        findings: &Findings,
        result: &anyhow::Result<ExitCode>,
        took: Duration,
    ) {
        let failure = match result {
            Err(error) => Some(format!("{error:#}")),
            Ok(_) if findings.failure().is_some() => findings.failure(),
            Ok(code) if *code == ExitCode::SUCCESS => None,
            Ok(_) => Some("see its ERROR lines".to_owned()),
        };
        self.families.add_round(failure.is_none(), took, SystemTime::now());
        self.families.add_findings(findings, SystemTime::now());
        self.board.put(self.families.text(), failure.map(|why| logging::one_line(&why)));
    }
}
