//! The harness: built programs, configuration directories, containers of real runtimes, stand-ins.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods)]

pub mod admission;
pub mod api_server;
pub mod audit;
pub mod bundle;
pub mod conf_dir;
pub mod container;
pub mod crash;
pub mod cri;
pub mod hook;
pub mod isolate;
pub mod kcm;
pub mod log;
pub mod machine;
pub mod mount;
pub mod node;
pub mod own_place;
pub mod podman;
pub mod power;
pub mod programs;
pub mod runtime;
pub mod scenario;
pub mod stand_in;
pub mod strace;
pub mod tree;
