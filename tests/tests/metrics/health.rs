//! `/healthz`: fails when rounds fail, or there are none.

use std::fs::{self, File};

use kcm_tests::conf_dir::ConfDir;
use kcm_tests::machine::{until, waits_for_a_lock};
use nix::fcntl::{FcntlArg, Flock, FlockArg, fcntl};

use super::agent::{Agent, command};
use super::holders::pool;

/// Holds the directory's lock until it is dropped.
fn locked(conf: &ConfDir) -> Flock<File> {
    let file = File::open(conf.path().join("lock")).unwrap();
    Flock::lock(file, FlockArg::LockExclusive).unwrap()
}

#[test]
fn a_directory_that_is_gone_is_unhealthy_until_it_returns() {
    for words in [&["reconcile"], &["node-report"]] {
        let conf = pool(&["0"]);
        let agent = Agent::start(&mut command(&conf, words));
        assert_eq!(agent.health(200), "ok\n");
        let aside = conf.path().with_file_name("aside");
        fs::rename(conf.path(), &aside).unwrap();
        let said = agent.health(503);
        assert!(said.contains("is no kcm configuration directory"), "{said}");
        assert!(said.contains(conf.path().to_str().unwrap()), "{said}");
        fs::rename(&aside, conf.path()).unwrap();
        assert_eq!(agent.health(200), "ok\n");
    }
}

#[test]
fn a_lock_that_is_not_to_be_had_is_unhealthy_and_metrics_are_answered_meanwhile() {
    let conf = pool(&["0"]);
    let agent = Agent::start(command(&conf, &["reconcile"]).env("KCM_LOCK_TIMEOUT", "1"));
    agent.health(200);
    let lock = locked(&conf);
    let said = agent.health(503);
    assert!(said.contains("kcm/lock was not free within 1s"), "{said}");
    until("it to wait again", || waits_for_a_lock(agent.pid()).then_some(()));
    agent.metrics().must_say(&[("kcm_tasks{pool=\"p\"}", 0.0)]);
    drop(lock);
    assert_eq!(agent.health(200), "ok\n");
}

#[test]
fn a_malformed_file_is_unhealthy_and_named_on_one_line() {
    let conf = pool(&["0", "1", "0-1"]);
    let agent = Agent::reconcile(&conf);
    agent.health(200);
    fs::create_dir(conf.path().join("pools/p/3-1")).unwrap();
    let said = agent.health(503);
    assert!(said.contains("pools/p/3-1") && !said.contains("more"), "{said}");
    fs::create_dir(conf.path().join("pools/p/y")).unwrap();
    fs::create_dir(conf.path().join("pools/p/a\nb")).unwrap();
    let said = until("all to be found", || {
        Some(agent.health(503)).filter(|said| said.contains("(and 2 more)"))
    });
    assert!(said.ends_with("(and 2 more)\n"), "{said}");
}

#[test]
fn rounds_that_do_not_go_on_are_unhealthy_while_metrics_are_answered() {
    // Nobody reads what it prints: when the pipe is full, after 70 rounds, it waits for ever.
    let conf = pool(&["0"]);
    let (_reader, pipe) = std::io::pipe().unwrap();
    fcntl(&pipe, FcntlArg::F_SETPIPE_SZ(4096)).unwrap();
    let mut stuck = command(&conf, &["reconcile"]);
    let agent = Agent::with_output(stuck.env("KCM_LOCK_TIMEOUT", "2"), pipe.into());
    agent.health(200);
    let said = agent.health(503);
    // Three intervals of 0.05 s, and 2 s to wait for the lock, and 2 s to hold it.
    assert!(said.contains("the last round ended") && said.contains("4.15 s are allowed"), "{said}");
    assert!(agent.metrics().rounds() > 10.0);
}

#[test]
fn before_the_first_round_has_ended_it_is_healthy_and_has_no_success_to_tell_of() {
    let conf = pool(&["0"]);
    let lock = locked(&conf);
    let agent = Agent::start(command(&conf, &["reconcile"]).env("KCM_LOCK_TIMEOUT", "600"));
    assert_eq!(agent.get("/healthz").status, 200);
    let metrics = agent.metrics();
    metrics.must_say(&[
        ("kcm_rounds_total{result=\"succeeded\"}", 0.0),
        ("kcm_rounds_total{result=\"failed\"}", 0.0),
        ("kcm_round_interval_seconds", 0.05),
    ]);
    assert_eq!(metrics.get("kcm_last_successful_round_timestamp_seconds"), None);
    drop(lock);
    agent.next_round();
}
