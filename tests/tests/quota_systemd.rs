//! CFS quotas beside systemd, which writes its own anew at times.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods, missing_docs)]

use std::fs;
use std::process::Command;
use std::time::Duration;

use kcm_tests::machine::{Guest, cgroup_file, must_be_the_guest, two_cpus};
use kcm_tests::runtime::{systemctl, with_every_runtime};

fn quota(cgroup: &str) -> String {
    fs::read_to_string(cgroup_file(cgroup, "cpu.max")).unwrap().trim().to_owned()
}

/// How often a cgroup was kept from running.
fn throttled(cgroup: &str) -> u64 {
    let text = fs::read_to_string(cgroup_file(cgroup, "cpu.stat")).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("nr_throttled "));
    line.unwrap().parse().unwrap()
}

fn property(unit: &str) -> String {
    let words = ["show", "--value", "-p", "CPUQuotaPerSecUSec", unit];
    let output = Command::new("systemctl").args(words).output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

#[test]
fn what_systemd_writes_anew_throttles_neither_a_container_nor_its_pod_which_gets_its_own_back() {
    assert_eq!(must_be_the_guest(), Guest::Systemd);
    let [cpu, _] = two_cpus();
    with_every_runtime(&[("alone", true, &[&cpu])], |scene| {
        let pod = format!("kubepods-pod{}.slice", scene.slice().trim_end_matches(".slice"));
        let cgroup = format!("/kubepods.slice/{pod}");
        systemctl(&["start", &pod]);
        systemctl(&["set-property", "--runtime", &pod, "CPUQuota=70%"]);
        assert_eq!(quota(&cgroup), "70000 100000");
        let spin = || {
            let container = scene.container("c").pool("alone").in_cgroup(&format!("{pod}:kcm:c"));
            let spin = container.command("while :; do :; done");
            spin.with(|bundle| bundle.quota = Some(50_000)).run()
        };
        for _ in ["first", "started anew"] {
            let container = spin();
            let own = match scene.runtime.program {
                "crun" => format!("{cgroup}/kcm-c.scope/container"),
                _ => format!("{cgroup}/kcm-c.scope"),
            };
            let must_be_free = |after: &str| {
                for cgroup in [&own, &format!("{cgroup}/kcm-c.scope"), &cgroup] {
                    assert_eq!(quota(cgroup), "max 100000", "{cgroup} after {after}");
                }
                for unit in ["kcm-c.scope", &pod] {
                    assert_eq!(property(unit), "infinity", "{unit} after {after}");
                }
            };
            must_be_free("its start");
            // Before the hook was called the runtime itself may have been throttled in it.
            let before = [&own, &cgroup].map(|cgroup| throttled(cgroup));
            systemctl(&["daemon-reload"]);
            let words = ["--quiet", "--collect", "--wait", &format!("--slice={pod}"), "true"];
            assert!(Command::new("systemd-run").args(words).status().unwrap().success());
            systemctl(&["set-property", "--runtime", "kcm-c.scope", "CPUWeight=200"]);
            systemctl(&["set-property", "--runtime", &pod, "CPUWeight=200"]);
            must_be_free("what systemd wrote");
            std::thread::sleep(Duration::from_millis(500));
            assert_eq!([&own, &cgroup].map(|cgroup| throttled(cgroup)), before);
            container.delete();
            assert_eq!(
                (quota(&cgroup).as_str(), property(&pod).as_str()),
                ("70000 100000", "700ms")
            );
        }
        systemctl(&["stop", &pod]);
    });
}
