//! `kcm cluster-init` on 500 nodes: how long it takes, how much it asks at once and in all, and how
//! much memory it needs. Run by `make deep`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods, missing_docs)]

use std::fs;
use std::process::Stdio;
use std::time::{Duration, Instant};

use kcm_tests::api_server::ApiServer;
use kcm_tests::kcm::kcm;

/// As many requests may be on their way at once.
const AT_ONCE: usize = 16;

/// What kcm's memory is to stay below, in KiB.
const MOST_MEMORY: u64 = 100 * 1024;

/// What one run has cost.
#[derive(Debug)]
struct Cost {
    time: Duration,
    requests: usize,
    at_once: usize,
    bytes: u64,
    /// KiB.
    memory: u64,
}

fn prepare(nodes: usize) -> Cost {
    let api = ApiServer::start();
    (0..nodes).for_each(|number| api.add_node(&format!("worker-{number:03}")));
    // Else nothing is ever at once.
    api.latency(Duration::from_millis(20));
    let folder = tempfile::tempdir().unwrap();
    let (out, err) = (folder.path().join("out"), folder.path().join("err"));
    let mut command = kcm();
    command.args(["cluster-init", "--all-hosts"]).env("KUBECONFIG", api.kubeconfig());
    command.stdin(Stdio::null());
    command.stdout(fs::File::create(&out).unwrap()).stderr(fs::File::create(&err).unwrap());
    let begun = Instant::now();
    let mut child = command.spawn().unwrap();
    let mut memory = 0;
    let status = loop {
        memory = memory.max(most_memory(child.id()));
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        std::thread::sleep(Duration::from_millis(10));
    };
    let time = begun.elapsed();
    let (out, err) = (fs::read_to_string(out).unwrap(), fs::read_to_string(err).unwrap());
    assert_eq!(status.code(), Some(0), "{out}{err}");
    let ready = out.lines().filter(|line| line.contains("  ready  ")).count();
    assert_eq!((ready, out.lines().count()), (nodes, nodes + 1), "{out}");
    Cost {
        time,
        requests: api.requests().len(),
        at_once: api.concurrent_requests_max(),
        bytes: api.bytes(),
        memory,
    }
}

/// The most memory that a process has had so far, in KiB; 0 for one that has ended. (`ru_maxrss`
/// would be that of this test, if it is more: a process keeps it through exec.)
fn most_memory(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let number = line.and_then(|line| line.split_whitespace().next());
    number.map_or(0, |number| number.parse().unwrap())
}

fn print(nodes: usize, cost: &Cost) {
    println!(
        "{nodes} nodes: {:.1} s, {} requests, {} at once, {:.1} MiB sent and received, {:.1} MiB of \
         memory",
        cost.time.as_secs_f64(),
        cost.requests,
        cost.at_once,
        cost.bytes as f64 / 1_048_576.0,
        cost.memory as f64 / 1024.0,
    );
}

#[test]
fn five_hundred_nodes_are_prepared_side_by_side_and_at_a_bounded_cost() {
    let few = prepare(50);
    print(50, &few);
    let many = prepare(500);
    print(500, &many);
    for cost in [&few, &many] {
        // All turns are taken, and besides them the pods may be listed.
        assert!(cost.at_once <= AT_ONCE + 1, "{cost:?}");
        assert!(cost.at_once >= AT_ONCE / 2, "{cost:?}");
    }
    // Two pods a node, and what is asked once: nodes, seven objects, a list and watches.
    assert!(few.requests <= 2 * 50 + 15, "{few:?}");
    assert!(many.requests <= 2 * 500 + 15, "{many:?}");
    assert!(many.requests >= 2 * 500, "{many:?}");
    assert!(many.memory > 0 && many.memory < MOST_MEMORY, "{many:?}");
    // As much a node, within half, once what any run needs is set aside.
    assert!(many.bytes < few.bytes * 15, "{few:?} {many:?}");
    assert!(many.time < Duration::from_secs(120), "{many:?}");
}
