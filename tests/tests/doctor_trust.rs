//! What `kcm doctor` and the other commands say of who holds what: of directories that are not to be
//! believed, of holders that are not what they should be, and of who may write. Each remedy is
//! followed to the letter.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods, missing_docs)]

#[path = "doctor/findings.rs"]
mod findings;
#[path = "doctor/holders.rs"]
mod holders;
#[path = "doctor/look.rs"]
mod look;
#[path = "doctor/mounts.rs"]
mod mounts;
#[path = "doctor/owner.rs"]
mod owner;
#[path = "doctor/records.rs"]
mod records;
#[path = "doctor/refused.rs"]
mod refused;
