//! In a PID namespace of its own, or where processes are hidden, kcm cannot tell who is alive: it
//! judges nobody, and says what to mount.

use std::ffi::OsString;
use std::fs;
use std::path::Path;

use kcm_tests::conf_dir::ConfDir;
use kcm_tests::isolate::{Isolate, must_be_refused, nothing_must_be_held};
use kcm_tests::programs::{for_any_user, program};

/// No process ever has this PID: it is past the kernel's limit (PID_MAX_LIMIT, 4,194,304).
const NOBODY: &str = "4194999";

const REMEDY: &[&str] = &["does not show the host's processes", "/proc", "KCM_PROC_FS"];

/// A pool whose only list a dead process holds.
fn held_by_the_dead() -> ConfDir {
    let conf_dir = ConfDir::new(&[("p", true, &["0"])]);
    fs::write(conf_dir.tasks_path("p", "0"), NOBODY).unwrap();
    conf_dir
}

/// A shell script with mounts of its own. `$KCM` is kcm, `$HERE` a folder, `$@` makes kcm say `ran`
/// on a CPU of the pool.
fn in_own_mounts(conf_dir: &ConfDir, kcm: &Path, here: &Path, script: &str) -> Isolate {
    let unshare = ["unshare", "--mount", "--propagation", "private", "sh", "-euc", script, "sh"];
    let mut words: Vec<OsString> = unshare.map(OsString::from).to_vec();
    words.push(kcm.into());
    let isolate = Isolate::of(words).words(["isolate", "--pool=p", "echo", "--", "ran"]);
    isolate.env("KCM_CONF_DIR", conf_dir.path()).env("HERE", here)
}

#[track_caller]
fn must_refuse(script: &str, parts: &[&str]) {
    let (conf_dir, here) = (held_by_the_dead(), tempfile::tempdir().unwrap());
    let before = conf_dir.snapshot();
    let outcome = in_own_mounts(&conf_dir, &program("kcm"), here.path(), script).run();
    must_be_refused(&outcome, parts);
    assert_eq!(conf_dir.snapshot(), before, "{script}");
}

#[track_caller]
fn must_run(script: &str) {
    let (conf_dir, here) = (held_by_the_dead(), tempfile::tempdir().unwrap());
    let outcome = in_own_mounts(&conf_dir, &program("kcm"), here.path(), script).run();
    assert_eq!(outcome.succeeded().out, "ran\n", "{script}");
    nothing_must_be_held(&conf_dir);
}

#[test]
fn in_a_pid_namespace_of_its_own_it_refuses_unless_it_is_given_the_hosts_procfs() {
    for script in [
        "exec unshare --pid --fork --mount-proc \"$@\"",
        // The host's procfs happens to be there, but nobody said that it is.
        "exec unshare --pid --fork \"$@\"",
        "export KCM_PROC_FS=/proc; exec unshare --pid --fork --mount-proc \"$@\"",
    ] {
        must_refuse(script, REMEDY);
    }
    for script in [
        "export KCM_PROC_FS=$HERE; exec unshare --pid --fork --mount-proc \"$@\"",
        "export KCM_PROC_FS=$HERE; exec \"$@\"",
    ] {
        must_refuse(script, &["KCM_PROC_FS"]);
    }
    must_run("export KCM_PROC_FS=/proc; exec unshare --pid --fork \"$@\"");
    must_run(
        "mount --bind /proc \"$HERE\"; export KCM_PROC_FS=$HERE; \
         exec unshare --pid --fork --mount-proc \"$@\"",
    );
    must_run("mount --bind /proc \"$HERE\"; export KCM_PROC_FS=$HERE; exec \"$@\"");
}

#[test]
fn through_a_procfs_that_hides_processes_it_refuses() {
    let nobody = "exec setpriv --reuid=65534 --regid=65534 --clear-groups \"$@\"";
    for (place, variable) in [("/proc", ""), ("\"$HERE/proc\"", "export KCM_PROC_FS=$HERE/proc; ")]
    {
        for (option, hides) in [("hidepid=2", true), ("hidepid=0", false)] {
            let (conf_dir, (folder, kcm)) = (held_by_the_dead(), for_any_user("kcm"));
            conf_dir.give_to_nobody();
            fs::create_dir(folder.path().join("proc")).unwrap();
            let before = conf_dir.snapshot();
            let script = format!("mount -t proc -o {option} proc {place}; {variable}{nobody}");
            let outcome = in_own_mounts(&conf_dir, &kcm, folder.path(), &script).run();
            if hides {
                must_be_refused(&outcome, &["without hidepid", "/1/stat"]);
                assert_eq!(conf_dir.snapshot(), before, "{script}");
            } else {
                assert_eq!(outcome.succeeded().out, "ran\n", "{script}");
                nothing_must_be_held(&conf_dir);
            }
        }
    }
    must_run("mount -t proc -o hidepid=2 proc /proc; exec \"$@\"");
}
