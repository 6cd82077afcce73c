//! What is not kcm's stays, is named, and keeps the rest where it is; so does a directory that is
//! not kcm's at all (R14, R15).

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::Command;

use kcm_tests::node::on_a_node;
use kcm_tests::tree::tree;
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;

use super::{full, is_gone, purge};

/// Something of somebody else's at a path, with a victim elsewhere for links and mounts.
type Place = fn(&Path, &Path);

fn write(path: &Path, _: &Path) {
    fs::write(path, "theirs").unwrap();
}

fn folder(path: &Path, _: &Path) {
    fs::create_dir(path).unwrap();
    fs::write(path.join("x"), "theirs").unwrap();
}

fn link(path: &Path, victim: &Path) {
    let _ = fs::remove_dir_all(path).or_else(|_| fs::remove_file(path));
    symlink(victim, path).unwrap();
}

fn fifo(path: &Path, _: &Path) {
    mkfifo(path, Mode::from_bits_truncate(0o600)).unwrap();
}

fn socket(path: &Path, _: &Path) {
    UnixListener::bind(path).unwrap();
}

fn tmpfs(path: &Path, _: &Path) {
    mount(&["-t", "tmpfs", "tmpfs"], path);
    fs::write(path.join("tasks"), "").unwrap();
}

/// Of the same device, so that its number does not tell.
fn bind(path: &Path, victim: &Path) {
    mount(&["--bind", victim.to_str().unwrap()], path);
}

fn bind_file(path: &Path, victim: &Path) {
    mount(&["--bind", victim.join("tasks").to_str().unwrap()], path);
}

fn mount(words: &[&str], path: &Path) {
    assert!(Command::new("mount").args(words).arg(path).status().unwrap().success());
}

/// Moves what was named out of the way, as the message has it.
fn obey(said: &str, path: &Path, elsewhere: &Path) {
    assert!(said.contains("move it out of there (a mount: umount it)"), "{said}");
    let unmounted = Command::new("umount").arg(path).output().unwrap().status.success();
    if !unmounted {
        fs::rename(path, elsewhere.join(path.file_name().unwrap())).unwrap();
    }
}

#[test]
fn what_is_somebody_elses_stays_is_named_and_can_be_moved_away() {
    let cases: &[(&str, &str, Place)] = &[
        ("notes", "a file", write),
        ("backup", "a folder", folder),
        ("pools/notes.txt~", "a file", write),
        ("pools/none", "a folder", folder),
        ("pools/p/notes", "a file", write),
        ("pools/p/3-1", "a folder", folder),
        ("pools/p/7", "a file", write),
        ("pools/p/0/notes", "a file", write),
        ("pools/p/0/tasks", "a symbolic link", link),
        ("pools/p/0", "a symbolic link", link),
        ("pools/q", "a symbolic link", link),
        ("allocations", "a symbolic link", link),
        ("lock", "a symbolic link", link),
        ("allocations/notes", "a file", write),
        ("allocations/a b.json", "a file", write),
        ("allocations/a.json", "a folder", folder),
        ("allocations/b.bad", "a folder", folder),
        ("allocations/c.json", "neither a file nor a folder", fifo),
        ("allocations/d.json", "neither a file nor a folder", socket),
        ("pools/p/0", "a mount", tmpfs),
        ("pools/p", "a mount", bind),
        ("pools/p/0", "a mount", bind),
        ("pools/p/0/tasks", "a mount", bind_file),
        ("allocations", "a mount", tmpfs),
        (".tmp-pools", "a mount", tmpfs),
        (".tmp-pools/notes.txt~", "a file", write),
    ];
    on_a_node(|node| {
        for (name, what, place) in cases {
            let conf = full();
            let victim = node.folder().join("victim");
            fs::create_dir(&victim).unwrap();
            fs::write(victim.join("tasks"), "").unwrap();
            fs::write(victim.join("exclusive"), "1").unwrap();
            let path = conf.path().join(name);
            place(&path, &victim);
            let (before, theirs) = (tree(conf.path()), tree(&victim));
            let named = format!("{} ({what})", path.display());
            let refused = purge(conf.path()).failed_with(&["nothing was changed", &named]);
            assert_eq!(tree(conf.path()), before, "{name}");
            obey(refused.lines("ERROR")[0], &path, node.folder());
            purge(conf.path()).succeeded();
            is_gone(conf.path());
            assert_eq!(tree(&victim), theirs, "{name}");
            fs::remove_dir_all(&victim).unwrap();
        }
    });
}

