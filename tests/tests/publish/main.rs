//! `--publish` of `kcm node-report` and `kcm reconcile`, the built program, against the test double
//! of the API server.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods, missing_docs)]

mod cluster;
mod definitions;
mod documents;
mod failures;
mod interval;
