//! Nobody is judged by a reconcile that cannot see them: in a PID namespace of its own, through a
//! procfs that hides processes, or without the cgroup file system.

use std::fs;
use std::path::Path;
use std::process::Command;

use kcm_tests::conf_dir::ConfDir;
use kcm_tests::hook::HookCall;
use kcm_tests::isolate::{Isolate, must_be_refused};
use kcm_tests::kcm::{Outcome, bare, run};
use kcm_tests::machine::{is_cgroup_v2, kill_and_wait, start_time};
use kcm_tests::programs::{for_any_user, program};
use kcm_tests::stand_in::StandIn;

use super::document::{Entry, NOBODY, NOTHING, command, document, must_print, reclaimed};
use super::holders::{Process, holder, taskset, write_tasks};
use super::records::isolate_record;

/// Two of each kind, one alive and one dead: a container, what `isolate` holds, and a PID without a
/// record.
struct Directory {
    conf: ConfDir,
    _alive: [Process; 2],
    containers: [StandIn; 2],
    living: [(&'static str, &'static str, i32); 3],
}

impl Directory {
    fn new() -> Self {
        let conf =
            ConfDir::new(&[("p", true, &["0", "1"]), ("q", true, &["0", "1", "0-1", "1,0"])]);
        let containers = [holder(&conf, "alive"), holder(&conf, "dead")];
        kill_and_wait(containers[1].pid());
        let alive = [Process::sleeping(), Process::sleeping()];
        let [isolate, bare] = alive.each_ref().map(Process::pid);
        taskset(isolate, "0");
        isolate_record(&conf, "q", "0", isolate, start_time(isolate));
        isolate_record(&conf, "q", "1", NOBODY, 1);
        for (list, pid) in [("0", isolate), ("1", NOBODY), ("0-1", bare), ("1,0", NOBODY + 1)] {
            write_tasks(&conf, "q", list, &[pid]);
        }
        let living = [("p", "0", containers[0].pid()), ("q", "0", isolate), ("q", "0-1", bare)];
        Self { conf, _alive: alive, containers, living }
    }

    /// The dead that need no cgroup file system to be seen so.
    fn dead_processes() -> [Entry; 2] {
        [reclaimed("q", "1", NOBODY), reclaimed("q", "1,0", NOBODY + 1)]
    }

    fn dead_container(&self) -> Entry {
        reclaimed("p", "1", self.containers[1].pid())
    }

    fn dead(&self) -> String {
        let [isolate, bare] = Self::dead_processes();
        document(&[], &[isolate, bare, self.dead_container()])
    }

    #[track_caller]
    fn must_keep_the_living(&self) {
        for (pool, list, pid) in self.living {
            assert_eq!(self.conf.tasks(pool, list), pid.to_string(), "{pool} {list}");
        }
    }
}

/// Runs a shell script with mounts of its own. `$KCM` is kcm, `$HERE` a folder.
fn in_own_mounts(conf: &ConfDir, kcm: &Path, here: &Path, script: &str) -> Outcome {
    let mut command = Command::new("unshare");
    bare(&mut command);
    command.args(["--mount", "--propagation", "private", "sh", "-euc", script]);
    run(command.env("KCM_CONF_DIR", conf.path()).env("KCM", kcm).env("HERE", here))
}

/// Fails the test unless the script ends with an error that has these parts, and nothing changed.
#[track_caller]
fn must_refuse(script: &str, parts: &[&str]) {
    let (directory, here) = (Directory::new(), tempfile::tempdir().unwrap());
    let before = directory.conf.snapshot();
    let outcome = in_own_mounts(&directory.conf, &program("kcm"), here.path(), script);
    outcome.failed_with(parts);
    assert_eq!(directory.conf.snapshot(), before, "{script}");
}

/// Fails the test unless the script reclaims the dead and keeps the living.
#[track_caller]
fn must_judge(script: &str) {
    let (directory, here) = (Directory::new(), tempfile::tempdir().unwrap());
    let outcome = in_own_mounts(&directory.conf, &program("kcm"), here.path(), script);
    assert_eq!(outcome.succeeded().out, directory.dead(), "{script}");
    directory.must_keep_the_living();
}

