//! A partition that holds no more: found, named with the kernel's reason, made anew.

use std::fs;

use kcm_tests::alone::{alone, others_have, partition};
use kcm_tests::kcm::{kcm, reconcile};
use kcm_tests::machine::{Offline, cgroup_file, effective_cpus, until};
use kcm_tests::runtime::with_every_runtime;

use super::{guard, must_be_guarded, say};

#[test]
fn one_whose_ancestor_was_changed_is_found_and_made_anew() {
    let _alone = alone();
    with_every_runtime(&[("dataplane", true, &["2-3"])], |scene| {
        say(scene, "dataplane", "root");
        let container = scene.container("a").pool("dataplane").run();
        let each = "each container is a cpuset partition (root)";
        let above = cgroup_file(&scene.parent_cgroup(), "cpuset.cpus.exclusive");
        // Of a part of its CPUs the kernel leaves it a partition, of none it does not.
        fs::write(&above, "3").unwrap();
        assert_eq!(effective_cpus(&container.cgroup).to_string(), "3");
        let mended = reconcile(&scene.conf, &["--repair"]).succeeded();
        assert!(mended.out.contains("\"repaired\": true"), "{mended:?}");
        assert_eq!(partition(&container.cgroup), "root");
        assert_eq!(effective_cpus(&container.cgroup).to_string(), "2-3");
        fs::write(&above, "\n").unwrap();
        let state = partition(&container.cgroup);
        assert!(state.starts_with("root invalid ("), "{state}");
        let found = reconcile(&scene.conf, &[]).succeeded();
        let lines = found.lines("WARNING");
        assert_eq!(lines.len(), 1, "{lines:?}");
        assert!(lines[0].contains("others may run on CPUs 2-3 of a (process"), "{lines:?}");
        assert!(lines[0].contains(&state), "{lines:?}");
        let message = format!("{each}, but not a");
        must_be_guarded(scene.conf.path(), "dataplane", "partly", &message);
        assert_eq!(partition(&container.cgroup), state);
        let mended = reconcile(&scene.conf, &["--repair"]).succeeded();
        assert!(
            mended.lines("INFO")[0].contains("a has CPUs 2-3 for itself alone again"),
            "{mended:?}"
        );
        assert_eq!(partition(&container.cgroup), "root");
        assert!(!others_have("2"));
        assert_eq!(reconcile(&scene.conf, &["--repair"]).succeeded().lines("INFO"), [""; 0]);
        must_be_guarded(scene.conf.path(), "dataplane", "holds", each);
        let quota = || guard(scene.conf.path(), "dataplane", "quota");
        fs::write(cgroup_file(&container.cgroup, "cpu.max"), "50000 100000").unwrap();
        let cgroup = &container.cgroup;
        let said = format!("may be throttled: a ({cgroup} has a CFS quota (50000 100000))");
        assert_eq!(quota(), ("missing".to_owned(), said));
        container.delete();
        assert!(others_have("2-3"));
    });
}

#[test]
fn one_whose_cpus_were_all_offline_is_made_anew_when_they_are_back() {
    let _alone = alone();
    with_every_runtime(&[("dataplane", true, &["2-3"])], |scene| {
        // Linux 6.12 takes the last CPU of one of the kind root offline for nobody (EBUSY).
        say(scene, "dataplane", "isolated");
        let container = scene.container("a").pool("dataplane").run();
        let one = Offline::take("3");
        drop(one);
        assert_eq!(partition(&container.cgroup), "isolated");
        let both = [Offline::take("2"), Offline::take("3")];
        assert!(partition(&container.cgroup).contains("invalid"));
        drop(both);
        assert!(partition(&container.cgroup).contains("invalid"));
        reconcile(&scene.conf, &["--repair"]).succeeded();
        assert_eq!(partition(&container.cgroup), "isolated");
        assert!(!others_have("2"));
    });
}

#[test]
fn one_that_is_lost_does_not_wait_for_the_next_round() {
    let _alone = alone();
    with_every_runtime(&[("dataplane", true, &["2-3"])], |scene| {
        say(scene, "dataplane", "root");
        let container = scene.container("a").pool("dataplane").run();
        let log = fs::File::create(scene.folder.join("rounds")).unwrap();
        let mut rounds = kcm()
            .args(["reconcile", "--repair", "--interval=3600"])
            .env("KCM_CONF_DIR", scene.conf.path())
            .stdout(log)
            .spawn()
            .unwrap();
        let round_has_ended = || {
            let said = fs::read_to_string(scene.folder.join("rounds")).unwrap();
            said.contains("reclaimedCpuLists").then_some(())
        };
        until("the first round to end", round_has_ended);
        // It watches a second after that.
        std::thread::sleep(std::time::Duration::from_secs(5));
        let above = cgroup_file(&scene.parent_cgroup(), "cpuset.cpus.exclusive");
        fs::write(&above, "\n").unwrap();
        until("the partition to be made anew", || {
            (partition(&container.cgroup) == "root").then_some(())
        });
        rounds.kill().unwrap();
        rounds.wait().unwrap();
    });
}
