//! Results as JSON: an indent of 2, a final newline. Keys are sorted because types name their
//! fields in that order.

use std::io::{ErrorKind, Write};

use anyhow::Context;
use serde::Serialize;

/// Prints a result. A reader that has seen enough (`kcm describe | head -1`) is no error.
pub(crate) fn print(result: &impl Serialize) -> anyhow::Result<()> {
    let mut text = serde_json::to_vec_pretty(result).context("cannot print the result as JSON")?;
    text.push(b'\n');
    let mut out = std::io::stdout().lock();
    match out.write_all(&text).and_then(|()| out.flush()) {
        Err(e) if e.kind() == ErrorKind::BrokenPipe => Ok(()),
        written => written.context("cannot write to standard output"),
    }
}
