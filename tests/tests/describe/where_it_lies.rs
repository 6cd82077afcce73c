//! Directories that cannot be locked, are not there, or were made by the original.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

use kcm_tests::conf_dir::ConfDir;
use nix::fcntl::{Flock, FlockArg};

use super::tmpfs::Tmpfs;
use super::{MANUALS_JSON, Outcome, describe, json_at, kcm, manuals, run};
use kcm_tests::kcm::bare;
use kcm_tests::programs::for_any_user;

/// Describes as an ordinary user: a process that is nobody's, with no group and no capability.
fn describe_as_nobody(path: &Path) -> Outcome {
    // The program itself may lie where only root gets to.
    let (_folder, program) = for_any_user("kcm");
    let mut command = Command::new("setpriv");
    bare(&mut command);
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]);
    run(command.arg(program).arg("describe").arg("--conf-dir").arg(path))
}

fn let_everybody_in(conf: &ConfDir) {
    let lock = conf.path().join("lock");
    fs::set_permissions(lock, Permissions::from_mode(0o600)).unwrap();
    let folder = conf.path().parent().unwrap();
    fs::set_permissions(folder, Permissions::from_mode(0o755)).unwrap();
}

#[test]
fn an_ordinary_user_reads_without_the_lock_and_is_told_so() {
    let conf = manuals();
    let_everybody_in(&conf);
    let outcome = describe_as_nobody(conf.path()).succeeded();
    assert_eq!(outcome.out, json_at(MANUALS_JSON, conf.path()));
    let [warning] = outcome.lines("WARNING")[..] else { panic!("{outcome:?}") };
    let lock = conf.path().join("lock");
    assert!(warning.contains("without the lock") && warning.contains(lock.to_str().unwrap()));
}

#[test]
fn a_directory_that_is_closed_to_an_ordinary_user_is_an_error() {
    let conf = manuals();
    let_everybody_in(&conf);
    fs::set_permissions(conf.path(), Permissions::from_mode(0o700)).unwrap();
    let outcome = describe_as_nobody(conf.path());
    outcome.failed_with(&[conf.path().to_str().unwrap(), "Permission denied", "as root"]);
}

/// What describe says of the manual's directory, copied to a read-only mount.
fn described_read_only(conf: &ConfDir) -> Outcome {
    let tmpfs = Tmpfs::new("size=1m");
    let mut copy = Command::new("cp");
    run(copy.arg("-a").arg(conf.path()).arg(tmpfs.path())).succeeded();
    tmpfs.make_read_only();
    let path = tmpfs.path().join("kcm");
    let outcome = describe(&path).succeeded();
    assert_eq!(outcome.out, json_at(MANUALS_JSON, &path));
    outcome
}

#[test]
fn a_read_only_mount_is_read_like_any_other() {
    let outcome = described_read_only(&manuals());
    assert_eq!(outcome.err, "", "a lock can be had there");
}

#[test]
fn a_read_only_mount_without_a_lock_file_is_read_unlocked() {
    let conf = manuals();
    fs::remove_file(conf.path().join("lock")).unwrap();
    let outcome = described_read_only(&conf);
    assert_eq!(outcome.lines("WARNING").len(), 1, "{outcome:?}");
}

#[test]
fn a_directory_of_the_original_keeps_the_spelling_of_its_lists() {
    let conf = ConfDir::new(&[("dataplane", true, &["5,13", "10,2", "6,14,7,15"])]);
    fs::write(conf.tasks_path("dataplane", "10,2"), "4711,\n").unwrap();
    let lock = conf.path().join("lock");
    fs::set_permissions(lock, Permissions::from_mode(0o644)).unwrap();
    assert!(!conf.path().join("allocations").exists());
    let before = conf.snapshot();
    let outcome = describe(conf.path()).succeeded();
    let json = r#"{
  "path": "CONF_DIR",
  "pools": {
    "dataplane": {
      "cpuLists": {
        "10,2": {
          "cpus": "10,2",
          "tasks": [
            4711
          ]
        },
        "5,13": {
          "cpus": "5,13",
          "tasks": []
        },
        "6,14,7,15": {
          "cpus": "6,14,7,15",
          "tasks": []
        }
      },
      "exclusive": true,
      "name": "dataplane"
    }
  }
}
"#;
    assert_eq!(outcome.out, json_at(json, conf.path()));
    assert_eq!(conf.snapshot(), before);
    // Its lock is open to all, so an ordinary user has it.
    fs::set_permissions(conf.path().parent().unwrap(), Permissions::from_mode(0o755)).unwrap();
    assert_eq!(describe_as_nobody(conf.path()).succeeded().err, "");
}

#[test]
fn a_directory_that_is_not_there_or_not_initialised_is_an_error_that_says_how_to_make_one() {
    let folder = tempfile::tempdir().unwrap();
    for (path, cause) in [
        (folder.path().join("absent"), "is no kcm configuration directory"),
        (folder.path().to_owned(), "is no kcm configuration directory"),
    ] {
        let remedy = format!("kcm init --conf-dir={}", path.display());
        describe(&path).failed_with(&[cause, &remedy]);
    }
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "nothing was made");
    let file = folder.path().join("file");
    fs::write(&file, "").unwrap();
    describe(&file).failed_with(&[file.to_str().unwrap(), "Not a directory"]);
}

#[test]
fn pools_behind_a_symbolic_link_are_not_followed_but_the_path_to_them_is() {
    let conf = manuals();
    let link = conf.path().with_file_name("link");
    symlink("kcm", &link).unwrap();
    let outcome = describe(&link).succeeded();
    assert_eq!(outcome.out, json_at(MANUALS_JSON, &link));
    let pools = conf.path().join("pools");
    fs::rename(&pools, conf.path().with_file_name("elsewhere")).unwrap();
    symlink("../elsewhere", &pools).unwrap();
    describe(conf.path()).failed_with(&[pools.to_str().unwrap(), "symbolic link"]);
}

#[test]
fn a_lock_that_somebody_holds_too_long_is_an_error_that_names_them() {
    let conf = manuals();
    let lock = conf.path().join("lock");
    let held = Flock::lock(File::open(&lock).unwrap(), FlockArg::LockExclusive).unwrap();
    let mut command = kcm();
    command.arg("describe").env("KCM_CONF_DIR", conf.path());
    let outcome = run(command.env("KCM_LOCK_TIMEOUT", "0.2"));
    let holder = format!("process {} holds it", std::process::id());
    outcome.failed_with(&[lock.to_str().unwrap(), "200ms", &holder, "KCM_LOCK_TIMEOUT"]);
    drop(held);
    // Other readers do not stand in the way.
    let _shared = Flock::lock(File::open(&lock).unwrap(), FlockArg::LockShared).unwrap();
    describe(conf.path()).succeeded();
}
