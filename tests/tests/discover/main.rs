//! `kcm discover`, the built program, against the test double of the API server.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods, missing_docs)]

mod advertise;
mod conflicts;
mod endless;
mod failures;
mod interval;
mod node;
mod remove;
mod way_in;
