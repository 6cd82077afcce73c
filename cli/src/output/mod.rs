//! Results, on standard output.

pub(crate) mod json;
