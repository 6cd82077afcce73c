//! Directories that the original kcm made, with its processes in them: read, used, reconciled, and
//! left as the original reads them, since both may share a node during a migration.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods, missing_docs)]

#[path = "init/machine.rs"]
#[allow(dead_code)] // a part of what makes a machine is enough here
mod machine;
#[path = "original_directories/original.rs"]
mod original;
#[path = "original_directories/read.rs"]
mod read;
#[path = "original_directories/reconciled.rs"]
mod reconciled;
#[path = "original_directories/used.rs"]
mod used;
