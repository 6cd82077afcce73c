//! What guards exclusive pools: a value each, of the last round.

use std::fs;

use kcm_tests::conf_dir::ConfDir;
use kcm_tests::machine::{cgroup_file, sysfs_cpus};
use kcm_tests::node::on_a_node;
use kcm_tests::stand_in::Quota;
use serde_json::json;

use super::agent::{Agent, command};
use super::holders::holder;

fn series(guard: &str) -> String {
    format!("kcm_guards{{pool=\"p\",guard=\"{guard}\"}}")
}

fn shield(cpus: &str) {
    let boot_id = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    let note = json!({
        "bootId": boot_id.trim(), "confDir": "/etc/kcm", "cpus": cpus, "governor": null, "items": [],
        "latency": null, "refused": [],
    });
    fs::create_dir_all("/var/lib/kcm").unwrap();
    fs::write("/var/lib/kcm/shield.json", note.to_string()).unwrap();
}

#[test]
fn each_guard_of_an_exclusive_pool_has_a_value_and_what_cannot_be_told_has_none() {
    on_a_node(|node| {
        let conf = ConfDir::new(&[("p", true, &["0", "1"]), ("infra", false, &["2"])]);
        for words in [&["reconcile"], &["node-report"]] {
            shield("0-1");
            let agent = Agent::start(&mut command(&conf, words));
            let metrics = agent.next_round();
            let isolated = sysfs_cpus("cpu/isolated").contains(0);
            metrics.must_say(&[
                (&series("default_pool"), 0.0),
                (&series("shield"), 1.0),
                (&series("quota"), 1.0),
                (&series("isolcpus"), if isolated { 1.0 } else { 0.0 }),
            ]);
            let kept = isolated || cgroup_file("/", "cpuset.cpus.isolated").exists();
            let open = ("kcm_unguarded{pool=\"p\"}", if kept { 0.0 } else { 1.0 });
            metrics.must_say(&[open]);
            let partition = metrics.get(&series("partition")).unwrap();
            assert_eq!(partition > 0.0, cgroup_file("/", "cpuset.cpus.isolated").exists());
            assert!(!metrics.0.contains("kcm_guards{pool=\"infra\""), "{}", metrics.0);

            shield("1-2");
            let flags = ["--runtime=podman", "--default-pool=infra"];
            let conf_dir = format!("--conf-dir={}", conf.path().display());
            node.kcm(&[&["install", &conf_dir], &flags[..]].concat()).succeeded();
            let half = [(&*series("shield"), 0.5), (&*series("default_pool"), 0.5), open];
            agent.next_round().must_say(&half);
            let flags = ["--runtime=containerd", "--default-pool=infra"];
            node.kcm(&[&["install", &conf_dir], &flags[..]].concat()).succeeded();
            let whole = [(&*series("default_pool"), 1.0), ("kcm_unguarded{pool=\"p\"}", 0.0)];
            agent.next_round().must_say(&whole);
            fs::write("/var/lib/kcm/shield.json", "{").unwrap();
            assert_eq!(agent.next_round().get(&series("shield")), None);
            let flags = ["--runtime=podman", "--runtime=containerd"];
            node.kcm(&[&["uninstall", &conf_dir], &flags[..]].concat()).succeeded();
        }
    });
}

#[test]
fn a_holder_that_is_throttled_takes_the_guard_away_and_a_pool_that_is_gone_has_none() {
    let conf = ConfDir::new(&[("p", true, &["0"])]);
    let throttled = holder(&conf, "throttled");
    let agent = Agent::reconcile(&conf);
    agent.next_round().must_say(&[(&series("quota"), 1.0)]);
    let quota = Quota::on(throttled.cgroup());
    agent.next_round().must_say(&[(&series("quota"), 0.0)]);
    drop(throttled);
    agent.next_round().must_say(&[(&series("quota"), 1.0)]);
    drop(quota);
    fs::rename(conf.path().join("pools/p"), conf.path().join("p")).unwrap();
    let metrics = agent.next_round();
    assert!(!metrics.0.contains("pool=\"p\",guard"), "{}", metrics.0);
}
