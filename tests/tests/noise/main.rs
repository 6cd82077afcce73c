//! `kcm noise`, the built program, on the real kernel.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods, missing_docs)]

mod forms;
mod load;
mod losses;
mod measuring;
mod refusals;
mod untraced;
mod watching;
