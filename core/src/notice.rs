//! What a person should hear of, gathered while the lock is held and logged after it.

/// One line for the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// How urgent it is.
    pub level: Level,
    /// One line, without a final newline.
    pub text: String,
    /// Names other tenants' containers: for the node's log alone, never for whoever asked.
    pub confidential: bool,
}

/// How urgent a [`Notice`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// For following what happened.
    Info,
    /// Something that a person should look into some day.
    Warning,
}

impl Notice {
    /// Something to follow.
    pub fn info(text: impl Into<String>) -> Self {
        Self { level: Level::Info, text: text.into(), confidential: false }
    }

    /// Something to look into.
    pub fn warning(text: impl Into<String>) -> Self {
        Self { level: Level::Warning, text: text.into(), confidential: false }
    }

    /// Something to look into, that names other tenants' containers.
    pub fn confidential(text: impl Into<String>) -> Self {
        Self { level: Level::Warning, text: text.into(), confidential: true }
    }
}
