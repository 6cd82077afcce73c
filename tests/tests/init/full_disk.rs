//! A full disk: everything is as it was before, and the error says so.

use std::fs;

use super::machine::{MANUAL, Machine};
use super::pools::MANUALS_TREE;
use super::tmpfs::Tmpfs;
use super::tree::tree;

/// Runs `kcm init` on ever larger file systems until it succeeds; how often it failed. `folder` is
/// where on them, and may have a parent that is not there either.
fn failures_until_it_fits(folder: &str, file_system: impl Fn(usize) -> Tmpfs) -> usize {
    let machine = Machine::new(MANUAL).with_cmdline("isolcpus=0-4,8-12");
    for size in 0..100 {
        let tmpfs = file_system(size);
        let path = tmpfs.path().join(folder);
        let before = tree(tmpfs.path());
        let init = machine.kcm(&["init", "--conf-dir", path.to_str().unwrap()]);
        if init.code == Some(0) {
            assert_eq!(tree(&path), MANUALS_TREE);
            return size;
        }
        let init =
            init.failed_with(&[tmpfs.path().to_str().unwrap(), "No space left", "make room"]);
        assert_eq!(init.lines("INFO"), [""; 0], "nothing was added");
        assert_eq!(tree(tmpfs.path()), before, "{size}");
    }
    panic!("it never fits");
}

#[test]
fn a_disk_without_enough_inodes_is_left_as_it_was() {
    for (folder, inodes) in [("", MANUALS_TREE.len() - 1), ("etc/kcm", MANUALS_TREE.len() + 1)] {
        // One inode is the file system's own root.
        let tmpfs = |inodes| Tmpfs::new(&format!("size=64k,nr_inodes={}", inodes + 1));
        let failures = failures_until_it_fits(folder, tmpfs);
        println!("{folder:?}: {failures} sizes were too small, each was left as it was");
        assert_eq!(failures, inodes, "an error for each inode that is missing");
    }
}

#[test]
fn a_disk_without_enough_blocks_is_left_as_it_was() {
    let tmpfs = |free: usize| {
        let tmpfs = Tmpfs::new("size=64k");
        let filler = vec![0; 64 * 1024 - free * 4096];
        fs::write(tmpfs.path().join("filler"), filler).unwrap();
        tmpfs
    };
    let failures = failures_until_it_fits("kcm", tmpfs);
    println!("{failures} sizes were too small, each was left as it was");
    assert_eq!(failures, 3, "the pools' `exclusive` files have a page each");
}

#[test]
fn leftovers_of_a_killed_init_do_not_keep_a_full_disk_full() {
    let machine = Machine::new(MANUAL);
    let tmpfs = Tmpfs::new("size=64k");
    let path = tmpfs.path().join("kcm");
    for folder in ["a", "b/c"] {
        fs::create_dir_all(path.join(".tmp-pools").join(folder)).unwrap();
    }
    fs::write(path.join("lock"), "").unwrap();
    fs::write(path.join(".tmp-pools/b/large"), [0; 64 * 1024]).unwrap();
    let words = ["init", "--conf-dir", path.to_str().unwrap()];
    machine.kcm(&words).succeeded();
    assert_eq!(tree(&path), MANUALS_TREE);
}
