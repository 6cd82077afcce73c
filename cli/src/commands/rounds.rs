//! What a command does once, or again and again.

use std::os::fd::AsFd;
use std::process::ExitCode;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

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
    /// SIGINT end them between two rounds.
    pub(super) fn run(
        self,
        mut round: impl FnMut() -> anyhow::Result<ExitCode>,
    ) -> anyhow::Result<ExitCode> {
        if self.interval.is_zero() {
            return round();
        }
        let end = SigSet::from_iter([Signal::SIGTERM, Signal::SIGINT]);
        end.thread_block()?;
        let ended = SignalFd::with_flags(&end, SfdFlags::SFD_CLOEXEC)?;
        loop {
            if let Err(error) = round() {
                logging::failure(&error);
            }
            let timeout = PollTimeout::try_from(self.interval).unwrap_or(PollTimeout::MAX);
            if poll(&mut [PollFd::new(ended.as_fd(), PollFlags::POLLIN)], timeout)? > 0 {
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
