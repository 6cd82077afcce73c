//! `kcm init`, the built program, on made-up machines and on the one that runs the tests.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods, missing_docs)]

mod at_once;
mod full_disk;
mod isolation;
mod killed;
mod machine;
mod partition;
mod pools;
mod rerun;
mod this_machine;
mod tmpfs;
mod tree;
mod usage;
mod where_it_goes;