const REMEDY: &[&str] = &["does not show the host's processes", "/proc", "KCM_PROC_FS"];

#[test]
fn in_a_pid_namespace_of_its_own_it_refuses_unless_it_is_given_the_hosts_procfs() {
    for script in [
        "exec unshare --pid --fork --mount-proc \"$KCM\" reconcile",
        "exec unshare --pid --fork --mount-proc \"$KCM\" reconcile --repair",
        // The host's procfs happens to be there, but nobody said that it is.
        "exec unshare --pid --fork \"$KCM\" reconcile",
        "export KCM_PROC_FS=/proc; exec unshare --pid --fork --mount-proc \"$KCM\" reconcile",
        "export KCM_PROC_FS=$HERE; exec unshare --pid --fork --mount-proc \"$KCM\" reconcile",
        "export KCM_PROC_FS=$HERE; exec \"$KCM\" reconcile",
    ] {
        must_refuse(script, if script.contains("=$HERE") { &["KCM_PROC_FS"] } else { REMEDY });
    }
}

#[test]
fn through_the_hosts_procfs_it_judges_from_a_pid_namespace_of_its_own() {
    let inner = "unshare --pid --fork --mount-proc \"$KCM\" reconcile";
    must_judge(&format!(
        "mount --bind /proc \"$HERE\"; export KCM_PROC_FS=\"$HERE\"; exec {inner}"
    ));
    must_judge("export KCM_PROC_FS=/proc; exec unshare --pid --fork \"$KCM\" reconcile");
    must_judge("mount --bind /proc \"$HERE\"; export KCM_PROC_FS=$HERE; exec \"$KCM\" reconcile");
}

#[test]
fn through_a_procfs_that_hides_processes_nobody_is_judged() {
    let nobody = "exec setpriv --reuid=65534 --regid=65534 --clear-groups \"$KCM\" reconcile";
    for (place, variable) in [("/proc", ""), ("\"$HERE/proc\"", "export KCM_PROC_FS=$HERE/proc; ")]
    {
        for (option, hides) in [("hidepid=2", true), ("hidepid=0", false)] {
            let directory = Directory::new();
            let (folder, kcm) = for_any_user("kcm");
            directory.conf.give_to_nobody();
            fs::create_dir(folder.path().join("proc")).unwrap();
            let before = directory.conf.snapshot();
            let script = format!("mount -t proc -o {option} proc {place}; {variable}{nobody}");
            let outcome = in_own_mounts(&directory.conf, &kcm, folder.path(), &script);
            if hides {
                outcome.failed_with(&["without hidepid", "/1/stat"]);
                assert_eq!(directory.conf.snapshot(), before, "{script}");
            } else {
                assert_eq!(outcome.succeeded().out, directory.dead(), "{script}");
                directory.must_keep_the_living();
            }
        }
    }
}

#[test]
fn root_sees_through_a_procfs_that_hides_processes() {
    must_judge("mount -t proc -o hidepid=2 proc /proc; exec \"$KCM\" reconcile");
}

#[test]
fn where_no_cgroup_file_system_is_seen_containers_are_not_judged_and_processes_are() {
    let directory = Directory::new();
    let unseen = "mount -t tmpfs none /sys/fs/cgroup; exec \"$KCM\" reconcile";
    let blind = || in_own_mounts(&directory.conf, &program("kcm"), "/".as_ref(), unseen);
    let outcome = blind().succeeded();
    assert_eq!(outcome.out, document(&[], &Directory::dead_processes()), "{outcome:?}");
    directory.must_keep_the_living();
    assert_eq!(blind().succeeded().out, NOTHING);
    must_print(&directory.conf, &[], &document(&[], &[directory.dead_container()]));
    directory.must_keep_the_living();
}

