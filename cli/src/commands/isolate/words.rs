//! What to execute: words as they are, or a line of shell.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::process::Command;

const SHELL: &str = "/bin/sh";

/// A record is for people, and must stay a small file.
const MAX_RECORDED: usize = 4096;

/// The words of a command, at least one.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Words(Vec<OsString>);

impl Words {
    /// COMMAND and its arguments; without COMMAND, the first argument is it. One word alone that a
    /// shell would see more in than a word is a line of shell.
    pub(super) fn new(command: Option<OsString>, args: Vec<OsString>) -> Self {
        let words: Vec<OsString> = command.into_iter().chain(args).collect();
        match &words[..] {
            [line] if !line.as_bytes().iter().copied().all(is_plain) || line.is_empty() => {
                Self(vec![SHELL.into(), "-c".into(), line.clone()])
            }
            _ => Self(words),
        }
    }

    /// What is executed, for messages.
    pub(super) fn program(&self) -> &OsStr {
        self.0.first().map_or(OsStr::new(""), OsString::as_os_str)
    }

    /// To be executed, with no shell of ours in between.
    pub(super) fn command(&self) -> Command {
        let mut command = Command::new(self.program());
        command.args(self.0.iter().skip(1));
        command
    }

    /// The words for the allocation record, as text, and cut where they are very long.
    pub(super) fn for_the_record(&self) -> Vec<String> {
        let mut left = MAX_RECORDED;
        let mut recorded = Vec::new();
        for word in &self.0 {
            let word = word.to_string_lossy();
            let kept: String = word.chars().take(left).collect();
            let is_whole = kept.len() == word.len();
            left = left.saturating_sub(kept.chars().count() + 1);
            recorded.push(if is_whole { kept } else { kept + "…" });
            if left == 0 {
                break;
            }
        }
        recorded
    }
}

/// What the shell takes as it is, wherever it stands in a word (as `shlex.quote` of Python's library
/// has it).
fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"_@%+=:,./-".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(command: Option<&str>, args: &[&str]) -> Vec<String> {
        let args = args.iter().map(OsString::from).collect();
        Words::new(command.map(OsString::from), args).for_the_record()
    }

    #[test]
    fn only_a_single_word_that_is_more_to_a_shell_is_run_by_one() {
        assert_eq!(words(Some("/bin/a-b_c.d"), &[]), ["/bin/a-b_c.d"]);
        assert_eq!(words(Some("env | grep KCM"), &[]), ["/bin/sh", "-c", "env | grep KCM"]);
        assert_eq!(words(None, &["a;b"]), ["/bin/sh", "-c", "a;b"]);
        assert_eq!(words(Some(""), &[]), ["/bin/sh", "-c", ""]);
        assert_eq!(words(Some("a b"), &["-c", "x && y", ""]), ["a b", "-c", "x && y", ""]);
        assert_eq!(words(None, &["echo", "-n", "a b"]), ["echo", "-n", "a b"]);
    }

    #[test]
    fn a_record_of_a_huge_command_line_stays_small() {
        let long = "ä".repeat(MAX_RECORDED);
        let recorded = words(Some("x"), &[&long, &long, "y"]);
        assert_eq!(recorded.len(), 2);
        assert_eq!(recorded[1].chars().count(), MAX_RECORDED - 1);
        assert!(recorded[1].ends_with("ä…"));
    }
}
