//! A full, read-only, missing or closed configuration directory: an error that names the file, and
//! everything as before.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods, missing_docs)]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use kcm_tests::conf_dir::ConfDir;
use kcm_tests::hook::HookCall;
use kcm_tests::mount::Mount;
use kcm_tests::programs::copy_to;
use kcm_tests::stand_in::StandIn;
use kcm_tests::tree::tree;

/// As `kcm init` leaves it, with one list held by a live container.
fn with_a_holder(id: &str) -> (ConfDir, StandIn) {
    let conf_dir = ConfDir::new(&[("p", true, &["0", "1"])]);
    let holder = StandIn::new(id);
    HookCall::create(conf_dir.path(), &holder, "p").run().must_succeed();
    (conf_dir, holder)
}

/// Fails the test unless the hook refuses with these words, and changes nothing of the directory
/// or of the container.
#[track_caller]
fn must_refuse_and_change_nothing(call: &HookCall, conf_dir: &Path, c: &StandIn, parts: &[&str]) {
    let before = (tree(conf_dir), c.cgroup().cpus());
    call.run().must_refuse(parts);
    assert_eq!((tree(conf_dir), c.cgroup().cpus()), before);
}

/// Fills a file system but for so many bytes.
fn fill(folder: &Path, all_but: usize) {
    use std::io::Write;
    let mut filler = fs::File::create(folder.join("allocations/filler")).unwrap();
    let mut size = 0;
    while let Ok(written) = filler.write(&[0; 4096]) {
        size += written as u64;
    }
    filler.set_len(size.saturating_sub(all_but as u64)).unwrap();
}

#[test]
fn on_a_full_disk_the_error_names_the_file_and_nothing_has_changed() {
    let (conf_dir, _holder) = with_a_holder("full-holder");
    let _mount = Mount::tmpfs(conf_dir.path(), "size=64k,mode=755");
    let container = StandIn::new("full");
    let call = HookCall::create(conf_dir.path(), &container, "p");
    // A page for the new tasks, one for the record and one for its copy are needed.
    for (free, file) in [(0, ".tmp-0"), (4096, ".tmp-1"), (8192, ".tmp-2")] {
        fill(conf_dir.path(), free);
        let parts = [file, "No space left on device", "make room"];
        must_refuse_and_change_nothing(&call, conf_dir.path(), &container, &parts);
    }
    fill(conf_dir.path(), 12288);
    call.run().must_succeed();
    assert_eq!(conf_dir.tasks("p", "1"), container.pid().to_string());
}

#[test]
fn without_free_inodes_the_error_names_the_file_and_nothing_has_changed() {
    let (conf_dir, _holder) = with_a_holder("inodes-holder");
    let _mount = Mount::tmpfs(conf_dir.path(), "nr_inodes=40,mode=755");
    let mut fillers = Vec::new();
    for n in 0.. {
        let filler = conf_dir.path().join(format!("allocations/filler-{n}"));
        if fs::write(&filler, "").is_err() {
            break;
        }
        fillers.push(filler);
    }
    let container = StandIn::new("inodes");
    let call = HookCall::create(conf_dir.path(), &container, "p");
    // The second is the record, the third its copy.
    for file in [".tmp-0", ".tmp-1", ".tmp-2"] {
        let parts = [file, "No space left on device", "make room"];
        must_refuse_and_change_nothing(&call, conf_dir.path(), &container, &parts);
        fs::remove_file(fillers.pop().unwrap()).unwrap();
    }
    call.run().must_succeed();
}

#[test]
fn a_full_disk_keeps_no_dead_holder_from_being_released() {
    let (conf_dir, mut holder) = with_a_holder("release-holder");
    let _mount = Mount::tmpfs(conf_dir.path(), "size=64k,mode=755");
    fill(conf_dir.path(), 0);
    holder.kill();
    // An empty file takes no page; an inode it needs.
    HookCall::poststop(conf_dir.path(), holder.id()).run().must_succeed();
    assert_eq!(conf_dir.tasks("p", "0"), "");
}

#[test]
fn on_a_read_only_mount_the_error_names_the_lock_and_the_remedy() {
    let (conf_dir, mut holder) = with_a_holder("ro-holder");
    let mount = Mount::read_only(conf_dir.path());
    let container = StandIn::new("ro");
    let call = HookCall::create(conf_dir.path(), &container, "p");
    let parts = ["kcm/lock", "Read-only file system", "mount it writable"];
    must_refuse_and_change_nothing(&call, conf_dir.path(), &container, &parts);
    holder.kill();
    let ran = HookCall::poststop(conf_dir.path(), holder.id()).run().must_succeed();
    assert!(
        ran.stderr.contains("kcm/lock"),
        "a deletion goes on, and the log says: {}",
        ran.stderr
    );
    drop(mount);
    call.run().must_succeed();
}

#[test]
fn without_a_configuration_directory_the_error_names_it_and_how_to_make_one() {
    let folder = tempfile::tempdir().unwrap();
    let (missing, empty) = (folder.path().join("missing"), folder.path().join("empty"));
    fs::create_dir(&empty).unwrap();
    let container = StandIn::new("missing");
    for path in [missing, empty] {
        let before = tree(folder.path());
        let hint = format!("kcm init --conf-dir={}", path.display());
        HookCall::create(&path, &container, "p").run().must_refuse(&[&hint]);
        HookCall::poststop(&path, "missing").run().must_succeed();
        assert_eq!(tree(folder.path()), before, "a hook makes no directory");
    }
}

#[test]
fn a_missing_lock_or_tasks_file_is_made() {
    let (conf_dir, _holder) = with_a_holder("lack-holder");
    fs::remove_file(conf_dir.path().join("lock")).unwrap();
    fs::remove_file(conf_dir.tasks_path("p", "1")).unwrap();
    let container = StandIn::new("lack");
    HookCall::create(conf_dir.path(), &container, "p").run().must_succeed();
    assert_eq!(conf_dir.tasks("p", "1"), container.pid().to_string());
    let lock = fs::metadata(conf_dir.path().join("lock")).unwrap();
    assert_eq!(lock.permissions().mode() & 0o7777, 0o600);
}

#[test]
fn an_ordinary_user_is_told_to_be_root_and_changes_nothing() {
    let (conf_dir, _holder) = with_a_holder("user-holder");
    // Where an ordinary user can reach both: the folders of tests and builds may be closed.
    let folder = tempfile::tempdir().unwrap();
    let hook = folder.path().join("kcm-hook");
    copy_to("kcm-hook", &hook);
    for open in [folder.path(), conf_dir.path().parent().unwrap()] {
        fs::set_permissions(open, fs::Permissions::from_mode(0o755)).unwrap();
    }
    let container = StandIn::new("user");
    let call = HookCall::create(conf_dir.path(), &container, "p").with_program(&hook).under([
        "setpriv",
        "--reuid=65534",
        "--regid=65534",
        "--clear-groups",
        "--",
    ]);
    let parts = ["kcm/lock", "Permission denied", "run it as root"];
    must_refuse_and_change_nothing(&call, conf_dir.path(), &container, &parts);
}
