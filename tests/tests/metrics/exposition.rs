//! What is printed, as Prometheus reads it.

use std::io::Write;
use std::process::{Command, Stdio};

use super::agent::{Agent, command};
use super::alerts::has_promtool;
use super::holders::{drift, holder, pool};

#[test]
fn promtool_has_nothing_to_say_against_the_metrics() {
    if !has_promtool() {
        return;
    }
    let conf = pool(&["0", "1", "0-1"]);
    let wide = holder(&conf, "wide");
    let mut dead = holder(&conf, "dead");
    dead.kill();
    for words in [&["reconcile", "--repair"][..], &["node-report"]] {
        drift(&wide, "0-1");
        let metrics = Agent::start(&mut command(&conf, words)).next_round();
        let mut promtool = Command::new("promtool");
        promtool.args(["check", "metrics"]).stdin(Stdio::piped());
        let mut promtool = promtool.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        promtool.stdin.take().unwrap().write_all(metrics.0.as_bytes()).unwrap();
        let output = promtool.wait_with_output().unwrap();
        let said = [output.stdout, output.stderr].concat();
        assert_eq!((output.status.code(), &*String::from_utf8(said).unwrap()), (Some(0), ""));
    }
}

#[test]
fn names_and_types_are_those_of_the_documentation() {
    let conf = pool(&["0"]);
    let _holder = holder(&conf, "holder");
    let metrics = Agent::reconcile(&conf).next_round();
    let types = metrics.0.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    let mut types: Vec<&str> = types.collect();
    types.sort_unstable();
    assert_eq!(
        types,
        [
            "kcm_allocation_age_seconds gauge",
            "kcm_build_info gauge",
            "kcm_cpu_lists gauge",
            "kcm_cpus gauge",
            "kcm_guards gauge",
            "kcm_last_successful_round_timestamp_seconds gauge",
            "kcm_lost_partitions gauge",
            "kcm_mismatched_cpu_masks gauge",
            "kcm_mismatched_cpu_masks_total counter",
            "kcm_pools_not_shown gauge",
            "kcm_reclaimed_cpu_lists_total counter",
            "kcm_repairs_total counter",
            "kcm_round_duration_seconds histogram",
            "kcm_round_interval_seconds gauge",
            "kcm_rounds_total counter",
            "kcm_tasks gauge",
            "kcm_unguarded gauge",
        ]
    );
    let documented = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/cli.md");
    let documented = std::fs::read_to_string(documented).unwrap();
    for name in types.iter().map(|line| line.split(' ').next().unwrap()) {
        assert!(documented.contains(&format!("| `{name}")), "docs/cli.md does not tell of {name}");
    }
    let version = format!("kcm_build_info{{version=\"{}\"}}", env!("CARGO_PKG_VERSION"));
    metrics.must_say(&[(&version, 1.0)]);
    let count = metrics.get("kcm_round_duration_seconds_count").unwrap();
    assert_eq!(count, metrics.rounds());
}
