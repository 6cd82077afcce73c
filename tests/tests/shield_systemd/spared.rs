//! Units that somebody else has set, or that are left alone.

use std::fs;
use std::path::Path;
use std::process::Command;

use kcm_tests::isolate::{Isolate, must_be_refused};
use kcm_tests::kcm::{kcm, run};
use kcm_tests::machine::until;
use serde_json::Value;

use super::{POOL, conf, effective, newcomer, pool, shield, systemctl};

/// A unit's own restriction, and one that somebody sets meanwhile.
#[test]
fn what_an_administrator_has_set_of_a_slice_comes_back_and_what_he_sets_meanwhile_stays() {
    let conf = conf();
    systemctl(&["set-property", "--runtime", "user.slice", "AllowedCPUs=0-7"]);
    shield(&conf, &["on"]).succeeded();
    let told = |unit: &str| {
        let words = ["show", "--value", "-p", "AllowedCPUs", unit];
        let output = Command::new("systemctl").args(words).output().unwrap();
        String::from_utf8(output.stdout).unwrap().trim().replace(' ', ",")
    };
    assert_eq!(told("user.slice"), "0-2,4-7");
    systemctl(&["set-property", "--runtime", "system.slice", "AllowedCPUs=0-1"]);
    let off = shield(&conf, &["off"]).succeeded();
    let warned = off.lines("WARNING");
    assert_eq!(warned.len(), 1, "{off:?}");
    assert!(
        warned[0].contains("slice system.slice keeps 0-1: somebody has set it since"),
        "{off:?}"
    );
    assert_eq!((told("user.slice"), told("system.slice")), ("0-7".into(), "0-1".into()));
    for unit in ["user.slice", "system.slice"] {
        systemctl(&["set-property", "--runtime", unit, "AllowedCPUs=0-15"]);
        systemctl(&["set-property", "--runtime", unit, "AllowedCPUs="]);
    }
}

#[test]
fn a_slice_in_which_somebody_holds_the_pools_cpus_without_a_partition_is_left_alone() {
    let conf = conf();
    let isolate = Isolate::new(&conf, "dp", &[]).script("echo $$; exec sleep 600");
    let unit =
        ["systemd-run", "--scope", "--quiet", "--slice=user-0.slice", "--unit=session-kcmtest"];
    let mut isolate = isolate.under(unit).start();
    let process = isolate.process(0);
    assert_eq!(process.status("Cpus_allowed_list"), POOL[0]);
    let is_a_partition = || {
        let kind = format!("/sys/fs/cgroup{}/cpuset.cpus.partition", isolate.cgroup());
        fs::read_to_string(kind).is_ok_and(|kind| ["root", "isolated"].contains(&kind.trim()))
    };
    let on = shield(&conf, &["on", "--output=json"]).succeeded();
    assert_eq!(process.status("Cpus_allowed_list"), POOL[0], "it lost its CPUs");
    let on: Value = serde_json::from_str(&on.out).unwrap();
    let left = on["left"].as_array().unwrap().iter().find(|it| it["name"] == "user.slice");
    match is_a_partition() || !isolate.cgroup().starts_with("/user.slice") {
        true => assert_eq!(left, None, "{on:#}"),
        false => {
            let why = left.unwrap()["why"].as_str().unwrap();
            assert!(why.contains("would lose them") && why.contains("isolate-"), "{why}");
        }
    }
    isolate.kill();
    process.ends(); // with kcm
    until("its CPUs to be free", || {
        let words = ["reconcile"];
        run(kcm().args(words).env("KCM_CONF_DIR", conf.path())).succeeded();
        conf.allocations().is_empty().then_some(())
    });
    shield(&conf, &["on"]).succeeded();
    assert!(newcomer("user-0.slice").intersection(&pool()).is_empty());
    shield(&conf, &["off"]).succeeded();
}

#[test]
fn an_isolate_that_cannot_be_a_partition_is_refused_with_the_shield_as_the_reason() {
    let conf = conf();
    fs::write(conf.path().join("pools/dp/partition"), "none").unwrap();
    shield(&conf, &["on"]).succeeded();
    let isolate = Isolate::new(&conf, "dp", &["true"]);
    let login =
        ["systemd-run", "--scope", "--quiet", "--slice=user-0.slice", "--unit=session-kcmno"];
    // A service in which others are, as this one, has no cgroup for it.
    for (isolate, slice) in
        [(isolate.clone(), "system.slice"), (isolate.under(login), "user.slice")]
    {
        let why = format!("the shield keeps CPUs 3,9-10 off {slice}");
        must_be_refused(&isolate.run(), &[&why, "kcm shield off", "of pool dp"]);
        assert_eq!(conf.allocations(), [""; 0]);
    }
    shield(&conf, &["off"]).succeeded();
    let outcome = Isolate::new(&conf, "dp", &["true"]).run();
    assert_eq!(outcome.code, Some(0), "{outcome:?}");
}

#[test]
fn system_slice_is_left_alone_where_a_container_in_it_could_not_be_given_a_core() {
    let conf = conf();
    // As docker has it.
    let words =
        ["--scope", "--quiet", "--slice=system.slice", "--unit=docker-0123abcd.scope", "sleep"];
    let mut container = Command::new("systemd-run").args(words).arg("600").spawn().unwrap();
    let scope = Path::new("/sys/fs/cgroup/system.slice/docker-0123abcd.scope");
    until("the scope", || scope.exists().then_some(()));
    let has_partitions = Path::new("/sys/fs/cgroup/cpuset.cpus.isolated").exists();
    let doctor = || {
        let doctor = run(kcm().arg("doctor").env("KCM_CONF_DIR", conf.path()));
        let line = doctor.out.lines().find(|line| line.contains(" shield ")).unwrap();
        (line.split(' ').next().unwrap().to_owned(), line.to_owned())
    };
    let is_off = |unit: &str| effective(unit).intersection(&pool()).is_empty();
    // Beside docker's containers stand others: `auto` makes no partitions of them.
    for says in ["auto", "root"] {
        fs::write(conf.path().join("pools/dp/partition"), says).unwrap();
        let are_partitions = has_partitions && says == "root";
        let (state, line) = doctor();
        assert_eq!(state, "ok");
        assert_eq!(line.contains("docker has containers in it"), !are_partitions, "{line}");
        shield(&conf, &["on"]).succeeded();
        assert_eq!((is_off("system.slice"), is_off("user.slice")), (are_partitions, true));
        let (state, line) = doctor();
        assert_eq!(state, if are_partitions { "ok" } else { "warn" }, "{line}");
        let is_named = line.contains("system.slice: docker has containers in it");
        assert_eq!(is_named, !are_partitions, "{line}");
        shield(&conf, &["off"]).succeeded();
    }
    nix::sys::signal::kill(
        nix::unistd::Pid::from_raw(container.id() as i32),
        nix::sys::signal::SIGTERM,
    )
    .unwrap();
    container.wait().unwrap();
    until("the scope to go", || (!scope.exists()).then_some(()));
    shield(&conf, &["on"]).succeeded();
    assert!(is_off("system.slice"));
    shield(&conf, &["off"]).succeeded();
}
