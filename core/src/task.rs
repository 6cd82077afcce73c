//! Tasks: host processes that are in a CPU list.

use std::collections::HashSet;
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
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Process {
    /// Host process id.
    pub pid: Pid,
    /// Field 22 of `/proc/<pid>/stat`, clock ticks since boot; unchanged by `execve`. Absent where
    /// the recorder's time namespace was not that of PID 1, so that its clock says nothing.
    pub start_time: Option<u64>,
    /// `/proc/sys/kernel/random/boot_id` of the boot that the process belongs to.
    pub boot_id: String,
}

/// What one look at a list's folder tells, with nothing opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Glance {
    /// `tasks` is there, and empty as kcm itself has left it.
    Empty,
    /// Anything else: held, as far as is known.
    Unread,
}

/// A `tasks` file as it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TasksFile {
    /// These process ids are in it, each once.
    Pids(Vec<Pid>),
    /// It is not there, or holds NUL bytes alone, as a power cut may leave it.
    Blank,
    /// It holds something else, or something else stands in its place.
    Damaged {
        /// What is wrong: names the file.
        cause: String,
        /// What can still be read of it.
        pids: Vec<Pid>,
    },
}

/// What is known of who holds a CPU list: its `tasks` and the records that name it, each judged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Judged {
    /// What `tasks` says.
    pub file: TasksFile,
    /// The processes in `tasks`, and those that hold the list by their record alone.
    pub tasks: Vec<Task>,
}

/// One process that holds a list, or did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Task {
    /// Host process id.
    pub pid: Pid,
    /// Whose it is, where a record says so.
    pub owner: Option<Owner>,
    /// Whether it, or anything of its owner, is still alive.
    pub life: Life,
    /// Whether its process id is in `tasks`; else a record alone says that it holds the list.
    pub is_written: bool,
}

/// What became of a holder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Life {
    /// Something of it lives, and holds its lists.
    Alive,
    /// Nothing of it lives.
    Dead,
    /// It lives, but was never bound to its CPUs, nobody is about to bind it, and it is in no
    /// `tasks`: a start that failed, which holds nothing.
    NeverBound,
}

impl Task {
    /// Whether it holds its list.
    pub fn is_alive(&self) -> bool {
        self.life == Life::Alive
    }
}

impl Judged {
    /// Whether nothing alive is in the list.
    pub fn is_free(&self) -> bool {
        self.damage().is_none() && self.live() == 0
    }

    /// How many live tasks are in the list.
    pub fn live(&self) -> usize {
        self.tasks.iter().filter(|task| task.is_alive()).count()
    }

    /// Why nobody may be given the list though nobody holds it.
    pub fn damage(&self) -> Option<&str> {
        match &self.file {
            TasksFile::Damaged { cause, .. } if self.live() == 0 => Some(cause),
            _ => None,
        }
    }

    /// The process ids that belong into `tasks`: those of the living.
    pub fn living(&self) -> Vec<Pid> {
        self.tasks.iter().filter(|task| task.is_alive()).map(|task| task.pid).collect()
    }
}

/// Parses a `tasks` file: process ids separated by commas, blanks or newlines, empty fields
/// allowed; of one that is there twice, the first counts. The error is the first word that is no
/// process id, beside all that are.
pub fn parse_tasks(text: &str) -> Result<Vec<Pid>, (BadPid, Vec<Pid>)> {
    let (mut pids, mut seen, mut bad) = (Vec::new(), HashSet::new(), None);
    let words = text.split(|c: char| c == ',' || c.is_ascii_whitespace());
    for word in words.filter(|word| !word.is_empty()) {
        match word.parse() {
            Ok(pid) if seen.insert(pid) => pids.push(pid),
            Ok(_) => {}
            Err(error) => bad = bad.or(Some(error)),
        }
    }
    match bad {
        None => Ok(pids),
        Some(bad) => Err((bad, pids)),
    }
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
            ("5,12,5,5,12", vec![5, 12]),
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
            assert_eq!(parse_tasks(text).map_err(|(bad, _)| bad), Err(BadPid(word.into())));
        }
        let (_, rest) = parse_tasks("7,x,8,y").unwrap_err();
        assert_eq!(rest, pids(&[7, 8]));
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
