//! What a command does once, or again and again.

use std::process::ExitCode;
use std::time::Duration;

use kcm_core::host::stop::{self, Stop};

use crate::logging;

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
}

impl Rounds {
    /// Does it. Of many rounds one may fail: that is logged, and the next one comes. SIGTERM and
    /// SIGINT end them.
    pub(super) fn run(
        self,
        mut round: impl FnMut() -> anyhow::Result<ExitCode>,
    ) -> anyhow::Result<ExitCode> {
        if self.interval.is_zero() {
            return round();
        }
        let stop = Stop::new()?;
        loop {
            match stop.listen(&mut round)? {
                // It was asked to end in the midst of it.
                _ if stop::is_asked() => return Ok(ExitCode::SUCCESS),
                Ok(_) => {}
                Err(error) => logging::failure(&error),
            }
            if stop.within(self.interval)? {
                return Ok(ExitCode::SUCCESS);
            }
        }
    }
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds = text.parse::<f64>().ok().filter(|seconds| (0.0..=1e6).contains(seconds));
    let seconds = seconds.ok_or("give seconds, as in 30 or 0.5; 0 for one round")?;
    Ok(Duration::from_secs_f64(seconds))
}
