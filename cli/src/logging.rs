//! The log: lines `LEVEL message` on standard error. Standard output carries only results.

use std::io::Write;

use kcm_core::log_level;
use kcm_core::notice::{self, Notice};
use kcm_core::text;
use log::{Level, LevelFilter, Log, Metadata, Record};

struct StandardError;

/// Logs by the level of `KCM_LOG_LEVEL` from here on.
pub(crate) fn init() -> anyhow::Result<()> {
    log::set_max_level(log_level::from_environment()?);
    // Only a second logger could be refused.
    let _ = log::set_logger(&StandardError);
    Ok(())
}

/// Prints why the command fails, whatever the level, on one line.
pub(crate) fn failure(error: &anyhow::Error) {
    print(Level::Error, &format!("{error:#}"));
}

/// Logs what the core has to say.
pub(crate) fn notices(notices: impl IntoIterator<Item = Notice>) {
    for Notice { level, text, .. } in notices {
        match level {
            notice::Level::Info => log::info!("{text}"),
            notice::Level::Warning => log::warn!("{text}"),
        }
    }
}

fn print(level: Level, text: &str) {
    let line = format!("{} {}\n", log_level::name(level), one_line(text));
    // Where nobody listens any more, there is nobody to tell.
    let _ = std::io::stderr().write_all(line.as_bytes());
}

/// Bytes of a line, whatever was put into it: twice the longest path.
const LINE: usize = 8 << 10;

/// The text on one line: a name in it must not look like another line, nor move a cursor.
pub(crate) fn one_line(text: &str) -> String {
    text::one_line(text, LINE)
}

/// Whether it is said by kcm itself, and not by a library.
fn is_ours(metadata: &Metadata<'_>) -> bool {
    metadata.target().starts_with("kcm")
}

impl Log for StandardError {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        let limit = log::max_level();
        metadata.level() <= limit && (is_ours(metadata) || limit >= LevelFilter::Debug)
    }

    fn log(&self, record: &Record<'_>) {
        if self.enabled(record.metadata()) {
            // What a library thinks an error may be none: kcm may try again.
            let level = if is_ours(record.metadata()) { record.level() } else { Level::Debug };
            print(level, &record.args().to_string());
        }
    }

    fn flush(&self) {}
}
