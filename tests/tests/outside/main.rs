//! What comes from outside: files that are none, and text that is to look like something else. Runs
//! as root; the tests of the hook need cgroups.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods, missing_docs)]

mod regular;
mod text;
