//! Changes of files, as a unified diff.

use std::io::Write;

use anyhow::Context;
use kcm_core::host::files::Change;
use similar::TextDiff;

/// Prints what would change in each file, in the order in which it would.
pub(crate) fn print(changes: &[Change]) -> anyhow::Result<()> {
    let text: String = changes.iter().map(render).collect();
    std::io::stdout().write_all(text.as_bytes()).context("cannot write to standard output")
}

fn render(change: &Change) -> String {
    let path = change.path().display();
    let names = |content: Option<&[u8]>| match content {
        Some(_) => path.to_string(),
        None => "/dev/null".to_owned(),
    };
    let (old, new) = (names(change.before()), names(change.after()));
    match [change.before(), change.after()].map(text) {
        [Some(before), Some(after)] if before == after => format!("{path}: other permissions\n"),
        [Some(before), Some(after)] => {
            let lines = TextDiff::from_lines(before, after);
            lines.unified_diff().header(&old, &new).to_string()
        }
        _ => format!("Binary files {old} and {new} differ\n"),
    }
}

fn text(content: Option<&[u8]>) -> Option<&str> {
    std::str::from_utf8(content.unwrap_or_default()).ok()
}
