//! How much is logged: `KCM_LOG_LEVEL`, by the names that the original kcm used.

use log::{Level, LevelFilter};

/// A value of `KCM_LOG_LEVEL` that is no level.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("KCM_LOG_LEVEL is {0:?}: give CRITICAL, ERROR, WARNING, INFO or DEBUG")]
pub struct BadLevel(String);

/// The level that `KCM_LOG_LEVEL` asks for; INFO where it is unset.
pub fn from_environment() -> Result<LevelFilter, BadLevel> {
    match std::env::var_os("KCM_LOG_LEVEL") {
        None => Ok(LevelFilter::Info),
        Some(value) => parse(&value.to_string_lossy()),
    }
}

/// Nothing of kcm's is CRITICAL: that level silences all but the error that ends a command.
fn parse(text: &str) -> Result<LevelFilter, BadLevel> {
    match text.to_ascii_uppercase().as_str() {
        "CRITICAL" => Ok(LevelFilter::Off),
        "ERROR" => Ok(LevelFilter::Error),
        "WARNING" => Ok(LevelFilter::Warn),
        "INFO" => Ok(LevelFilter::Info),
        "DEBUG" => Ok(LevelFilter::Debug),
        _ => Err(BadLevel(crate::pool::shorten(text))),
    }
}

/// A level's name in the log.
pub fn name(level: Level) -> &'static str {
    match level {
        Level::Error => "ERROR",
        Level::Warn => "WARNING",
        Level::Info => "INFO",
        Level::Debug | Level::Trace => "DEBUG",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_named_in_any_case() {
        assert_eq!(parse("warning"), Ok(LevelFilter::Warn));
        assert_eq!(parse("Debug"), Ok(LevelFilter::Debug));
        assert_eq!(parse("CRITICAL"), Ok(LevelFilter::Off));
        let error = parse("loud").unwrap_err().to_string();
        assert!(error.contains("\"loud\"") && error.contains("CRITICAL, ERROR"), "{error}");
    }
}
