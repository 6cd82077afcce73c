//! Results, on standard output.

pub(crate) mod diff;
pub(crate) mod json;
