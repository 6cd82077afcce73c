//! `kcm reconcile`, the built program: what the dead hold comes back, what the living hold stays,
//! and containers that are no longer on their CPUs are reported, and put back if asked for.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods, missing_docs)]

mod blind;
mod dead;
mod document;
mod elders;
mod garbage;
mod holders;
mod interval;
mod living;
mod mismatch;
mod orphans;
mod race;
mod records;
mod refused;
mod repair;
mod threads;
mod traced;
mod usage;
