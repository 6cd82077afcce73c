//! Somebody else has the CPUs: for himself alone, or as well. He is named, and loses nothing.

use std::fs;

use kcm_tests::alone::{alone, others_have, partition};
use kcm_tests::conf_dir::ConfDir;
use kcm_tests::hook::HookCall;
use kcm_tests::kcm::{Outcome, reconcile};
use kcm_tests::machine::{cgroup_file, effective_cpus, make_cgroup, remove_cgroup};
use kcm_tests::stand_in::{StandIn, new_id};

use super::Somebody;

fn conf() -> ConfDir {
    let conf = ConfDir::new(&[("p", true, &["2-3"])]);
    fs::write(conf.path().join("pools/p/partition"), "root").unwrap();
    conf
}

/// Somebody with these CPUs, right below the root: there a partition is an ordinary one.
struct Other {
    cgroup: String,
    _somebody: Somebody,
}

impl Other {
    fn new(cpus: &str) -> Self {
        let cgroup = format!("/kcmother{}", std::process::id());
        make_cgroup(&cgroup, cpus);
        let somebody = Somebody::in_cgroup(&cgroup);
        Self { cgroup, _somebody: somebody }
    }

    fn alone(cpus: &str) -> Self {
        let other = Self::new(cpus);
        fs::write(cgroup_file(&other.cgroup, "cpuset.cpus.partition"), "root").unwrap();
        other.must_be_alone();
        other
    }

    #[track_caller]
    fn must_be_alone(&self) {
        assert_eq!(partition(&self.cgroup), "root");
        assert!(!others_have("3"));
    }

    fn end(self) {
        let cgroup = self.cgroup.clone();
        drop(self);
        remove_cgroup(&cgroup);
    }
}

/// A container whose partition was lost, and which somebody has moved.
fn moved(conf: &ConfDir) -> StandIn {
    let container = StandIn::new(&new_id("c"));
    HookCall::create(conf.path(), &container, "p").run().must_succeed();
    let path = container.cgroup().path();
    let (above, _) = path.rsplit_once('/').unwrap();
    fs::write(cgroup_file(above, "cpuset.cpus.exclusive"), "\n").unwrap();
    assert!(partition(&path).starts_with("root invalid"), "{}", partition(&path));
    fs::write(cgroup_file(&path, "cpuset.cpus"), "4").unwrap();
    container
}

fn repair(conf: &ConfDir) -> Outcome {
    reconcile(conf, &["--repair"]).succeeded()
}

#[test]
fn a_container_whose_cpus_somebody_has_for_himself_alone_is_refused_and_he_is_named() {
    let _alone = alone();
    for says in ["root", "none"] {
        let conf = conf();
        fs::write(conf.path().join("pools/p/partition"), says).unwrap();
        let other = Other::alone("3");
        let container = StandIn::new(&new_id("c"));
        let ran = HookCall::create(conf.path(), &container, "p").run();
        assert!(!ran.succeeded(), "{ran:?}");
        let who =
            format!("the cgroup {}, which has processes, is a partition (root)", other.cgroup);
        for part in ["CPUs 2-3 are not to be had", &who, "or end it"] {
            assert!(ran.stderr.contains(part), "{part}: {}", ran.stderr);
        }
        other.must_be_alone();
        // Nothing was written to its cgroup, and it holds nothing.
        assert_eq!(container.cgroup().cpus(), "");
        assert_eq!(conf.tasks("p", "2-3"), "");
        other.end();
        HookCall::create(conf.path(), &container, "p").run().must_succeed();
        assert_eq!(effective_cpus(&container.cgroup().path()).to_string(), "2-3");
    }
}

#[test]
fn repair_looks_who_has_the_cpus_before_it_writes() {
    let _alone = alone();
    let conf = conf();
    let container = moved(&conf);
    let other = Other::alone("2-3");
    let mended = repair(&conf);
    assert!(mended.out.contains("\"repaired\": false"), "{mended:?}");
    let said = mended.lines("WARNING").join("\n");
    for part in ["cannot repair process", "CPUs 2-3 are not to be had", &other.cgroup] {
        assert!(said.contains(part), "{part}: {said}");
    }
    assert_eq!(container.cgroup().cpus(), "4");
    other.must_be_alone();
    other.end();
    let mended = repair(&conf);
    assert!(mended.out.contains("\"repaired\": true"), "{mended:?}");
    assert_eq!(partition(&container.cgroup().path()), "root");
}

#[test]
fn that_it_is_on_its_cpus_again_and_that_they_are_not_its_alone_are_two_things() {
    let _alone = alone();
    let conf = conf();
    let container = moved(&conf);
    let other = Other::new("3");
    let mended = repair(&conf);
    assert!(mended.out.contains("\"repaired\": true"), "{mended:?}");
    let path = container.cgroup().path();
    assert_eq!((effective_cpus(&path).to_string(), container.cgroup().cpus()), both("2-3"));
    assert!(mended.lines("INFO")[0].contains("back on its CPUs"), "{mended:?}");
    let said = mended.lines("WARNING");
    assert!(
        said.len() == 1
            && said[0].contains("others may run on the CPUs of process")
            && said[0].contains(&format!("the cgroup {} was given CPUs 3", other.cgroup)),
        "{said:?}"
    );
    // From then on it is one that has no partition, which is said each time.
    let again = repair(&conf);
    let said = again.lines("WARNING");
    assert!(said.len() == 1 && said[0].contains("cannot be made one again"), "{said:?}");
    other.end();
    assert!(repair(&conf).lines("INFO")[0].contains("for itself alone again"));
    assert_eq!(partition(&path), "root");
}

fn both(cpus: &str) -> (String, String) {
    (cpus.to_owned(), cpus.to_owned())
}
