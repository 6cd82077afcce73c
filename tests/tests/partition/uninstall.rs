//! What cgroups set aside does not outlive kcm: nobody would give it back.

use std::fs;

use kcm_tests::alone::{alone, aside, others_have, partition};
use kcm_tests::conf_dir::ConfDir;
use kcm_tests::hook::HookCall;
use kcm_tests::kcm::{Outcome, kcm, reconcile, run};
use kcm_tests::machine::effective_cpus;
use kcm_tests::stand_in::{StandIn, new_id};

fn uninstall(conf: &ConfDir, flags: &[&str]) -> Outcome {
    let mut command = kcm();
    command.args(["uninstall", "--runtime=podman"]).args(flags);
    run(command.env("KCM_CONF_DIR", conf.path())).succeeded()
}

#[test]
fn a_container_that_outlives_kcm_leaves_nothing_set_aside_and_is_named() {
    let _alone = alone();
    let conf = ConfDir::new(&[("p", true, &["2-3"])]);
    fs::write(conf.path().join("pools/p/partition"), "root").unwrap();
    let container = StandIn::new(&new_id("c"));
    HookCall::create(conf.path(), &container, "p").run().must_succeed();
    let own = container.cgroup().path();
    let above = own.rsplit_once('/').unwrap().0;
    let is_named = |outcome: &Outcome| {
        let said = outcome.lines("WARNING");
        let (owner, pid) = (container.id(), container.pid());
        let who = format!("others may run on CPUs 2-3 of {owner} (process {pid}), too, ");
        assert!(said.len() == 1 && said[0].contains(&who), "{outcome:?}");
        assert!(said[0].contains("kcm reconcile --repair"), "{outcome:?}");
    };
    is_named(&uninstall(&conf, &["--dry-run"]));
    assert_eq!(partition(&own), "root");
    is_named(&uninstall(&conf, &[]));
    assert_eq!((partition(&own).as_str(), aside(above).as_str()), ("member", ""));
    assert!(others_have("2-3"));
    assert_eq!((effective_cpus(&own).to_string(), container.allowed_cpus()), both("2-3"));
    // Installed again.
    let mended = reconcile(&conf, &["--repair"]).succeeded();
    assert!(mended.lines("INFO")[0].contains("for itself alone again"), "{mended:?}");
    assert!(!others_have("2"));

    // A record that somebody has made up takes nothing from anybody.
    let other = StandIn::new(&new_id("other"));
    let other_conf = ConfDir::new(&[("p", true, &["4"])]);
    fs::write(other_conf.path().join("pools/p/partition"), "root").unwrap();
    HookCall::create(other_conf.path(), &other, "p").run().must_succeed();
    let inode = kcm_tests::stand_in::inode_of(&other.cgroup().path());
    let forged = [("cgroup", other.cgroup().path().into()), ("cgroupInode", inode.into())];
    conf.edit(container.id(), &forged);
    let refused = uninstall(&conf, &[]);
    let said = refused.lines("WARNING");
    assert!(said.len() == 1 && said[0].contains("stay set aside"), "{refused:?}");
    assert!(said[0].contains("nothing proves that the cgroup"), "{refused:?}");
    assert_eq!(partition(&other.cgroup().path()), "root");

    // One that has ended: what it has left goes without a word.
    conf.edit(container.id(), &[("cgroup", own.clone().into()), ("cgroupInode", 1.into())]);
    drop(container);
    assert_eq!(aside(above), "2-4");
    assert_eq!(uninstall(&conf, &[]).lines("WARNING"), [""; 0]);
    assert_eq!(aside(above), "4");
    uninstall(&other_conf, &[]);
}

fn both(cpus: &str) -> (String, String) {
    (cpus.to_owned(), cpus.to_owned())
}
