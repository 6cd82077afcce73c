//! Directories that somebody has filled with pools.

use std::fs;

use kcm_tests::conf_dir::ConfDir;

use super::agent::Agent;

#[test]
fn forged_pools_by_the_thousand_make_neither_metrics_nor_memory_grow_with_them() {
    let conf = ConfDir::new(&[("zz-dataplane", true, &["0"])]);
    let agent = Agent::reconcile(&conf);
    agent.next_round();
    for number in 0..20_000 {
        let pool = conf.path().join(format!("pools/{}{number:05}", "a".repeat(50)));
        fs::create_dir(&pool).unwrap();
        fs::write(pool.join("exclusive"), "0").unwrap();
    }
    let metrics = agent.next_round();
    let own = "kcm_cpu_lists{pool=\"zz-dataplane\",exclusive=\"true\",state=\"free\"}";
    metrics.must_say(&[("kcm_pools_not_shown", 20_001.0 - 128.0), (own, 1.0)]);
    let size = metrics.0.len();
    assert!(size < 300_000, "{size} bytes");
    for number in 0..20_000 {
        let pool = conf.path().join(format!("pools/{}{number:05}", "a".repeat(50)));
        fs::remove_dir_all(pool).unwrap();
    }
    let metrics = agent.next_round();
    metrics.must_say(&[("kcm_pools_not_shown", 0.0), (own, 1.0)]);
    assert!(metrics.0.len() < 10_000);
    println!("{size} bytes of metrics with 20,001 pools; {}", peak(agent.pid()));
}

/// Its `VmHWM`.
fn peak(pid: i32) -> String {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    status.lines().find(|line| line.starts_with("VmHWM")).unwrap().to_owned()
}
