//! Pools: how much of each is free and held, by whom, and for how long.

use std::fs;
use std::time::SystemTime;

use kcm_tests::conf_dir::ConfDir;
use kcm_tests::machine::until;

use super::agent::{Agent, command};
use super::holders::{Process, container, give, holder, write_tasks};

#[test]
fn lists_cpus_and_tasks_are_counted_by_pool_and_state() {
    let conf = ConfDir::new(&[
        ("p", true, &["0", "1", "0-1"]),
        ("shared", false, &["0-1"]),
        ("none-left", true, &[]),
    ]);
    let two = container("two");
    give(&conf, &two, 2);
    let sharing = [Process::sleeping(), Process::sleeping()];
    write_tasks(&conf, "shared", "0-1", &[sharing[0].pid(), sharing[1].pid()]);
    for words in [&["reconcile"], &["node-report"]] {
        let agent = Agent::start(&mut command(&conf, words));
        agent.next_round().must_say(&[
            // Lists are given by their lowest CPU: 0 and 0-1.
            ("kcm_cpu_lists{pool=\"p\",exclusive=\"true\",state=\"held\"}", 2.0),
            ("kcm_cpu_lists{pool=\"p\",exclusive=\"true\",state=\"free\"}", 1.0),
            ("kcm_cpus{pool=\"p\",exclusive=\"true\",state=\"held\"}", 3.0),
            ("kcm_cpus{pool=\"p\",exclusive=\"true\",state=\"free\"}", 1.0),
            ("kcm_tasks{pool=\"p\"}", 1.0),
            ("kcm_cpu_lists{pool=\"shared\",exclusive=\"false\",state=\"held\"}", 1.0),
            ("kcm_cpu_lists{pool=\"shared\",exclusive=\"false\",state=\"free\"}", 0.0),
            ("kcm_tasks{pool=\"shared\"}", 2.0),
            ("kcm_cpu_lists{pool=\"none-left\",exclusive=\"true\",state=\"held\"}", 0.0),
            ("kcm_cpu_lists{pool=\"none-left\",exclusive=\"true\",state=\"free\"}", 0.0),
            ("kcm_tasks{pool=\"none-left\"}", 0.0),
        ]);
    }
}

#[test]
fn a_list_that_nobody_is_given_since_its_tasks_is_malformed_is_not_free() {
    let conf = ConfDir::new(&[("p", true, &["0", "1"])]);
    fs::write(conf.tasks_path("p", "0"), "x").unwrap();
    // What only looks finds it out of use; what mends it has it free again.
    for (words, held) in [("node-report", 1.0), ("reconcile", 0.0)] {
        Agent::start(&mut command(&conf, &[words])).next_round().must_say(&[
            ("kcm_cpu_lists{pool=\"p\",exclusive=\"true\",state=\"held\"}", held),
            ("kcm_cpu_lists{pool=\"p\",exclusive=\"true\",state=\"free\"}", 2.0 - held),
            ("kcm_tasks{pool=\"p\"}", 0.0),
        ]);
    }
}

#[test]
fn the_age_is_that_of_the_oldest_record_and_absent_where_nobody_has_one() {
    let conf = ConfDir::new(&[("p", true, &["0", "1"]), ("q", true, &["0"])]);
    let old = holder(&conf, "old");
    let _young = holder(&conf, "young");
    let somebody = Process::sleeping();
    write_tasks(&conf, "q", "0", &[somebody.pid()]);
    conf.edit(old.id(), &[("createdAt", "2020-01-01T00:00:00Z".into())]);
    // `date --date=2020-01-01T00:00:00Z +%s`
    let made = 1_577_836_800.0;
    for words in [&["reconcile"], &["node-report"]] {
        let agent = Agent::start(&mut command(&conf, words));
        let before = since_1970();
        let metrics = agent.next_round();
        let age = metrics.get("kcm_allocation_age_seconds{pool=\"p\"}").unwrap();
        assert!((before - made..=since_1970() - made).contains(&age), "{age}");
        assert_eq!(metrics.get("kcm_allocation_age_seconds{pool=\"q\"}"), None);
    }
}

#[test]
fn the_age_is_gone_with_the_last_holder() {
    let conf = ConfDir::new(&[("p", true, &["0"])]);
    let mut dead = holder(&conf, "dead");
    let agent = Agent::reconcile(&conf);
    let age = "kcm_allocation_age_seconds{pool=\"p\"}";
    assert!(agent.next_round().get(age).is_some_and(|age| age < 3_600.0));
    dead.kill();
    assert_eq!(agent.next_round().get(age), None);
}

#[test]
fn what_changes_is_told_by_the_next_round_and_a_pool_that_is_gone_by_none() {
    let conf = ConfDir::new(&[("p", true, &["0", "1"]), ("gone", true, &["0"])]);
    let agent = Agent::reconcile(&conf);
    let held = "kcm_cpu_lists{pool=\"p\",exclusive=\"true\",state=\"held\"}";
    let metrics = agent.next_round();
    metrics.must_say(&[(held, 0.0), ("kcm_tasks{pool=\"gone\"}", 0.0)]);
    let _holder = holder(&conf, "holder");
    fs::write(conf.path().join("pools/gone/exclusive"), "0").unwrap();
    let metrics = agent.next_round();
    metrics.must_say(&[(held, 1.0)]);
    assert!(!metrics.0.contains("pool=\"gone\",exclusive=\"true\""), "{}", metrics.0);
    fs::rename(conf.path().join("pools/gone"), conf.path().join("gone")).unwrap();
    let metrics = until("the pool to be gone", || {
        Some(agent.next_round()).filter(|metrics| !metrics.0.contains("pool=\"gone\""))
    });
    metrics.must_say(&[(held, 1.0)]);
}

/// Seconds.
fn since_1970() -> f64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs_f64()
}
