//! The alert rules of packaging/prometheus, as Prometheus itself judges them.

use std::path::Path;
use std::process::Command;

use kcm_tests::machine::skip;

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../packaging/prometheus");

/// Whether Prometheus' own checker is here; else the test is skipped.
pub(crate) fn has_promtool() -> bool {
    let is_here = Command::new("promtool").arg("--version").output().is_ok();
    if !is_here {
        skip("promtool is not installed (Debian's prometheus)");
    }
    is_here
}

/// Runs promtool on the rules; gives what it says.
#[track_caller]
fn promtool(words: &[&str]) -> String {
    let output = Command::new("promtool").args(words).current_dir(FOLDER).output().unwrap();
    let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    assert!(output.status.success(), "promtool {words:?}: {said}");
    said
}

#[test]
fn the_rules_are_well_formed() {
    if has_promtool() {
        promtool(&["check", "rules", "--lint-fatal", "kcm-alerts.yaml"]);
    }
}

#[test]
fn each_alert_fires_when_it_should_and_only_then() {
    if has_promtool() {
        let said = promtool(&["test", "rules", "kcm-alerts.test.yaml"]);
        assert!(said.contains("SUCCESS"), "{said}");
    }
}

#[test]
fn each_alert_has_a_case_in_which_it_fires_and_says_what_to_do() {
    let read = |name: &str| std::fs::read_to_string(Path::new(FOLDER).join(name)).unwrap();
    let (rules, cases) = (read("kcm-alerts.yaml"), read("kcm-alerts.test.yaml"));
    let rules: serde_json::Value = serde_saphyr::from_str(&rules).unwrap();
    let groups = rules["groups"].as_array().unwrap();
    let alerts: Vec<&serde_json::Value> =
        groups.iter().flat_map(|group| group["rules"].as_array().unwrap()).collect();
    let mut names: Vec<&str> = alerts.iter().map(|rule| rule["alert"].as_str().unwrap()).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(
        names,
        [
            "KcmAgentSilent",
            "KcmLeak",
            "KcmLostPartition",
            "KcmMismatch",
            "KcmPoolNearlyFull",
            "KcmUnguarded",
        ]
    );
    for alert in alerts {
        let summary = alert["annotations"]["summary"].as_str().unwrap();
        let text = alert["annotations"]["description"].as_str().unwrap();
        assert!(text.len() > 100, "{text}");
        // The part of the summary before its first value.
        let begin = summary.split("{{").next().unwrap();
        assert!(cases.contains(begin), "no case has {summary:?}");
        let severity = alert["labels"]["severity"].as_str().unwrap();
        assert!(["warning", "critical"].contains(&severity), "{alert}");
    }
}
