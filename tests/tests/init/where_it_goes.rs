//! Where a configuration directory may be made: nowhere yet, in an empty directory, on a mount
//! point; and where not.

use std::fs;

use super::machine::{MANUAL, Machine};
use super::pools::MANUALS_TREE;
use super::tmpfs::Tmpfs;
use super::tree::tree;
use kcm_tests::kcm::Outcome;

fn machine() -> Machine {
    Machine::new(MANUAL).with_cmdline("isolcpus=0-4,8-12")
}

fn init_at(machine: &Machine, path: &std::path::Path) -> Outcome {
    machine.kcm(&["init", "--conf-dir", path.to_str().unwrap()])
}

#[test]
fn an_empty_directory_is_filled_and_keeps_its_own_mode() {
    let machine = machine();
    fs::create_dir_all(machine.conf_dir()).unwrap();
    machine.kcm(&["init"]).succeeded();
    assert_eq!(tree(&machine.conf_dir()), MANUALS_TREE);
}

#[test]
fn a_mount_point_with_its_lost_and_found_is_empty() {
    let (machine, tmpfs) = (machine(), Tmpfs::new("size=1m"));
    fs::create_dir(tmpfs.path().join("lost+found")).unwrap();
    init_at(&machine, tmpfs.path()).succeeded();
    let made = tree(tmpfs.path()).into_iter();
    let made: Vec<String> = made.filter(|line| !line.contains("lost+found")).collect();
    assert_eq!(made, MANUALS_TREE);
    init_at(&machine, tmpfs.path()).succeeded();
}

#[test]
fn the_path_to_the_directory_may_have_symbolic_links() {
    let machine = machine();
    fs::create_dir(machine.path("real")).unwrap();
    std::os::unix::fs::symlink("real", machine.path("etc")).unwrap();
    machine.kcm(&["init"]).succeeded();
    assert_eq!(tree(&machine.path("real/kcm")), MANUALS_TREE);
}

#[test]
fn somebody_elses_directory_stays_as_it_is() {
    let machine = machine();
    fs::create_dir_all(machine.conf_dir()).unwrap();
    let stray = machine.conf_dir().join("passwd");
    fs::write(&stray, "root").unwrap();
    let before = tree(&machine.conf_dir());
    machine.kcm(&["init"]).failed_with(&["etc/kcm", "\"passwd\"", "--conf-dir"]);
    assert_eq!(tree(&machine.conf_dir()), before);
    // With a file of a name that kcm has, too, its mode must stay.
    fs::write(machine.conf_dir().join("lock"), "theirs").unwrap();
    let before = tree(&machine.conf_dir());
    machine.kcm(&["init"]).failed_with(&["\"passwd\""]);
    assert_eq!(tree(&machine.conf_dir()), before);
}

#[test]
fn a_file_or_a_dangling_link_is_no_place() {
    let machine = machine();
    fs::create_dir(machine.path("etc")).unwrap();
    fs::write(machine.conf_dir(), "").unwrap();
    machine.kcm(&["init"]).failed_with(&["etc/kcm", "Not a directory"]);
    fs::remove_file(machine.conf_dir()).unwrap();
    std::os::unix::fs::symlink("/nowhere/at/all", machine.conf_dir()).unwrap();
    machine.kcm(&["init"]).failed_with(&["etc/kcm", "File exists"]);
}

#[test]
fn on_a_read_only_file_system_nothing_can_be_made_but_compared() {
    let (machine, tmpfs) = (machine(), Tmpfs::new("size=1m"));
    fs::create_dir(tmpfs.path().join("empty")).unwrap();
    init_at(&machine, &tmpfs.path().join("kcm")).succeeded();
    tmpfs.make_read_only();
    for name in ["empty", "new", "new/one"] {
        let init = init_at(&machine, &tmpfs.path().join(name));
        init.failed_with(&[&name[..3], "Read-only file system", "mount it writable"]);
    }
    let before = tree(tmpfs.path());
    init_at(&machine, &tmpfs.path().join("kcm")).succeeded();
    let other = tmpfs.path().join("kcm");
    let words = ["init", "--num-dp-cores=2", "--conf-dir", other.to_str().unwrap()];
    machine.kcm(&words).failed_with(&["4 dataplane cores (2 requested)"]);
    assert_eq!(tree(tmpfs.path()), before);
}
