//! Clients that are slow, many, or hostile: the next one is answered all the same.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use super::agent::Agent;
use super::holders::pool;
use super::http::{connect, parse};

/// More than kcm ever has open, with 32 connections: its own files, and those of a round.
const MOST_DESCRIPTORS: usize = 64;

fn agent() -> (kcm_tests::conf_dir::ConfDir, Agent) {
    let conf = pool(&["0"]);
    let agent = Agent::reconcile(&conf);
    agent.next_round();
    (conf, agent)
}

/// Fails the test unless it goes on making rounds and answering.
#[track_caller]
fn must_answer(agent: &Agent) {
    agent.next_round().must_say(&[("kcm_tasks{pool=\"p\"}", 0.0)]);
    assert_eq!(agent.get("/healthz").status, 200);
    let open = agent.descriptors();
    assert!(open < MOST_DESCRIPTORS, "{open} descriptors are open");
}

#[test]
fn idle_connections_by_the_hundred_hold_up_nobody() {
    let (_conf, agent) = agent();
    let mut idle: Vec<TcpStream> = Vec::new();
    for _ in 0..3 {
        idle.extend((0..200).map(|_| connect(agent.address())));
        must_answer(&agent);
    }
    // The oldest were closed for the others.
    assert_eq!(idle[0].read(&mut [0; 1]).unwrap(), 0);
}

#[test]
fn requests_that_never_end_hold_up_nobody() {
    let (_conf, agent) = agent();
    let slow: Vec<TcpStream> = (0..100)
        .map(|_| {
            let mut stream = connect(agent.address());
            stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: k").unwrap();
            stream
        })
        .collect();
    must_answer(&agent);
    drop(slow);
    must_answer(&agent);
}

#[test]
fn a_connection_on_which_nothing_is_said_is_closed() {
    let (_conf, agent) = agent();
    let mut idle = connect(agent.address());
    let begun = Instant::now();
    // Not by one read(2), which a stop of this process would end (signal(7), SO_RCVTIMEO).
    assert_eq!(idle.read_to_end(&mut Vec::new()).unwrap(), 0, "it has said something");
    assert!(begun.elapsed() > Duration::from_secs(1), "it had no time to ask");
    must_answer(&agent);
}

#[test]
fn what_is_no_request_is_refused_and_nothing_else_happens() {
    let (_conf, agent) = agent();
    let zeros = [0; 4096];
    let every_byte: Vec<u8> = (0..=255).cycle().take(4096).collect();
    for garbage in [
        &zeros[..],
        &every_byte,
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", // how TLS begins (RFC 8446, 5.1)
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET /metrics HTTP/9.9\r\n\r\n",
        b"GET /metrics HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
        b"GET /metrics HTTP/1.1\r\nno colon\r\n\r\n",
        b"\r\n\r\n\r\n",
    ] {
        let mut stream = connect(agent.address());
        // It may have closed its side by then.
        let _ = stream.write_all(garbage);
        let _ = stream.shutdown(std::net::Shutdown::Write);
        let mut said = Vec::new();
        let _ = stream.read_to_end(&mut said);
        let said = String::from_utf8(said).unwrap();
        assert!(said.is_empty() || parse(&said).status == 400, "{garbage:?}: {said}");
    }
    must_answer(&agent);
}

#[test]
fn headers_without_end_are_refused_and_take_no_memory() {
    let (_conf, agent) = agent();
    let memory = resident(agent.pid());
    let line = format!("X: {}\r\n", "x".repeat(1 << 20));
    let many = "X: y\r\n".repeat(200_000);
    let path = "x".repeat(1 << 20);
    let requests = [
        format!("GET /metrics HTTP/1.1\r\n{line}"),
        format!("GET /metrics HTTP/1.1\r\n{many}"),
        format!("GET /{path} HTTP/1.1\r\n\r\n"),
    ];
    let mut open = Vec::new();
    for request in requests.iter().cycle().take(48) {
        let mut stream = connect(agent.address());
        // It is refused long before the end, and the rest by a reset.
        let _ = stream.write_all(request.as_bytes());
        open.push(stream);
    }
    must_answer(&agent);
    let more = resident(agent.pid()).saturating_sub(memory);
    assert!(more < 8 << 10, "{more} KiB more for 48 MiB of headers");
}

#[test]
fn a_request_with_a_megabyte_of_header_is_told_so() {
    let (_conf, agent) = agent();
    let mut stream = connect(agent.address());
    let head = format!("GET /metrics HTTP/1.1\r\nX: {}", "x".repeat(16 << 10));
    stream.write_all(head.as_bytes()).unwrap();
    let mut said = [0; 12];
    stream.read_exact(&mut said).unwrap();
    assert_eq!(&said, b"HTTP/1.1 431");
}

#[test]
fn clients_that_come_and_go_by_the_thousand_leave_nothing_open() {
    let (_conf, agent) = agent();
    for n in 0..2_000 {
        let mut stream = connect(agent.address());
        if n % 2 == 0 {
            let _ = stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: kcm\r\n\r\n");
        }
    }
    must_answer(&agent);
}

/// KiB of memory that a process has.
fn resident(pid: i32) -> usize {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}
