//! `kcm install` and `kcm uninstall`, the built program: what they write on a node, and that they
//! write all of it or nothing.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods, missing_docs)]

mod containerd;
mod default_pool;
mod hooks_d;
mod places;
mod programs;
mod undisturbed;

use std::collections::BTreeMap;
use std::path::PathBuf;

use kcm_tests::node::{File, Node};

/// The files that are new, changed or gone since, by path.
fn changed(before: &BTreeMap<PathBuf, File>, node: &Node) -> Vec<String> {
    let after = node.files();
    let paths = before.keys().chain(after.keys());
    let mut paths: Vec<&PathBuf> =
        paths.filter(|path| before.get(*path) != after.get(*path)).collect();
    paths.sort();
    paths.dedup();
    paths.into_iter().map(|path| path.to_str().unwrap().to_owned()).collect()
}

/// The only ERROR line of what failed.
#[track_caller]
fn error(outcome: &kcm_tests::kcm::Outcome) -> String {
    assert_eq!(outcome.code, Some(1), "{outcome:?}");
    let lines = outcome.lines("ERROR");
    assert_eq!(lines.len(), 1, "{outcome:?}");
    lines[0].to_owned()
}
