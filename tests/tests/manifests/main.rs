//! What is in `packaging/kubernetes` and `examples/pods`: real kubectl builds it, the schemas of
//! Kubernetes allow it, its parts fit together, and its policies accept and refuse what they are to.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods, missing_docs)]

mod agree;
mod cases;
mod defaults;
mod fit;
mod least;
mod needed;
mod overlay;
mod own_node;
mod pods;
mod readme;
mod rights;
mod running_cases;
mod schemas;
mod values;
