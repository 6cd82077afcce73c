//! What the server may tell, written anew at the end of each round.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use hyper::body::Bytes;

/// The longest error that is told: what a client gets has an end.
const LONGEST_ERROR: usize = 2_000;

/// What the server may tell.
#[derive(Debug)]
pub(super) struct Board {
    /// How old the end of the last round may be.
    patience: Duration,
    latest: Mutex<Latest>,
}

#[derive(Debug)]
struct Latest {
    text: Bytes,
    /// When the last round ended; before the first, when it began.
    since: Instant,
    round: Round,
}

#[derive(Debug)]
enum Round {
    First,
    Succeeded,
    /// The error's text, on one line.
    Failed(String),
}

impl Board {
    /// Before the first round.
    pub(super) fn new(text: String, patience: Duration) -> Self {
        let latest = Latest { text: text.into(), since: Instant::now(), round: Round::First };
        Self { patience, latest: Mutex::new(latest) }
    }

    /// A round has ended just now.
    pub(super) fn put(&self, text: String, failure: Option<String>) {
        let round = match failure {
            None => Round::Succeeded,
            Some(why) => Round::Failed(why.chars().take(LONGEST_ERROR).collect()),
        };
        *self.latest() = Latest { text: text.into(), since: Instant::now(), round };
    }

    /// The metrics, in Prometheus' text format.
    pub(super) fn text(&self) -> Bytes {
        self.latest().text.clone()
    }

    /// Whether the rounds are well; else one line that says why not.
    pub(super) fn health(&self, now: Instant) -> Result<(), String> {
        let latest = self.latest();
        let age = now.saturating_duration_since(latest.since);
        let (seconds, patience) = (age.as_secs(), self.patience.as_secs_f64());
        match &latest.round {
            Round::Failed(why) => {
                Err(format!("the last round, which ended {seconds} s ago, failed: {why}"))
            }
            _ if age <= self.patience => Ok(()),
            Round::First => Err(format!(
                "the first round began {seconds} s ago and has not ended; {patience} s are allowed"
            )),
            Round::Succeeded => Err(format!(
                "the last round ended {seconds} s ago, and none since; {patience} s are allowed"
            )),
        }
    }

    fn latest(&self) -> std::sync::MutexGuard<'_, Latest> {
        self.latest.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(board: &Board, seconds: u64) -> Result<(), String> {
        let since = board.latest().since;
        board.health(since + Duration::from_secs(seconds))
    }

    #[test]
    fn rounds_are_well_while_the_last_succeeded_and_is_recent() {
        let board = Board::new(String::new(), Duration::from_secs(10));
        assert_eq!(after(&board, 10), Ok(()));
        let first = "the first round began 11 s ago and has not ended; 10 s are allowed";
        assert_eq!(after(&board, 11), Err(first.into()));
        board.put(String::new(), None);
        assert_eq!(after(&board, 10), Ok(()));
        let stuck = "the last round ended 11 s ago, and none since; 10 s are allowed";
        assert_eq!(after(&board, 11), Err(stuck.into()));
        board.put(String::new(), Some("no lock".into()));
        let failed = "the last round, which ended 3 s ago, failed: no lock";
        assert_eq!(after(&board, 3), Err(failed.into()));
        board.put(String::new(), None);
        assert_eq!(after(&board, 0), Ok(()));
    }

    #[test]
    fn what_is_told_of_an_error_has_an_end() {
        let board = Board::new(String::new(), Duration::ZERO);
        board.put(String::new(), Some("ä".repeat(100_000)));
        assert!(board.health(Instant::now()).unwrap_err().chars().count() < 3_000);
    }
}
