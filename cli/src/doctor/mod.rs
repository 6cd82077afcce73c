//! What may be wrong with a node, from the kernel to the engines: one function a check.

mod engines;
mod holders;
mod isolation;
mod kernel;
mod neighbours;
mod pools;
mod shield;
mod trust;

use std::path::PathBuf;

use kcm_core::state::ConfDir;
use serde::Serialize;

use crate::engines::Engine;
use crate::guards;
use crate::machine::Machine;

/// What is looked at.
pub(crate) struct Subject {
    pub(crate) machine: Machine,
    pub(crate) conf: ConfDir,
    pub(crate) kcm: PathBuf,
    pub(crate) hook: PathBuf,
    /// Those that have to call the hook; none: whichever are there.
    pub(crate) engines: Vec<Engine>,
}

impl Subject {
    /// A command of kcm's for the directory that is looked at, to be typed as it is.
    fn command(&self, words: &str) -> String {
        guards::command(self.conf.path(), words)
    }
}

/// How a check ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Status {
    Ok,
    Warn,
    Fail,
}

/// What a check found.
#[derive(Debug, Serialize)]
pub(crate) struct Finding {
    pub(crate) check: String,
    pub(crate) message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) remedy: Option<String>,
    pub(crate) status: Status,
}

impl Finding {
    fn ok(check: &str, message: impl Into<String>) -> Self {
        Self { check: check.into(), message: message.into(), remedy: None, status: Status::Ok }
    }

    fn warn(check: &str, message: impl Into<String>, remedy: impl Into<String>) -> Self {
        let remedy = Some(remedy.into());
        Self { remedy, status: Status::Warn, ..Self::ok(check, message) }
    }

    fn fail(check: &str, message: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { status: Status::Fail, ..Self::warn(check, message, remedy) }
    }
}

/// All checks, in the order in which one needs the other.
pub(crate) fn examine(subject: &Subject) -> Vec<Finding> {
    let mut findings = vec![kernel::cgroups(subject), kernel::procfs(subject)];
    let directory = pools::directory(subject);
    let is_there = directory.iter().any(|finding| finding.check == "lock");
    findings.extend(directory);
    if is_there {
        findings.push(trust::owner(subject));
        findings.push(trust::mounts(subject));
        findings.extend(holders::all(subject));
    }
    findings.extend(isolation::all(subject));
    findings.extend(shield::shield(subject));
    findings.push(engines::program("kcm", &subject.kcm));
    findings.push(engines::program("kcm-hook", &subject.hook));
    findings.extend(engines::all(subject));
    findings.push(kernel::kubelet());
    findings.extend(kernel::reserved(&pools::exclusive(subject)));
    findings.extend(neighbours::all(subject));
    findings
}
