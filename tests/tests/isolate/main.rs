//! `kcm isolate`, the built program: real commands, terminals and containers.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods, missing_docs)]

mod arguments;
mod at_once;
mod blind;
mod confined;
mod cpus;
mod dead_holders;
mod descendants;
mod inside;
mod mask;
mod no_shell;
mod outcomes;
mod pty;
mod realtime;
mod refusals;
mod signals;
mod usage;
mod watch;
