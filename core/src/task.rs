//! Tasks: host processes that are in a CPU list.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::allocation::Owner;
use crate::pool::shorten;

/// A host process id: greater than 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "i32", into = "i32")]
pub struct Pid(i32);

/// A number or word that is no process id.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no process id")]
pub struct BadPid(String);

impl Pid {
    /// The first process of a PID namespace.
    pub const INIT: Self = Self(1);

    /// The number, as system calls take it.
    pub fn as_raw(self) -> i32 {
        self.0
    }
}

impl TryFrom<i32> for Pid {
    type Error = BadPid;

    fn try_from(raw: i32) -> Result<Self, BadPid> {
        if raw > 0 { Ok(Self(raw)) } else { Err(BadPid(raw.to_string())) }
    }
}

impl From<Pid> for i32 {
    fn from(pid: Pid) -> i32 {
        pid.0
    }
}

impl FromStr for Pid {
    type Err = BadPid;

    fn from_str(text: &str) -> Result<Self, BadPid> {
        let digits = text.bytes().all(|b| b.is_ascii_digit());
        let number = text.parse::<i32>().ok().filter(|_| digits);
        number.and_then(|raw| Self::try_from(raw).ok()).ok_or_else(|| BadPid(shorten(text)))
    }
}

impl fmt::Display for Pid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Which process it is, beyond the reuse of process ids.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    /// Host process id.
    pub pid: Pid,
    /// Field 22 of `/proc/<pid>/stat`, clock ticks since boot; unchanged by `execve`. Absent where
    /// the recorder's time namespace was not that of PID 1, so that its clock says nothing.
    pub start_time: Option<u64>,
    /// `/proc/sys/kernel/random/boot_id` of the boot that the process belongs to.
    pub boot_id: String,
}

/// What is known of a CPU list's `tasks` file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tasks {
    /// The file has no bytes, or is not there.
    Empty,
    /// It has bytes that nobody has looked into: held, as far as is known.
    Unread,
    /// It was read, and each process judged.
    Judged(Vec<Task>),
    /// It holds something that is no process id: the list is out of use until somebody mends it.
    Malformed(String),
}

/// One process in a `tasks` file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Task {
    /// Host process id.
    pub pid: Pid,
    /// Whose it is, where a record says so.
    pub owner: Option<Owner>,
    /// Whether it, or anything of its owner, is still alive.
    pub alive: bool,
}

impl Tasks {
    /// Whether nothing alive is in the list, as far as was looked.
    pub fn is_free(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Unread | Self::Malformed(_) => false,
            Self::Judged(tasks) => tasks.iter().all(|task| !task.alive),
        }
    }

    /// How many live tasks are in the list; 0 where nobody looked.
    pub fn live(&self) -> usize {
        match self {
            Self::Judged(tasks) => tasks.iter().filter(|task| task.alive).count(),
            Self::Empty | Self::Unread | Self::Malformed(_) => 0,
        }
    }
}

/// Parses a `tasks` file: process ids separated by commas, blanks or newlines, empty fields
/// allowed. The error is the first word that is no process id.
pub fn parse_tasks(text: &str) -> Result<Vec<Pid>, BadPid> {
    let words = text.split(|c: char| c == ',' || c.is_ascii_whitespace());
    words.filter(|word| !word.is_empty()).map(str::parse).collect()
}

/// Prints a `tasks` file: comma-separated, no newline.
pub fn format_tasks(pids: &[Pid]) -> String {
    pids.iter().map(Pid::to_string).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn pids(raw: &[i32]) -> Vec<Pid> {
        raw.iter().map(|&n| Pid::try_from(n).unwrap()).collect()
    }

    #[test]
    fn tasks_are_read_leniently_and_written_strictly() {
        for (text, expected) in [
            ("", vec![]),
            ("\n", vec![]),
            ("12,\n", vec![12]),
            ("12,34", vec![12, 34]),
            (" 12 ,, 34\n5", vec![12, 34, 5]),
            ("2147483647", vec![i32::MAX]),
        ] {
            assert_eq!(parse_tasks(text), Ok(pids(&expected)), "{text:?}");
        }
        assert_eq!(format_tasks(&pids(&[12, 34])), "12,34");
        assert_eq!(format_tasks(&[]), "");
    }

    #[test]
    fn anything_but_a_positive_number_is_an_error_that_names_the_word() {
        for (text, word) in [
            ("0", "0"),
            ("-5", "-5"),
            ("1,x", "x"),
            ("+1", "+1"),
            ("1;2", "1;2"),
            ("2147483648", "2147483648"),
            ("1.5", "1.5"),
        ] {
            assert_eq!(parse_tasks(text), Err(BadPid(word.into())), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused_without_a_panic(text in "[0-9, \n]{0,60}|.{0,60}") {
            if let Ok(pids) = parse_tasks(&text) {
                prop_assert_eq!(parse_tasks(&format_tasks(&pids)), Ok(pids));
            }
        }
    }
}
