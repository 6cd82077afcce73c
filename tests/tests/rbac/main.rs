//! The rights of kcm's service account: what its commands call, and nothing more.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods, missing_docs)]

mod account;
mod commands;
mod least;
mod manifest;
