//! A command can neither be lost, whatever it closes and whoever it becomes, nor stray, whatever it
//! binds itself to.

use kcm_tests::conf_dir::ConfDir;
use kcm_tests::isolate::{
    Isolate, Process, Running, must_be_free, must_be_held, must_be_refused, nothing_must_be_held,
};
use kcm_tests::kcm::reconcile;
use kcm_tests::machine::{cgroup_file, guest, is_cgroup_v2, sysfs_cpus, two_cpus, until};

use super::descendants::{DAEMON_THAT_CLOSES, is_executed};

/// Both ways in which a command is held.
const WAYS: [fn(Isolate) -> Isolate; 2] = [|isolate| isolate, Isolate::by_affinity];

fn one_list() -> ConfDir {
    ConfDir::new(&[("p", true, &["0"])])
}

/// Python closes the descriptors of what it starts.
const POPEN: &str = "python3 -c 'import subprocess
worker = subprocess.Popen([\"sleep\", \"600\"], start_new_session=True)
print(worker.pid)'";

#[test]
fn a_worker_that_has_none_of_its_parents_descriptors_holds_the_list_after_kcm_was_killed() {
    for way in WAYS {
        // The guest has no Python.
        let script = if guest().is_some() { DAEMON_THAT_CLOSES } else { POPEN };
        let conf_dir = one_list();
        let script = format!("{script}; exec sleep 600");
        let mut isolate = way(Isolate::new(&conf_dir, "p", &[]).script(&script)).start();
        let worker = isolate.process(0);
        is_executed(&worker);
        let record = conf_dir.record_path(&isolate.owner());
        assert!(!worker.open_files().contains(&record));
        isolate.kill();
        assert!(worker.is_running());
        must_be_held(&conf_dir, "0", isolate.pid());
        let report = reconcile(&conf_dir, &[]).succeeded().out;
        assert!(report.contains("\"reclaimedCpuLists\": []"), "{report}");
        must_be_held(&conf_dir, "0", isolate.pid());
        worker.kill();
        must_be_free(&conf_dir);
    }
}

/// A command that has become another user, so that it does not die with kcm.
fn of_another_user(conf_dir: &ConfDir, way: fn(Isolate) -> Isolate) -> (Running, Process) {
    let words = ["setpriv", "--", "--reuid=65534", "--clear-groups", "sh", "-c"];
    let isolate = Isolate::new(conf_dir, "p", &words).words(["echo $$; exec sleep 600"]);
    let isolate = way(isolate).start();
    let child = isolate.process(0);
    is_executed(&child);
    (isolate, child)
}

#[test]
fn a_command_that_becomes_another_user_outlives_kcm_and_holds_the_list() {
    for way in WAYS {
        let conf_dir = one_list();
        let (mut isolate, child) = of_another_user(&conf_dir, way);
        isolate.kill();
        assert!(child.is_running(), "the death signal was not cleared");
        must_be_held(&conf_dir, "0", isolate.pid());
        child.kill();
        must_be_free(&conf_dir);
    }
}

#[test]
fn whichever_file_that_names_it_is_damaged_a_command_that_outlives_kcm_holds_the_list() {
    for way in WAYS {
        for (damage, reconciled) in [0, 1].into_iter().flat_map(|n| [(n, false), (n, true)]) {
            let conf_dir = one_list();
            let (mut isolate, child) = of_another_user(&conf_dir, way);
            let record = conf_dir.record_path(&isolate.owner());
            let damaged = [record, conf_dir.index_path("p", "0")][damage].clone();
            std::fs::write(&damaged, "{").unwrap();
            if reconciled {
                reconcile(&conf_dir, &[]);
            }
            isolate.kill();
            assert!(child.is_running());
            for _ in 0..2 {
                let next = Isolate::new(&conf_dir, "p", &["true"]).run();
                must_be_refused(&next, &["No free cpu lists in pool p"]);
            }
            child.kill();
            // What was set aside and has no owner any more a person removes.
            let outcome = reconcile(&conf_dir, &[]);
            assert!(outcome.err.contains("reclaimed") || conf_dir.tasks("p", "0").is_empty());
            let next = Isolate::new(&conf_dir, "p", &["--", "echo", "mine"]).run();
            assert_eq!((next.code, next.out.as_str()), (Some(0), "mine\n"), "{damage}: {next:?}");
        }
    }
}

#[test]
fn a_command_cannot_bind_itself_to_cpus_that_it_was_not_given() {
    let [mine, other] = two_cpus();
    let conf_dir = ConfDir::new(&[("p", true, &[&mine])]);
    let all = sysfs_cpus("cpu/online");
    let script = format!(
        "taskset -pc {other} $$ >/dev/null 2>&1; echo $?
         taskset -pc {all} $$ >/dev/null; echo $?
         echo $$; exec sleep 600"
    );
    let isolate = Isolate::new(&conf_dir, "p", &[]).script(&script).start();
    let child = isolate.process(2);
    assert_eq!(child.status("Cpus_allowed_list"), mine);
    // The first is refused by the kernel, the second is cut to what there is.
    assert_eq!((isolate.line(0).as_str(), isolate.line(1).as_str()), ("1", "0"));
    let report = reconcile(&conf_dir, &[]).succeeded().out;
    assert!(report.contains("\"mismatchedCpuMasks\": []"), "{report}");
}

#[test]
fn reconcile_tells_of_a_command_that_left_its_cpus_and_never_of_kcm_itself() {
    let [mine, other] = two_cpus();
    let conf_dir = ConfDir::new(&[("p", true, &[&mine])]);
    let script = "echo $$; exec sleep 600";
    let isolate = Isolate::new(&conf_dir, "p", &[]).script(script).by_affinity().start();
    let child = isolate.process(0);
    assert_eq!(child.status("Cpus_allowed_list"), mine);
    let report = reconcile(&conf_dir, &[]).succeeded().out;
    assert!(report.contains("\"mismatchedCpuMasks\": []"), "{report}");
    let taskset = ["-pc", &other, &child.pid().to_string()];
    let bound = std::process::Command::new("taskset").args(taskset).output().unwrap();
    assert!(bound.status.success());
    let report = reconcile(&conf_dir, &[]).succeeded().out;
    let report: serde_json::Value = serde_json::from_str(&report).unwrap();
    let mismatch = &report["mismatchedCpuMasks"][0];
    assert_eq!(mismatch["pid"], isolate.pid());
    assert_eq!(mismatch["actualCpus"][0].to_string(), other);
}

#[test]
fn a_commands_cgroup_has_its_cpus_and_is_gone_with_it() {
    let conf_dir = one_list();
    let isolate = Isolate::new(&conf_dir, "p", &[]).script("echo $$; exec sleep 600").start();
    let (child, cgroup) = (isolate.process(0), isolate.cgroup());
    let name = if is_cgroup_v2() { "cpuset.cpus" } else { "cpuset.effective_cpus" };
    assert_eq!(std::fs::read_to_string(cgroup_file(&cgroup, name)).unwrap(), "0\n");
    let procs = std::fs::read_to_string(cgroup_file(&cgroup, "cgroup.procs")).unwrap();
    assert_eq!(procs, format!("{}\n", child.pid()));
    child.kill();
    isolate.finish();
    assert!(!cgroup_file(&cgroup, "").exists());
    nothing_must_be_held(&conf_dir);
}

#[test]
fn the_cgroup_of_a_killed_isolate_goes_with_the_next_one_and_with_reconcile() {
    for next in ["isolate", "reconcile"] {
        let conf_dir = one_list();
        let mut isolate =
            Isolate::new(&conf_dir, "p", &[]).script("echo $$; exec sleep 600").start();
        let (child, cgroup) = (isolate.process(0), isolate.cgroup());
        // Nobody but who takes its list back removes its cgroup while it can be seen.
        isolate.kill_without_waiting();
        child.ends();
        assert!(cgroup_file(&cgroup, "").exists());
        match next {
            "isolate" => must_be_free(&conf_dir),
            _ => drop(reconcile(&conf_dir, &[]).succeeded()),
        }
        assert!(!cgroup_file(&cgroup, "").exists(), "after {next}");
        nothing_must_be_held(&conf_dir);
    }
}

#[test]
fn a_cgroup_of_which_no_record_tells_goes_when_its_maker_is_gone() {
    let conf_dir = one_list();
    let mut isolate = Isolate::new(&conf_dir, "p", &[]).script("echo $$; exec sleep 600").start();
    let (child, cgroup) = (isolate.process(0), isolate.cgroup());
    isolate.kill_without_waiting();
    child.ends();
    std::fs::remove_file(conf_dir.record_path(&isolate.owner())).unwrap();
    let other = ConfDir::new(&[("p", true, &["0"])]);
    must_be_free(&other);
    assert!(cgroup_file(&cgroup, "").exists(), "its maker may be about to enter it");
    isolate.kill();
    must_be_free(&other);
    assert!(!cgroup_file(&cgroup, "").exists());
}

#[test]
fn a_record_that_names_an_empty_cgroup_which_kcm_did_not_make_does_not_remove_it() {
    let name = format!("kcm-test-innocent-{}", std::process::id());
    let cgroup = format!("/{name}");
    std::fs::create_dir(cgroup_file(&cgroup, "")).unwrap();
    let conf_dir = one_list();
    let mut isolate = Isolate::new(&conf_dir, "p", &[]).script("echo $$; exec sleep 600").start();
    let (child, own) = (isolate.process(0), isolate.cgroup());
    isolate.kill();
    child.ends();
    // As somebody would who may write the directory.
    let path = conf_dir.record_path(&isolate.owner());
    let mut record = conf_dir.record(&isolate.owner()).unwrap();
    record["cgroup"] = cgroup.as_str().into();
    record["cgroupInode"] =
        std::os::unix::fs::MetadataExt::ino(&std::fs::metadata(cgroup_file(&cgroup, "")).unwrap())
            .into();
    std::fs::write(path, record.to_string()).unwrap();
    reconcile(&conf_dir, &[]).succeeded();
    nothing_must_be_held(&conf_dir);
    assert!(cgroup_file(&cgroup, "").exists());
    std::fs::remove_dir(cgroup_file(&cgroup, "")).unwrap();
    // What the record does not name any more, the next one in the same place removes.
    must_be_free(&conf_dir);
    assert!(!cgroup_file(&own, "").exists());
}

#[test]
fn an_isolate_within_another_gets_cpus_of_its_own() {
    let [outer, inner] = two_cpus();
    let conf_dir = ConfDir::new(&[("p", true, &[&outer]), ("q", true, &[&inner])]);
    let script = "echo $$; exec sleep 600";
    let within = Isolate::new(&conf_dir, "q", &[]).script(script);
    let mut words = within.as_words().to_vec();
    let program = words.remove(0);
    let isolate = Isolate::new(&conf_dir, "p", &[]).words([program]).words(["--"]).words(words);
    let isolate = isolate.start();
    let child = isolate.process(0);
    assert_eq!(child.status("Cpus_allowed_list"), inner);
    child.kill();
    assert_eq!(isolate.finish().code, Some(128 + 9));
    nothing_must_be_held(&conf_dir);
}

#[test]
fn what_holds_the_cpus_is_said_on_one_line() {
    let conf_dir = one_list();
    let start = |way: fn(Isolate) -> Isolate, flags: &[&str]| {
        let isolate = way(Isolate::new(&conf_dir, "p", flags).script("echo $$; exec sleep 600"));
        let isolate = isolate.start();
        let child: Process = isolate.process(0);
        let said = isolate.held_by();
        child.kill();
        assert_eq!(isolate.finish().err, "");
        said
    };
    let said = start(WAYS[0], &[]);
    assert!(said.contains("CPUs 0 of pool p are held by cgroup /"), "{said}");
    assert!(said.contains(", which the command cannot leave by itself"), "{said}");
    let said = start(WAYS[1], &[]);
    assert!(said.contains("are held by the command's affinity, which it may change"), "{said}");
    assert!(said.contains("no cgroup, since this process is in a cgroup namespace"), "{said}");
    let said = start(WAYS[0], &["--no-affinity"]);
    assert!(said.ends_with(", on all CPUs"), "{said}");
    until("nothing to be held", || conf_dir.allocations().is_empty().then_some(()));
}

#[test]
fn kcm_says_that_it_stays_where_it_may_use_no_other_cpus() {
    let all = sysfs_cpus("cpu/online").to_string();
    let conf_dir = ConfDir::new(&[("p", true, &[&all])]);
    for way in WAYS {
        let isolate = way(Isolate::new(&conf_dir, "p", &[]).script("echo $$; exec sleep 600"));
        let isolate = isolate.start();
        let child = isolate.process(0);
        let said = isolate.held_by();
        assert!(
            said.ends_with(
                "; kcm itself stays where it is, since it may use none but exclusive CPUs"
            ),
            "{said}"
        );
        child.kill();
        isolate.finish();
    }
}
