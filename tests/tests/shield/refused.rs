//! What is refused, with nothing half done.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;

use kcm_tests::conf_dir::ConfDir;
use kcm_tests::kcm::{kcm, run};
use kcm_tests::node::on_a_node;

use crate::machine::{Machine, STATE};

#[test]
fn pools_that_leave_nothing_to_shield_or_nothing_for_the_node_are_refused() {
    on_a_node(|node| {
        type Pools<'a> = &'a [(&'a str, bool, &'a [&'a str])];
        let cases: [(Pools<'_>, [&str; 2]); 4] = [
            (&[("infra", false, &["0-7"])], ["no exclusive pool", "kcm init"]),
            (&[("dp", true, &[])], ["no exclusive pool", "nothing to shield"]),
            (&[("dp", true, &["0-3", "4-7"])], ["every CPU that is online (0-7)", "fewer"]),
            (&[("a", true, &["0-3"]), ("b", true, &["4-8"])], ["CPUs 8", "cannot have"]),
        ];
        for (pools, parts) in cases {
            let machine = Machine::with_pools(node, pools);
            let before = machine.values();
            machine.shield(&["on"]).failed_with(&parts);
            machine.shield(&["on", "--dry-run"]).failed_with(&parts);
            assert!(machine.values() == before && !fs::exists(STATE).unwrap());
        }
    });
}

#[test]
fn what_may_be_an_exclusive_pool_and_cannot_be_read_is_refused() {
    on_a_node(|node| {
        let machine = Machine::new(node);
        fs::write(machine.conf.path().join("pools/infra/exclusive"), "x").unwrap();
        let before = machine.values();
        machine
            .shield(&["on"])
            .failed_with(&["the shield stays as it is", "pools/infra/exclusive"]);
        fs::remove_dir_all(machine.conf.path().join("pools")).unwrap();
        machine.shield(&["on"]).failed_with(&["the shield stays as it is", "kcm init"]);
        assert_eq!(machine.values(), before);
    });
}

#[test]
fn an_offline_cpu_of_a_pool_is_named_and_the_rest_done() {
    on_a_node(|node| {
        let machine = Machine::new(node);
        machine.unplug("0-2,4-7");
        let on = machine.shield(&["on"]).succeeded();
        assert!(on.lines("WARNING")[0].contains("CPUs 3 of exclusive pools are offline"), "{on:?}");
        machine.must_be_shielded();
        machine.unplug("2-3");
        machine.shield(&["on"]).failed_with(&["every CPU that is online (2-3)"]);
    });
}

#[test]
fn flags_that_this_machine_cannot_follow_are_refused() {
    on_a_node(|node| {
        let machine = Machine::new(node);
        let before = machine.values();
        let parts = ["--governor=fast is none", "performance, powersave"];
        machine.shield(&["on", "--governor=fast"]).failed_with(&parts);
        fs::remove_dir_all(machine.path("sys/devices/system/cpu/cpu3/cpufreq")).unwrap();
        machine.shield(&["on", "--governor=performance"]).failed_with(&["leave --governor out"]);
        for latency in ["-1", "2147483648", "x"] {
            let refused = machine.shield(&["on", &format!("--latency={latency}")]);
            assert_eq!(refused.code, Some(2), "{refused:?}");
        }
        machine.write("sys/devices/system/cpu/cpu3/cpufreq/scaling_governor", "powersave\n");
        machine.write(
            "sys/devices/system/cpu/cpu3/cpufreq/scaling_available_governors",
            "performance powersave\n",
        );
        assert_eq!(machine.values(), before);
    });
}

#[test]
fn kcm_is_not_uninstalled_under_the_shield_that_nobody_could_take_off_then() {
    on_a_node(|node| {
        let machine = Machine::new(node);
        machine.shield(&["on"]).succeeded();
        let uninstall = || {
            let mut command = kcm();
            run(command.arg("uninstall").env("KCM_PROC_FS", machine.path("proc")))
        };
        uninstall().failed_with(&["the shield is on", "kcm shield off"]);
        machine.shield(&["off"]).succeeded();
        uninstall().succeeded();
    });
}

#[test]
fn a_user_and_a_read_only_sysfs_are_refused() {
    on_a_node(|node| {
        let machine = Machine::new(node);
        for words in [&["on"] as &[&str], &["off"], &["status"]] {
            let mut command = machine.command(words);
            run(command.uid(65534)).failed_with(&["kcm shield needs root"]);
        }
        // This very machine, on which tests see a sysfs that nobody may write.
        let mut command = kcm();
        command.args(["shield", "on"]).env("KCM_CONF_DIR", machine.conf.path());
        let conf = ConfDir::new(&[("dp", true, &["0"])]);
        command.env("KCM_CONF_DIR", conf.path());
        run(&mut command).failed_with(&["is read-only here, and nothing was changed"]);
        assert!(!fs::exists(STATE).unwrap());
    });
}

#[test]
fn a_state_file_of_somebody_elses_or_a_damaged_one_is_refused() {
    on_a_node(|node| {
        let machine = Machine::new(node);
        machine.shield(&["on"]).succeeded();
        let files = machine.values();
        fs::set_permissions(STATE, fs::Permissions::from_mode(0o666)).unwrap();
        for words in [&["on"] as &[&str], &["off"], &["status"]] {
            machine.shield(words).failed_with(&[
                STATE,
                "written by others than root",
                "chmod go-w",
            ]);
        }
        fs::set_permissions(STATE, fs::Permissions::from_mode(0o600)).unwrap();
        let state = fs::read(STATE).unwrap();
        fs::write(STATE, &state[..state.len() / 2]).unwrap();
        for words in [&["on"] as &[&str], &["off"], &["status"]] {
            machine.shield(words).failed_with(&["understand", STATE, "remove it"]);
        }
        assert_eq!(machine.values(), files);
        fs::write(STATE, state).unwrap();
        machine.shield(&["off"]).succeeded();
    });
}

#[test]
fn a_name_in_the_state_file_leads_nowhere_else() {
    on_a_node(|node| {
        let machine = Machine::new(node);
        machine.shield(&["on"]).succeeded();
        machine.write("victim/smp_affinity_list", "0-1,4-7\n");
        let state = fs::read_to_string(STATE).unwrap();
        fs::write(STATE, state.replace(r#""name":"25""#, r#""name":"../../victim""#)).unwrap();
        machine.shield(&["off"]);
        assert_eq!(machine.read("victim/smp_affinity_list"), "0-1,4-7");
    });
}
