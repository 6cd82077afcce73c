//! What a command does once, or again and again.

use std::fs::File;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::CommandFactory;
use clap::error::ErrorKind;
use kcm_core::host::cgroup::Cgroup;
use kcm_core::host::stop::{self, Stop};

use super::Cli;
use crate::logging;
use crate::metrics::{Findings, Metrics};

/// Between two rounds at the least, whatever changes.
const PAUSE: Duration = Duration::from_secs(1);

/// How often.
#[derive(Debug, clap::Args)]
pub(super) struct Rounds {
    /// Do it again every so many seconds, until SIGTERM; 0: once
    #[arg(
        long,
        value_name = "SECONDS",
        default_value = "0",
        value_parser = seconds,
        allow_negative_numbers = true
    )]
    interval: Duration,

    /// Serve Prometheus metrics at http://IP:PORT/metrics, and /healthz, while it goes on
    #[arg(long, value_name = "IP:PORT", value_parser = address)]
    metrics_addr: Option<SocketAddr>,
}

impl Rounds {
    /// Does it. Of many rounds one may fail: that is logged, and the next one comes. SIGTERM and
    /// SIGINT end them. A round may say what it found, for the metrics.
    pub(super) fn run(
        self,
        mut round: impl FnMut(&mut Findings) -> anyhow::Result<ExitCode>,
    ) -> anyhow::Result<ExitCode> {
        if self.interval.is_zero() {
            return match self.metrics_addr {
                None => round(&mut Findings::default()),
                Some(_) => {
                    wrong_usage("--metrics-addr serves while rounds go on: give --interval, too")
                }
            };
        }
        let serve = |address| Metrics::serve(address, self.interval);
        let mut metrics = self.metrics_addr.map(serve).transpose()?;
        let stop = Stop::new()?;
        loop {
            let mut findings = Findings::of_a_round(metrics.is_some());
            let begun = Instant::now();
            let result = stop.listen(|| round(&mut findings))?;
            if stop::is_asked() {
                // In the midst of it.
                return Ok(ExitCode::SUCCESS);
            }
            if let Some(metrics) = &mut metrics {
                metrics.add(&findings, &result, begun.elapsed());
            }
            if let Err(error) = result {
                logging::failure(&error);
            }
            // What changes all the time is looked at once a second.
            let first = self.interval.min(PAUSE);
            let changing = findings.partitions.iter().filter_map(Cgroup::partition_to_watch);
            let changing: Vec<File> = changing.collect();
            if stop.within(first, &[])? || stop.within(self.interval - first, &changing)? {
                return Ok(ExitCode::SUCCESS);
            }
        }
    }
}

/// As clap says it, with status 2: what one flag asks of another's value is beyond its attributes.
fn wrong_usage(text: &str) -> anyhow::Result<ExitCode> {
    let _ = Cli::command().error(ErrorKind::MissingRequiredArgument, text).print();
    Ok(ExitCode::from(2))
}

fn address(text: &str) -> Result<SocketAddr, &'static str> {
    text.parse().map_err(|_| "give an IP address and a port, as in 127.0.0.1:9810 or [::1]:9810")
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds = text.parse::<f64>().ok().filter(|seconds| (0.0..=1e6).contains(seconds));
    let seconds = seconds.ok_or("give seconds, as in 30 or 0.5; 0 for one round")?;
    Ok(Duration::from_secs_f64(seconds))
}
