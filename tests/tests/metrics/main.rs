//! `--metrics-addr`, the built program: what `/metrics` says of real directories and processes, when
//! `/healthz` fails, what no client can do, and the alert rules that go with it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods, missing_docs)]

mod agent;
mod alerts;
mod clients;
mod counters;
mod exposition;
mod guards;
mod health;
#[path = "../reconcile/holders.rs"]
#[allow(dead_code)] // reconcile's own tests use all of it
mod holders;
mod http;
mod many;
mod pools;
mod usage;
