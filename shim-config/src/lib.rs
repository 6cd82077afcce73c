//! What makes a container engine call `kcm-hook`: typed rendering, no IO.
//!
//! Today: the `hooks.d` file of CRI-O and podman ([`hooks_d`]). This is no containerd shim; the
//! README of this crate says what it is.

pub mod hooks_d;
