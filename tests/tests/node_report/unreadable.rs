//! Directories that are not there, cannot be read, or can only be read: a report in any case.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use kcm_tests::conf_dir::ConfDir;
use kcm_tests::kcm::{Outcome, bare, kcm, run};
use kcm_tests::programs::for_any_user;
use nix::fcntl::{Flock, FlockArg};

use super::machine::Machine;
use super::tmpfs::Tmpfs;
use super::{errors, on, parse, sixteen_cpus};

fn pools() -> ConfDir {
    let conf = ConfDir::new(&[("dataplane", true, &["0,8"]), ("infra", false, &["1-7,9-15"])]);
    fs::write(conf.tasks_path("dataplane", "0,8"), "4711").unwrap();
    conf
}

/// Lets everybody read below a path, whose lock is root's alone.
fn let_everybody_in(conf: &ConfDir) {
    let lock = conf.path().join("lock");
    fs::set_permissions(lock, Permissions::from_mode(0o600)).unwrap();
    let folder = conf.path().parent().unwrap();
    fs::set_permissions(folder, Permissions::from_mode(0o755)).unwrap();
}

/// Runs a subcommand as nobody, with no group and no capability.
fn as_nobody(machine: &Machine, conf_dir: &Path, subcommand: &str) -> Outcome {
    fs::set_permissions(machine.path(""), Permissions::from_mode(0o755)).unwrap();
    // The program itself may lie where only root gets to.
    let (_folder, program) = for_any_user("kcm");
    let mut command = Command::new("setpriv");
    bare(&mut command);
    machine.show_to(&mut command).env("KCM_CONF_DIR", conf_dir);
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]);
    run(command.arg(program).arg(subcommand))
}

/// A report without a description, whose one error is what describe says.
#[track_caller]
fn must_say_what_describe_says(report: &Outcome, described: &Outcome, parts: &[&str]) {
    assert_eq!(report.code, Some(0), "{report:?}");
    let json = parse(report);
    assert!(json["description"].is_null(), "{json}");
    let errors = errors(&json);
    assert_eq!(errors, described.lines("ERROR"));
    let [error] = &errors[..] else { panic!("one error: {errors:?}") };
    assert!(parts.iter().all(|part| error.contains(part)), "{parts:?}: {error:?}");
    // The machine is reported all the same.
    let sockets = json["topology"]["sockets"].as_object().unwrap();
    assert_eq!(sockets["0"]["cores"].as_array().unwrap().len(), 8);
}

#[test]
fn a_directory_that_is_not_there_or_not_initialised_is_reported() {
    let machine = sixteen_cpus();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "").unwrap();
    for (path, cause) in [
        (folder.path().join("absent"), "is no kcm configuration directory"),
        (folder.path().to_owned(), "is no kcm configuration directory"),
        (file.clone(), "Not a directory"),
        (file.join("below"), "Not a directory"),
    ] {
        let [report, described] =
            ["node-report", "describe"].map(|subcommand| on(&machine, &path, subcommand));
        let path = path.to_str().unwrap();
        must_say_what_describe_says(&report, &described, &[path, cause]);
    }
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing was made");
}

#[test]
fn a_directory_that_is_closed_to_an_ordinary_user_is_reported() {
    let (machine, conf) = (sixteen_cpus(), pools());
    let_everybody_in(&conf);
    fs::set_permissions(conf.path(), Permissions::from_mode(0o700)).unwrap();
    let [report, described] =
        ["node-report", "describe"].map(|subcommand| as_nobody(&machine, conf.path(), subcommand));
    let parts = [conf.path().to_str().unwrap(), "Permission denied"];
    must_say_what_describe_says(&report, &described, &parts);
}

#[test]
fn one_pool_that_is_closed_to_an_ordinary_user_is_reported_beside_the_others() {
    let (machine, conf) = (sixteen_cpus(), pools());
    let_everybody_in(&conf);
    let pool = conf.path().join("pools/infra");
    fs::set_permissions(&pool, Permissions::from_mode(0o700)).unwrap();
    let report = as_nobody(&machine, conf.path(), "node-report").succeeded();
    let json = parse(&report);
    let [error] = &errors(&json)[..] else { panic!("{json}") };
    assert!(error.contains(pool.to_str().unwrap()) && error.contains("Permission denied"));
    let pools = json["description"]["pools"].as_object().unwrap();
    assert_eq!(pools.keys().collect::<Vec<_>>(), ["dataplane"]);
}

#[test]
fn an_ordinary_user_gets_the_report_without_the_lock_and_is_told_so() {
    let (machine, conf) = (sixteen_cpus(), pools());
    let_everybody_in(&conf);
    let report = as_nobody(&machine, conf.path(), "node-report").succeeded();
    assert_eq!(report.out, on(&machine, conf.path(), "node-report").succeeded().out);
    assert!(errors(&parse(&report)).is_empty());
    let [warning] = report.lines("WARNING")[..] else { panic!("{report:?}") };
    let lock = conf.path().join("lock");
    assert!(warning.contains("without the lock") && warning.contains(lock.to_str().unwrap()));
}

#[test]
fn a_read_only_mount_is_reported_like_any_other() {
    for (with_lock, warnings) in [(true, 0), (false, 1)] {
        let (machine, conf) = (sixteen_cpus(), pools());
        if !with_lock {
            fs::remove_file(conf.path().join("lock")).unwrap();
        }
        let tmpfs = Tmpfs::new("size=1m");
        run(Command::new("cp").arg("-a").arg(conf.path()).arg(tmpfs.path())).succeeded();
        tmpfs.make_read_only();
        let path = tmpfs.path().join("kcm");
        let report = on(&machine, &path, "node-report").succeeded();
        let original = on(&machine, conf.path(), "node-report").succeeded();
        let [from, to] = [conf.path(), &path].map(|path| path.to_str().unwrap());
        assert_eq!(report.out, original.out.replace(from, to));
        assert_eq!(report.lines("WARNING").len(), warnings, "{report:?}");
    }
}

#[test]
fn a_lock_that_somebody_holds_too_long_is_reported_with_its_holder() {
    let (machine, conf) = (sixteen_cpus(), pools());
    let lock = conf.path().join("lock");
    let held = Flock::lock(File::open(&lock).unwrap(), FlockArg::LockExclusive).unwrap();
    let holder = format!("process {} holds it", std::process::id());
    let [report, described] = ["node-report", "describe"].map(|subcommand| {
        let mut command = kcm();
        let command = machine.show_to(command.arg(subcommand));
        run(command.env("KCM_CONF_DIR", conf.path()).env("KCM_LOCK_TIMEOUT", "0.2"))
    });
    must_say_what_describe_says(&report, &described, &[lock.to_str().unwrap(), &holder]);
    drop(held);
    assert!(errors(&parse(&on(&machine, conf.path(), "node-report").succeeded())).is_empty());
}
