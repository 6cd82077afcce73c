//! `kcm cluster-init` against the double of the API server: what it makes, in what order, what it
//! waits for, and how it tells that something went wrong.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods, missing_docs)]

mod bad_pods;
mod cluster;
mod faults;
mod golden;
mod hosts;
mod interrupted;
mod objects;
mod operator;
mod refused;
mod reuse;
mod screen;
mod table;
mod terminal;
mod validity;
mod waiting;
