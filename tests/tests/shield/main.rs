//! `kcm shield`, the built program, on made-up machines: what is one file of the kernel's. Units and
//! threads are for the guest with systemd (`shield_systemd`).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods, missing_docs)]

mod killed;
mod machine;
mod refused;
mod round;