#[test]
fn a_cgroup_file_system_that_is_named_and_is_not_there_is_an_error_and_nothing_changes() {
    let (directory, here) = (Directory::new(), tempfile::tempdir().unwrap());
    let path = |name: &str| here.path().join(name).to_str().unwrap().to_owned();
    fs::write(path("file"), "").unwrap();
    fs::create_dir(path("empty")).unwrap();
    fs::create_dir_all(path("no-controller/cpuset/container")).unwrap();
    // cgroup v2 without a cpuset controller.
    fs::create_dir(path("v2")).unwrap();
    fs::write(path("v2/cgroup.controllers"), "cpu memory pids\n").unwrap();
    let before = directory.conf.snapshot();
    let places = ["none", "file", "empty", "no-controller", "v2"].map(path);
    // Other file systems, and a cgroup instead of the place where all are.
    let wrong = ["/proc", "/sys", "/dev/null"].map(str::to_owned);
    let cgroup = directory.containers[0].cgroup().path();
    let below = (!is_cgroup_v2()).then(|| format!("/sys/fs/cgroup/cpuset{cgroup}"));
    for place in places.into_iter().chain(wrong).chain(below) {
        let parts = ["KCM_CGROUP_FS", place.as_str(), "/sys/fs/cgroup", "or unset"];
        for flags in [&[] as &[&str], &["--repair"]] {
            let outcome = run(command(&directory.conf, flags).env("KCM_CGROUP_FS", &place));
            outcome.failed_with(&parts);
        }
        let isolate = Isolate::new(&directory.conf, "p", &["true"]).env("KCM_CGROUP_FS", &place);
        must_be_refused(&isolate.run(), &parts);
        assert_eq!(directory.conf.snapshot(), before, "{place}");
    }
}

#[test]
fn the_cgroup_file_system_may_be_mounted_elsewhere() {
    must_judge(
        "mount --rbind /sys/fs/cgroup \"$HERE\"; mount -t tmpfs none /sys/fs/cgroup; \
         export KCM_CGROUP_FS=\"$HERE\"; exec \"$KCM\" reconcile",
    );
}

/// Something else is mounted over the boot id, so that everybody would seem to be of another boot.
const MOUNT_OVER_BOOT_ID: &str = "echo 00000000-0000-4000-8000-000000000000 > \"$HERE/id\"; \
                                  mount --bind \"$HERE/id\" /proc/sys/kernel/random/boot_id; ";

#[test]
fn a_boot_id_that_is_not_the_procfss_own_is_refused_by_all_that_judge() {
    let parts = ["proc/sys/kernel/random/boot_id", "something is mounted over it", "KCM_PROC_FS"];
    for flags in ["reconcile", "reconcile --repair"] {
        must_refuse(&format!("{MOUNT_OVER_BOOT_ID} exec \"$KCM\" {flags}"), &parts);
    }
    let (directory, here) = (Directory::new(), tempfile::tempdir().unwrap());
    let before = directory.conf.snapshot();
    let isolate = format!("{MOUNT_OVER_BOOT_ID} exec \"$KCM\" isolate --pool=q true");
    let outcome = in_own_mounts(&directory.conf, &program("kcm"), here.path(), &isolate);
    assert_eq!(outcome.code, Some(125), "{outcome:?}");
    assert!(parts.iter().all(|part| outcome.err.contains(part)), "{outcome:?}");

    let next = StandIn::new(&kcm_tests::stand_in::new_id("next"));
    let id = here.path().join("id");
    let script = "mount --bind \"$0\" /proc/sys/kernel/random/boot_id; exec \"$@\"";
    let own_mounts = ["unshare", "--mount", "--propagation", "private", "sh", "-euc", script];
    let own_mounts = own_mounts.into_iter().chain([id.to_str().unwrap()]);
    let call = HookCall::create(directory.conf.path(), &next, "q").under(own_mounts);
    call.run().must_refuse(&parts);
    assert_eq!(directory.conf.snapshot(), before);
}

#[test]
fn in_a_time_namespace_of_its_own_it_judges_right() {
    for seconds in ["1000000", "-1"] {
        must_judge(&format!("exec unshare --time --boottime {seconds} --fork \"$KCM\" reconcile"));
    }
}
