//! A large cluster, and what is counted for it.

use std::thread;
use std::time::{Duration, Instant};

use kcm_tests::api_server::{ApiServer, Ask};
use serde_json::Value;

use crate::{PODS, new_pod, pod};

#[test]
fn five_hundred_nodes_and_a_thousand_pods_are_no_trouble() {
    let start = Instant::now();
    let api = ApiServer::start();
    for number in 0..500 {
        api.add_node(&format!("node-{number}"));
    }
    for number in 0..1000 {
        let mut pod = pod(&format!("pod-{number}"));
        pod["spec"]["nodeName"] = format!("node-{}", number % 500).into();
        api.create(PODS, pod);
    }
    api.settle();
    let list = api.send(&Ask::get(PODS)).unwrap().json();
    let pods = list["items"].as_array().unwrap();
    let succeeded = |pod: &&Value| pod["status"]["phase"] == "Succeeded";
    assert_eq!((pods.len(), pods.iter().filter(succeeded).count()), (1000, 1000));
    let took = start.elapsed();
    assert!(took < Duration::from_secs(20), "it took {took:?}");
}

#[test]
fn requests_at_once_and_their_bytes_are_counted() {
    let api = ApiServer::start();
    api.latency(Duration::from_millis(200));
    thread::scope(|scope| {
        for number in 0..8 {
            let api = &api;
            scope.spawn(move || api.send(&new_pod(&format!("pod-{number}"))).unwrap());
        }
    });
    assert_eq!(api.concurrent_requests_max(), 8);
    let before = api.bytes();
    let reply = api.send(&Ask::get(&format!("{PODS}/pod-0"))).unwrap();
    assert_eq!(api.bytes() - before, reply.text.len() as u64);
}