#[test]
fn what_kcm_sets_aside_may_have_been_anything_but_a_folder() {
    let conf = full();
    fifo(&conf.path().join("allocations/fifo.bad"), Path::new("/"));
    socket(&conf.path().join("allocations/socket.bad"), Path::new("/"));
    let victim = conf.path().with_file_name("victim");
    write(&victim, Path::new("/"));
    symlink(&victim, conf.path().join("allocations/link.bad")).unwrap();
    purge(conf.path()).succeeded();
    is_gone(conf.path());
    assert_eq!(fs::read(&victim).unwrap(), b"theirs");
}

/// Refused without a change: not even a lock is made.
fn is_refused(files: &[(&str, &str)], parts: &[&str]) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("somebodys");
    fs::create_dir(&path).unwrap();
    for (name, text) in files {
        let file: PathBuf = path.join(name);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        match name.ends_with('/') {
            true => fs::create_dir_all(file).unwrap(),
            false => fs::write(file, text).unwrap(),
        }
    }
    let before = tree(&path);
    purge(&path).failed_with(&[&["somebodys stays", "nothing was changed"], parts].concat());
    assert_eq!(tree(&path), before);
}

#[test]
fn a_directory_of_cmk_is_refused_with_what_shows_it() {
    is_refused(
        &[
            ("lock", ""),
            ("pools/dataplane/exclusive", "1"),
            ("pools/dataplane/0/5,13/tasks", "1"),
            ("pools/dataplane/1/6,14/tasks", ""),
        ],
        &["pools/dataplane/", "CMK 1.1"],
    );
    is_refused(
        &[("pools/infra/exclusive", "0"), ("pools/infra/0/0-4,8-12/tasks", "")],
        &["pools/infra/0", "CMK 1.1"],
    );
}

#[test]
fn a_directory_with_a_folder_pools_is_not_for_that_kcms() {
    for files in [
        &[("pools/", "")] as &[(&str, &str)],
        &[("pools/a/data", "1"), ("lock", "")],
        &[("pools/0/tasks", ""), ("index.html", "x")],
        &[("pools", "a file")],
        &[("index.html", "x")],
        &[("lock", "12\n")],
        &[("lock", ""), ("allocations/some.json", "{}")],
    ] {
        is_refused(files, &["is no kcm configuration directory", "--conf-dir"]);
    }
    // With all that makes it kcm's, and more.
    let files = [("pools/p/exclusive", "1"), ("pools/p/0/tasks", ""), ("index.html", "x")];
    is_refused(&files, &["index.html (a file)"]);
}

#[test]
fn a_name_that_is_no_text_is_found_before_anything_is_removed() {
    for folder in ["", "pools", "pools/p", "pools/p/0", "allocations", ".tmp-pools/r"] {
        let conf = full();
        let name = std::ffi::OsStr::from_bytes(b"x\xff");
        fs::write(conf.path().join(folder).join(name), "").unwrap();
        let before = tree(conf.path());
        purge(conf.path()).failed_with(&["nothing was changed", "x\u{fffd} (its name is no text)"]);
        assert_eq!(tree(conf.path()), before);
    }
}

#[test]
fn a_name_does_not_forge_a_line_and_only_so_many_are_named() {
    let conf = full();
    for number in 0..100 {
        fs::write(conf.path().join(format!("x\nERROR \u{202e}{number}")), "").unwrap();
    }
    let refused = purge(conf.path()).failed_with(&["x\\nERROR \\u{202e}", "and 92 more"]);
    assert!(!refused.err.contains('\u{202e}') && refused.err.len() < 4096, "{refused:?}");
}
