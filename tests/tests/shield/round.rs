//! On, off, and what happens in between.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use kcm_tests::node::on_a_node;
use serde_json::Value;

use crate::machine::{Machine, SET, STATE};

#[test]
fn on_sets_everything_off_undoes_it_and_a_dry_run_changes_nothing() {
    on_a_node(|node| {
        let machine = Machine::new(node);
        let before = machine.values();
        let dry = machine.shield(&["on", "--dry-run"]).succeeded();
        assert!(dry.out.contains("0-7 → 0-1,4-7") && dry.out.contains("24 (eth0)"), "{}", dry.out);
        assert!(machine.values() == before && !fs::exists(STATE).unwrap(), "a dry run has changed");

        let on = machine.shield(&["on"]).succeeded();
        assert!(on.err.contains("INFO The shield is on"), "{on:?}");
        machine.must_be_shielded();
        let mode = |path: &str| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode("/var/lib/kcm"), mode(STATE)), (0o700, 0o600));
        let (files, state) = (machine.values(), fs::read(STATE).unwrap());
        machine.shield(&["on"]).succeeded();
        assert_eq!(machine.values(), files, "a second time changes nothing");
        assert_eq!(fs::read(STATE).unwrap(), state, "and forgets nothing");

        machine.shield(&["off", "--dry-run"]).succeeded();
        assert_eq!(machine.values(), files);
        machine.shield(&["off"]).succeeded();
        assert_eq!(machine.values(), before);
        assert!(!fs::exists(STATE).unwrap());
        let off = machine.shield(&["off"]).succeeded();
        assert!(off.err.contains("there is nothing to undo"), "{off:?}");
    });
}

#[test]
fn what_is_asked_for_by_flags_is_set_and_given_back_when_it_is_not_asked_for_any_more() {
    on_a_node(|node| {
        let machine = Machine::new(node);
        let before = machine.values();
        machine.shield(&["on", "--latency=0", "--governor=performance"]).succeeded();
        for (path, _, after) in SET {
            assert_eq!(machine.read(path), after, "{path}");
        }
        let governor = "sys/devices/system/cpu/cpu3/cpufreq/scaling_governor";
        assert_eq!(machine.read(governor), "performance");
        // status knows of the flags.
        assert_eq!(machine.json(&["status"])["shield"], "on");
        machine.shield(&["on", "--latency=50"]).succeeded();
        assert_eq!(
            (machine.read(governor), machine.read(SET[8].0)),
            ("powersave".into(), "50".into())
        );
        machine.shield(&["off"]).succeeded();
        assert_eq!(machine.values(), before);
    });
}

#[test]
fn what_somebody_has_set_since_is_left_and_named() {
    on_a_node(|node| {
        let machine = Machine::new(node);
        machine.shield(&["on"]).succeeded();
        machine.write("proc/irq/24/smp_affinity_list", "7\n");
        machine.write("proc/sys/vm/stat_interval", "1\n");
        let off = machine.shield(&["off"]).succeeded();
        let warned = off.lines("WARNING");
        let expected = "interrupt 24 keeps 7: somebody has set it since: it was 0-7, and the shield set \
                        0-1,4-7";
        assert_eq!(warned, [expected]);
        assert_eq!(machine.read("proc/irq/24/smp_affinity_list"), "7");
        assert_eq!(machine.read("proc/irq/25/smp_affinity_list"), "3");
        assert_eq!(machine.read("proc/sys/vm/stat_interval"), "1");
        assert!(!fs::exists(STATE).unwrap());
    });
}

#[test]
fn after_another_init_it_follows_the_pools() {
    on_a_node(|node| {
        let mut machine = Machine::new(node);
        let before = machine.values();
        machine.shield(&["on"]).succeeded();
        machine.conf = kcm_tests::conf_dir::ConfDir::new(&[
            ("dp", true, &["6-7"]),
            ("infra", false, &["0-5"]),
        ]);
        machine.shield(&["on"]).succeeded();
        for (path, value) in [
            ("proc/irq/24/smp_affinity_list", "0-5"),
            ("proc/irq/25/smp_affinity_list", "3"),
            ("proc/irq/26/smp_affinity_list", "0-5"),
            ("proc/irq/default_smp_affinity", "3f"),
        ] {
            assert_eq!(machine.read(path), value, "{path}");
        }
        machine.shield(&["off"]).succeeded();
        assert_eq!(machine.values(), before);
    });
}

#[test]
fn status_tells_what_is_set_what_is_not_and_what_no_write_moves() {
    on_a_node(|node| {
        let machine = Machine::new(node);
        assert_eq!(machine.json(&["status"])["shield"], "off");
        machine.shield(&["on"]).succeeded();
        let status = machine.json(&["status"]);
        assert_eq!((&status["shield"], &status["cpus"]), (&"on".into(), &"2-3".into()));
        let item = |status: &Value, name: &str| {
            let items = status["items"].as_array().unwrap();
            items.iter().find(|item| item["name"] == name).unwrap().clone()
        };
        let expected = serde_json::json!({
            "before": "3", "kind": "interrupt", "name": "25 (nvme0)", "now": "0-1,4-7",
            "set": "0-1,4-7", "state": "set",
        });
        assert_eq!(item(&status, "25 (nvme0)"), expected);
        let parameters = "nohz_full=2-3 rcu_nocbs=2-3 irqaffinity=0-1,4-7";
        assert_eq!(status["parameters"], parameters);
        // No systemd is seen from here, and no process.
        let left: Vec<&str> = status["left"]
            .as_array()
            .unwrap()
            .iter()
            .map(|it| it["kind"].as_str().unwrap())
            .collect();
        assert_eq!(left, ["slice", "kernel-thread"]);

        machine.write("proc/irq/25/smp_affinity_list", "2\n");
        let status = machine.json(&["status"]);
        assert_eq!(status["shield"], "partly");
        assert_eq!(item(&status, "25 (nvme0)")["state"], "open");
        machine.shield(&["on"]).succeeded();
        machine.must_be_shielded();
    });
}

#[test]
fn of_another_boot_nothing_is_known_and_nothing_is_undone() {
    on_a_node(|node| {
        let machine = Machine::new(node);
        machine.shield(&["on"]).succeeded();
        let other = "00000000-0000-4000-8000-000000000002\n";
        machine.write("proc/sys/kernel/random/boot_id", other);
        machine.write("proc/irq/24/smp_affinity_list", "0-5\n");
        let files = machine.values();
        machine.shield(&["off"]).succeeded();
        assert_eq!(machine.values(), files);
        machine.shield(&["on"]).succeeded();
        assert_eq!(machine.read("proc/irq/24/smp_affinity_list"), "0-1,4-5");
        machine.shield(&["off"]).succeeded();
        assert_eq!(machine.read("proc/irq/24/smp_affinity_list"), "0-5");
    });
}

#[test]
fn an_interrupt_that_came_under_the_shield_is_served_everywhere_when_it_is_off() {
    on_a_node(|node| {
        let machine = Machine::new(node);
        machine.shield(&["on"]).succeeded();
        machine.write("proc/irq/30/eth1/x", "");
        machine.write("proc/irq/30/smp_affinity_list", "0-1,4-7\n");
        fs::remove_dir_all(machine.path("proc/irq/25")).unwrap();
        machine.shield(&["off"]).succeeded();
        assert_eq!(machine.read("proc/irq/30/smp_affinity_list"), "0-7");
    });
}
