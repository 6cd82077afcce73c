//! What `kcm doctor` finds.

use std::process::Command;

use kcm_tests::kcm::{Outcome, kcm, run};
use serde_json::Value;

/// What a check found: its status, what it says, and what to do.
#[derive(Debug)]
pub(crate) struct Finding {
    pub(crate) status: String,
    pub(crate) message: String,
    pub(crate) remedy: Option<String>,
}

/// All findings of a run by check, and that its exit status is theirs.
pub(crate) struct Findings(pub(crate) Vec<(String, Finding)>);

impl Findings {
    #[track_caller]
    pub(crate) fn of(outcome: &Outcome) -> Self {
        let all: Vec<Value> = serde_json::from_str(&outcome.out).expect(&outcome.err);
        let text = |finding: &Value, key: &str| finding[key].as_str().map(str::to_owned);
        let findings = all.iter().map(|finding| {
            let status = text(finding, "status").unwrap();
            let (message, remedy) = (text(finding, "message").unwrap(), text(finding, "remedy"));
            assert_eq!(remedy.is_none(), status == "ok", "{finding}");
            (text(finding, "check").unwrap(), Finding { status, message, remedy })
        });
        let findings: Vec<_> = findings.collect();
        let has_failed = findings.iter().any(|(_, finding)| finding.status == "fail");
        assert_eq!(outcome.code, Some(if has_failed { 1 } else { 0 }), "{outcome:?}");
        Self(findings)
    }

    #[track_caller]
    pub(crate) fn get(&self, check: &str) -> &Finding {
        let found = self.0.iter().find(|(name, _)| name == check);
        &found.unwrap_or_else(|| panic!("there is no check {check}")).1
    }

    /// Fails the test unless a check ended so, and says this.
    #[track_caller]
    pub(crate) fn is(&self, check: &str, status: &str, part: &str) {
        let found = self.get(check);
        assert_eq!(found.status, status, "{check}: {found:?}");
        let remedy = found.remedy.clone().unwrap_or_default();
        assert!(format!("{} {remedy}", found.message).contains(part), "{check}: {found:?}");
    }
}

/// `kcm doctor` with these flags.
pub(crate) fn command(flags: &[&str]) -> Command {
    let mut command = kcm();
    command.args(["doctor", "--output=json"]).args(flags).env("KCM_LOCK_TIMEOUT", "0.3");
    command
}

/// What it finds.
#[track_caller]
pub(crate) fn doctor(flags: &[&str]) -> Findings {
    Findings::of(&run(&mut command(flags)))
}
