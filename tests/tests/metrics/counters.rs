//! What this process has done: counted once, and never forgotten.

use std::fs;
use std::time::SystemTime;

use kcm_tests::conf_dir::ConfDir;
use kcm_tests::machine::{cgroup_file, until};

use super::agent::{Agent, Metrics, command};
use super::holders::{drift, holder, pool, write_tasks};

const RECLAIMED: &str = "kcm_reclaimed_cpu_lists_total{pool=\"p\"}";
const MISMATCHED: &str = "kcm_mismatched_cpu_masks{pool=\"p\"}";
const MISMATCHED_EVER: &str = "kcm_mismatched_cpu_masks_total{pool=\"p\"}";
const REPAIRED: &str = "kcm_repairs_total{pool=\"p\",result=\"repaired\"}";
const NOT_REPAIRED: &str = "kcm_repairs_total{pool=\"p\",result=\"failed\"}";

/// A PID that no process ever has (proc_sys_kernel(5), pid_max).
const NOBODY: i32 = 4_194_305;

fn rising(agent: &Agent, series: &str, at_least: f64) -> Metrics {
    until(series, || {
        Some(agent.metrics()).filter(|m| m.get(series).is_some_and(|value| value >= at_least))
    })
}

#[test]
fn a_dead_holder_is_counted_once_however_many_rounds_follow() {
    let conf = ConfDir::new(&[("p", true, &["0", "1"]), ("q", true, &["0"])]);
    let mut dead = holder(&conf, "dead");
    let agent = Agent::reconcile(&conf);
    agent.next_round().must_say(&[
        (RECLAIMED, 0.0),
        ("kcm_reclaimed_cpu_lists_total{pool=\"q\"}", 0.0),
        ("kcm_cpu_lists{pool=\"p\",exclusive=\"true\",state=\"held\"}", 1.0),
    ]);
    dead.kill();
    for _ in 0..2 {
        agent.next_round().must_say(&[
            (RECLAIMED, 1.0),
            ("kcm_reclaimed_cpu_lists_total{pool=\"q\"}", 0.0),
            ("kcm_cpu_lists{pool=\"p\",exclusive=\"true\",state=\"held\"}", 0.0),
        ]);
    }
    write_tasks(&conf, "p", "0", &[NOBODY]);
    write_tasks(&conf, "p", "1", &[NOBODY + 1]);
    agent.next_round().must_say(&[(RECLAIMED, 3.0)]);
}

#[test]
fn a_mismatch_is_told_of_the_last_round_and_added_up_over_all() {
    let conf = pool(&["0", "1"]);
    let [wide, _other] = ["wide", "other"].map(|role| holder(&conf, role));
    let agent = Agent::reconcile(&conf);
    agent.next_round().must_say(&[(MISMATCHED, 0.0), (MISMATCHED_EVER, 0.0)]);
    drift(&wide, "0-1");
    agent.next_round().must_say(&[(MISMATCHED, 1.0)]);
    let metrics = rising(&agent, MISMATCHED_EVER, 3.0);
    metrics.must_say(&[(MISMATCHED, 1.0), (REPAIRED, 0.0), (NOT_REPAIRED, 0.0)]);
    drift(&wide, "0");
    let metrics = agent.next_round();
    metrics.must_say(&[(MISMATCHED, 0.0)]);
    assert!(metrics.get(MISMATCHED_EVER).unwrap() >= 3.0, "{}", metrics.0);
}

#[test]
fn a_repair_is_counted_by_how_it_went() {
    let conf = pool(&["0", "1"]);
    let wide = holder(&conf, "wide");
    // Its record names a cgroup that is no more.
    let host = holder(&conf, "host");
    conf.edit(host.id(), &[("cgroupInode", 1.into())]);
    let agent = Agent::start(&mut command(&conf, &["reconcile", "--repair"]));
    agent.next_round().must_say(&[(REPAIRED, 0.0), (NOT_REPAIRED, 0.0)]);
    // Not looked at once more, since it may have been put right by then.
    fs::write(cgroup_file(&wide.cgroup().path(), "cpuset.cpus"), "0-1").unwrap();
    for _ in 0..2 {
        agent.next_round().must_say(&[
            (REPAIRED, 1.0),
            (NOT_REPAIRED, 0.0),
            (MISMATCHED, 0.0),
            (MISMATCHED_EVER, 1.0),
        ]);
    }
    drift(&host, "0-1");
    rising(&agent, NOT_REPAIRED, 2.0).must_say(&[(REPAIRED, 1.0), (MISMATCHED, 1.0)]);
}

#[test]
fn a_round_that_fails_resets_no_counter_and_hides_no_pool() {
    let conf = pool(&["0", "1"]);
    write_tasks(&conf, "p", "0", &[NOBODY]);
    let agent = Agent::reconcile(&conf);
    let _holder = holder(&conf, "holder");
    let before = agent.next_round();
    before.must_say(&[(RECLAIMED, 1.0), ("kcm_rounds_total{result=\"failed\"}", 0.0)]);
    let success = "kcm_last_successful_round_timestamp_seconds";
    let at = before.get(success).unwrap();
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs_f64();
    assert!((now - 600.0..=now).contains(&at), "{at}");

    let aside = conf.path().with_file_name("aside");
    fs::rename(conf.path(), &aside).unwrap();
    let failing = rising(&agent, "kcm_rounds_total{result=\"failed\"}", 2.0);
    let held = "kcm_cpu_lists{pool=\"p\",exclusive=\"true\",state=\"held\"}";
    failing.must_say(&[(RECLAIMED, 1.0), (held, 1.0)]);
    let last = failing.get(success).unwrap();
    assert!(last >= at);
    assert_eq!(agent.next_round().get(success), Some(last));

    fs::rename(&aside, conf.path()).unwrap();
    write_tasks(&conf, "p", "1", &[NOBODY]);
    let after = rising(&agent, RECLAIMED, 2.0);
    after.must_say(&[(RECLAIMED, 2.0), (held, 1.0)]);
    assert!(agent.next_round().get(success).unwrap() > last);
}

#[test]
fn a_command_that_reclaims_nothing_has_no_counter_of_it() {
    let conf = pool(&["0"]);
    let agent = Agent::start(&mut command(&conf, &["node-report"]));
    let metrics = agent.next_round();
    for series in [RECLAIMED, MISMATCHED, MISMATCHED_EVER, REPAIRED, NOT_REPAIRED] {
        assert_eq!(metrics.get(series), None, "{series}");
    }
}
