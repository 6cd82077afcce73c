//! The flag: where it may stand, what it may say, and how the program ends.

use std::net::TcpListener;
use std::time::{Duration, Instant};

use kcm_tests::kcm::{kcm, run};

use super::agent::{Agent, command};
use super::holders::{pool, write_tasks};
use super::http::{ask, connect};

#[test]
fn an_address_that_is_malformed_or_has_no_interval_is_wrong_usage_and_no_round_begins() {
    let interval = "--interval=60";
    for (flags, part) in [
        (&["--metrics-addr=127.0.0.1:0"][..], "--interval"),
        (&["--metrics-addr=127.0.0.1:0", "--interval=0"], "--interval"),
        (&["--metrics-addr=", interval], "--metrics-addr"),
        (&["--metrics-addr=9810", interval], "127.0.0.1:9810 or [::1]:9810"),
        (&["--metrics-addr=:9810", interval], "127.0.0.1:9810 or [::1]:9810"),
        (&["--metrics-addr=localhost:9810", interval], "give an IP address and a port"),
        (&["--metrics-addr=::1:9810", interval], "give an IP address and a port"),
        (&["--metrics-addr=127.0.0.1:70000", interval], "give an IP address and a port"),
        (&["--metrics-addr=http://127.0.0.1:9810", interval], "give an IP address and a port"),
    ] {
        for subcommand in ["reconcile", "node-report"] {
            let conf = pool(&["0"]);
            write_tasks(&conf, "p", "0", &[4_194_305]);
            let before = conf.snapshot();
            let mut kcm = kcm();
            let outcome = run(kcm.arg(subcommand).args(flags).env("KCM_CONF_DIR", conf.path()));
            assert_eq!((outcome.code, &outcome.out[..]), (Some(2), ""), "{flags:?}: {outcome:?}");
            assert!(outcome.err.contains(part), "{part:?} is not in {outcome:?}");
            assert_eq!(conf.snapshot(), before, "{flags:?}");
        }
    }
}

#[test]
fn an_address_that_cannot_be_had_is_an_error_before_the_first_round() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = listener.local_addr().unwrap().to_string();
    for (address, remedy) in [
        (&taken[..], "give --metrics-addr another port"),
        // TEST-NET-1 (RFC 5737): no machine has it.
        ("192.0.2.1:9810", "give --metrics-addr an address of this machine"),
    ] {
        let conf = pool(&["0"]);
        write_tasks(&conf, "p", "0", &[4_194_305]);
        let before = conf.snapshot();
        let flags = [format!("--metrics-addr={address}"), "--interval=60".into()];
        let outcome = run(kcm().arg("reconcile").args(flags).env("KCM_CONF_DIR", conf.path()));
        outcome.failed_with(&[address, remedy]);
        assert_eq!(conf.snapshot(), before, "{address}");
    }
}

#[test]
fn an_ipv6_address_serves_as_well() {
    let conf = pool(&["0"]);
    let mut kcm = kcm();
    kcm.args(["reconcile", "--interval=60", "--metrics-addr=[::1]:0"]);
    let agent = Agent::start(kcm.env("KCM_CONF_DIR", conf.path()));
    assert!(agent.address().starts_with("[::1]:"), "{}", agent.address());
    agent.health(200);
}

#[test]
fn there_are_two_paths_and_they_can_only_be_read() {
    let conf = pool(&["0"]);
    let agent = Agent::reconcile(&conf);
    agent.health(200);
    for (method, path, status) in [
        ("GET", "/metrics", 200),
        ("GET", "/metrics?name=kcm", 200),
        ("HEAD", "/metrics", 200),
        ("GET", "/healthz", 200),
        ("HEAD", "/healthz", 200),
        ("GET", "/", 404),
        ("GET", "/metrics/", 404),
        ("GET", "/../etc/passwd", 404),
        ("POST", "/", 404),
        ("POST", "/metrics", 405),
        ("DELETE", "/healthz", 405),
    ] {
        let answer = ask(agent.address(), method, path);
        assert_eq!(answer.status, status, "{method} {path}: {answer:?}");
        assert_eq!(answer.body.is_empty(), method == "HEAD", "{method} {path}: {answer:?}");
        assert_eq!(answer.head.contains("\r\nallow: get, head"), status == 405, "{answer:?}");
    }
    let kind = "\r\ncontent-type: text/plain; version=0.0.4; charset=utf-8";
    assert!(agent.get("/metrics").head.contains(kind));
}

#[test]
fn sigterm_ends_it_at_once_though_a_client_holds_a_connection() {
    for words in [&["reconcile"], &["node-report"]] {
        let conf = pool(&["0"]);
        let mut agent = Agent::start(&mut command(&conf, words));
        agent.health(200);
        let _idle = connect(agent.address());
        agent.next_round();
        let begun = Instant::now();
        let status = agent.end();
        // A connection that nobody uses would live for 10 seconds.
        assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
        assert_eq!(status.code(), Some(0), "{status}: {}", agent.err());
    }
}
