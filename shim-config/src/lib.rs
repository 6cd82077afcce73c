//! What makes a container engine call `kcm-hook`: typed rendering and editing, no IO.
//!
//! The `hooks.d` file of CRI-O and podman ([`hooks_d`]), where they look for it ([`hooks_dirs`]),
//! containerd's runtime handler ([`containerd`]) and the base spec that it names ([`base_spec`]).
//! This is no containerd shim; the README of this crate says what it is.

pub mod base_spec;
pub mod containerd;
pub mod hook;
pub mod hooks_d;
pub mod hooks_dirs;
mod toml;

/// The first line of a TOML file that is ours alone.
pub const MADE_BY: &str = "# Made by kcm install.\n";

/// Why something cannot be rendered or edited. What was given stays as it is.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The hook itself.
    #[error("cannot render the hook: {0}")]
    Hook(String),
    /// A text does not parse.
    #[error("it does not parse: {0}")]
    Syntax(String),
    /// A text parses, and is not what it should be.
    #[error("{0}")]
    Content(String),
}
