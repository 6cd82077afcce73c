//! Where the programs and what names them go: to places that are root's alone, where programs run.
//! Whoever else could change them would be root at the next container's start (S6); where the hook
//! does not run, with a default pool no container starts any more (N3). Each message's remedy is
//! followed to the letter, and works.

use std::fs::{self, Permissions};
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, lchown, symlink};
use std::process::{Command, Stdio};

use kcm_tests::mount::Mount;
use kcm_tests::node::{Node, on_a_node};
use serde_json::Value;

use super::{changed, error};

/// Some ordinary user.
const NOBODY: u32 = 65534;

fn mode(path: &str, bits: u32) {
    fs::set_permissions(path, Permissions::from_mode(bits)).unwrap();
}

fn folder(path: &str, bits: u32) {
    fs::create_dir_all(path).unwrap();
    mode(path, bits);
}

fn give_away(path: &str) {
    chown(path, Some(NOBODY), Some(NOBODY)).unwrap();
}

fn run(command: &str) {
    let status = Command::new("sh").args(["-c", command]).status().unwrap();
    assert!(status.success(), "{command}: {status}");
}

/// The command that a message ends with.
fn remedy(said: &str) -> String {
    let (_, remedy) = said.rsplit_once("; ").unwrap_or_else(|| panic!("no remedy: {said}"));
    let command = remedy.split(", or ").next().unwrap().split(" (").next().unwrap();
    command.rsplit(": ").next().unwrap().to_owned()
}

/// Refuses to install, changes nothing, and says it of this place; then does as it is told until
/// the installation succeeds.
fn is_refused(node: &Node, flags: &[&str], part: &str) {
    let words = [&["install"], flags].concat();
    let before = node.files();
    let first = error(&node.kcm(&words));
    assert!(first.contains(part) && first.contains("nothing was changed"), "{part}: {first}");
    let dry = error(&node.kcm(&[&words[..], &["--dry-run"]].concat()));
    assert!(dry.contains(part), "{part}: {dry}");
    assert_eq!(changed(&before, node), [""; 0], "{part}");
    let mut said = first;
    for _ in 0..4 {
        run(&remedy(&said));
        let outcome = node.kcm(&words);
        if outcome.code == Some(0) {
            return;
        }
        said = error(&outcome);
    }
    panic!("the remedy does not help: {said}");
}

type Case = (&'static str, &'static [&'static str], fn());

/// What others may replace, the message's part about it, and how it came to be.
const REPLACEABLE: &[Case] = &[
    ("/opt/kcm can be written by others than root (mode 0777)", &[], || folder("/opt/kcm", 0o777)),
    ("/opt/kcm can be written by others than root (mode 0775)", &[], || folder("/opt/kcm", 0o775)),
    ("/opt/kcm can be written by others", &[], || folder("/opt/kcm", 0o757)),
    ("/opt can be written by others", &[], || mode("/opt", 0o777)),
    ("/opt/bin can be written by others", &[], || folder("/opt/bin", 0o777)),
    ("/opt/kcm belongs to user 65534", &[], || {
        folder("/opt/kcm", 0o755);
        give_away("/opt/kcm");
    }),
    ("/opt/kcm can be written by others", &[], || {
        folder("/opt/kcm", 0o755);
        run("setfacl --modify user:65534:rwx /opt/kcm");
    }),
    ("/opt/loose (by the link /opt/kcm) can be written", &[], || {
        folder("/opt/loose/kcm", 0o755);
        mode("/opt/loose", 0o777);
        symlink("/opt/loose/kcm", "/opt/kcm").unwrap();
    }),
    // The link's own folder.
    ("/opt/a can be written by others", &["--hook-dir=/opt/a/link"], || {
        folder("/opt/a", 0o777);
        symlink("/opt", "/opt/a/link").unwrap();
    }),
    // What is passed on the way back up.
    ("/opt/loose (by the link /opt/kcm) can be written", &[], || {
        folder("/opt/loose/below", 0o755);
        mode("/opt/loose", 0o777);
        symlink("loose/below/../../safe", "/opt/kcm").unwrap();
    }),
    ("/opt/loose (by the link /opt/two) can be written", &[], || {
        folder("/opt/loose", 0o777);
        symlink("/opt/loose", "/opt/two").unwrap();
        symlink("/opt/two", "/opt/kcm").unwrap();
    }),
    // A link to a program, and not of its folder.
    ("/opt/loose (by the link /opt/kcm/kcm-hook) can be written", &[], || {
        folder("/opt/kcm", 0o755);
        folder("/opt/loose", 0o777);
        symlink("/opt/loose/kcm-hook", "/opt/kcm/kcm-hook").unwrap();
    }),
    // Whose it is, decides in a sticky folder.
    ("/opt/kcm belongs to user 65534", &[], || {
        mode("/opt", 0o1777);
        folder("/opt/kcm", 0o755);
        give_away("/opt/kcm");
    }),
    ("/opt/kcm belongs to user 65534", &[], || {
        mode("/opt", 0o1777);
        folder("/opt/safe", 0o755);
        symlink("/opt/safe", "/opt/kcm").unwrap();
        lchown("/opt/kcm", Some(NOBODY), Some(NOBODY)).unwrap();
    }),
    ("/opt/kcm-hook belongs to user 65534", &["--hook-dir=/opt"], || {
        mode("/opt", 0o1777);
        fs::write("/opt/kcm-hook", "").unwrap();
        give_away("/opt/kcm-hook");
    }),
    // A sticky folder of another user's is his.
    ("/opt belongs to user 65534", &[], || {
        mode("/opt", 0o1777);
        give_away("/opt");
    }),
    // What names the hook.
    ("/usr/share/containers/oci/hooks.d can be written by others", &["--runtime=podman"], || {
        folder("/usr/share/containers/oci/hooks.d", 0o777)
    }),
    ("/etc/containerd belongs to user 65534", &["--runtime=containerd"], || {
        give_away("/etc/containerd");
    }),
    ("/etc/containerd/config.toml can be written", &["--runtime=containerd"], || {
        fs::write("/etc/containerd/config.toml", "version = 2\n").unwrap();
        mode("/etc/containerd/config.toml", 0o666);
    }),
];

#[test]
fn a_place_that_others_could_change_is_refused_and_the_remedy_mends_it() {
    for (part, flags, prepare) in REPLACEABLE {
        on_a_node(|node| {
            fs::create_dir_all("/etc/containerd").unwrap();
            prepare();
            is_refused(node, flags, part);
        });
    }
}

#[test]
fn in_another_root_it_is_that_roots_folders_that_count() {
    on_a_node(|node| {
        let root = node.folder().join("root");
        fs::create_dir_all(root.join("opt/kcm")).unwrap();
        let at = |path: &str| root.join(path).to_str().unwrap().to_owned();
        let flag = format!("--root={}", root.display());
        mode(&at("opt"), 0o777);
        let refused = error(&node.kcm(&["install", &flag]));
        assert!(refused.contains(" /opt can be written by others"), "{refused}");
        mode(&at("opt"), 0o755);
        // A link that leads elsewhere within than without.
        fs::create_dir(root.join("data")).unwrap();
        mode(&at("data"), 0o777);
        fs::remove_dir(root.join("opt/kcm")).unwrap();
        symlink("/data", root.join("opt/kcm")).unwrap();
        let refused = error(&node.kcm(&["install", &flag]));
        assert!(refused.contains("/data (by the link /opt/kcm) can be written"), "{refused}");
        assert!(!root.join("data/kcm-hook").exists() && !root.join("opt/bin").exists());
        mode(&at("data"), 0o755);
        node.kcm(&["install", &flag]).succeeded();
    });
}

#[test]
fn what_is_roots_in_a_sticky_folder_of_roots_is_safe() {
    on_a_node(|node| {
        mode("/opt", 0o1777);
        node.kcm(&["install"]).succeeded();
        let again = node.kcm(&["install"]).succeeded();
        assert!(again.err.contains("Nothing to change"), "{again:?}");
        node.kcm(&["install", "--hook-dir=/opt"]).succeeded();
    });
}

#[test]
fn a_hook_of_somebody_elses_is_replaced_and_what_he_has_open_is_not_the_hook() {
    on_a_node(|node| {
        let hook = "/opt/kcm/kcm-hook";
        node.kcm(&["install"]).succeeded();
        let installed = node.files();
        let spoil: &[fn(&str)] = &[
            |hook| give_away(hook),
            |hook| mode(hook, 0o777),
            |hook| run(&format!("setfacl --modify user:65534:rwx {hook}")),
        ];
        for spoil in spoil {
            spoil(hook);
            let mut his = fs::File::options().append(true).open(hook).unwrap();
            node.kcm(&["install"]).succeeded();
            his.write_all(b"#!/bin/sh\n").unwrap();
            let metadata = fs::metadata(hook).unwrap();
            assert_eq!((metadata.uid(), metadata.gid(), metadata.mode() & 0o7777), (0, 0, 0o755));
            assert_eq!(changed(&installed, node), [""; 0]);
        }
    });
}

#[test]
fn where_no_program_can_be_run_none_is_installed_and_the_remedy_mends_it() {
    for (path, flags) in [
        ("/opt/kcm", &["--runtime=podman", "--default-pool=infra"] as &[&str]),
        ("/opt/bin", &[]),
        ("/opt", &["--root=/"]),
    ] {
        on_a_node(|node| {
            folder(path, 0o755);
            let _noexec = Mount::tmpfs(path.as_ref(), "noexec,mode=755");
            let part = format!("{path} is mounted noexec");
            is_refused(node, flags, &part);
            let hook = Command::new("/opt/kcm/kcm-hook").arg("--version").output().unwrap();
            assert!(hook.status.success(), "{hook:?}");
            // Taken away again later: doctor says what the kernel says.
            run(&format!("mount -o remount,noexec {path}"));
            let check = if path == "/opt/bin" { "kcm" } else { "kcm-hook" };
            let (message, remedy) = fails(node, check);
            assert!(message.contains(&part), "{message}");
            run(remedy.split(" (").next().unwrap());
            is_ok(node, check);
        });
    }
}

#[test]
fn a_read_only_file_system_is_named_and_the_remedy_mends_it() {
    for (path, flags) in [("/opt/kcm", &[] as &[&str]), ("/etc", &["--runtime=containerd"])] {
        on_a_node(|node| {
            folder(path, 0o755);
            let _read_only = Mount::read_only(path.as_ref());
            is_refused(node, flags, &format!("Read-only file system, mounted on {path}"));
        });
    }
}

/// A check that fails: its message and remedy.
#[track_caller]
fn fails(node: &Node, check: &str) -> (String, String) {
    let found = finding(node, check);
    assert_eq!(found["status"], "fail", "{found}");
    [&found["message"], &found["remedy"]].map(|text| text.as_str().unwrap().to_owned()).into()
}

#[track_caller]
fn is_ok(node: &Node, check: &str) {
    let found = finding(node, check);
    assert_eq!(found["status"], "ok", "{found}");
}

fn finding(node: &Node, check: &str) -> Value {
    let findings: Value =
        serde_json::from_str(&node.kcm(&["doctor", "--output=json"]).out).unwrap();
    findings.as_array().unwrap().iter().find(|f| f["check"] == check).unwrap().clone()
}

#[test]
fn doctor_fails_where_others_could_change_what_was_installed_and_its_remedy_mends_it() {
    let cases: &[(&str, &str, fn())] = &[
        ("kcm-hook", "/opt/kcm can be written by others", || mode("/opt/kcm", 0o777)),
        ("kcm-hook", "/opt/kcm/kcm-hook belongs to user", || give_away("/opt/kcm/kcm-hook")),
        ("kcm", "/opt/bin belongs to user 65534", || give_away("/opt/bin")),
        ("kcm", "/opt can be written by others", || mode("/opt", 0o777)),
        ("podman", "50-kcm.json can be written", || {
            mode("/usr/share/containers/oci/hooks.d/50-kcm.json", 0o664);
        }),
        ("podman", "hooks.d belongs to user", || give_away("/usr/share/containers/oci/hooks.d")),
        ("containerd", "kcm-base-spec.json belongs to user", || {
            give_away("/etc/containerd/kcm-base-spec.json");
        }),
        ("containerd", "/etc/containerd can be written", || mode("/etc/containerd", 0o777)),
    ];
    on_a_node(|node| {
        node.kcm(&["install", "--runtime=podman", "--runtime=containerd"]).succeeded();
        for (check, part, spoil) in cases {
            is_ok(node, check);
            spoil();
            let (message, remedy) = fails(node, check);
            assert!(message.contains(part), "{part}: {message}");
            run(&remedy);
            is_ok(node, check);
        }
        // What is there, is whole?
        fs::write("/opt/kcm/kcm-hook", "no program").unwrap();
        let (message, remedy) = fails(node, "kcm-hook");
        assert!(message.contains("cannot execute /opt/kcm/kcm-hook"), "{message}");
        assert_eq!(remedy, "kcm install");
        node.kcm(&["install"]).succeeded();
        is_ok(node, "kcm-hook");
    });
}

#[test]
fn a_path_through_a_file_or_a_ring_of_links_is_refused_with_its_name() {
    on_a_node(|node| {
        symlink("/opt/b", "/opt/a").unwrap();
        symlink("/opt/a", "/opt/b").unwrap();
        fs::write("/opt/file", "").unwrap();
        for flag in ["--hook-dir=/opt/a", "--hook-dir=/opt/file"] {
            let refused = error(&node.kcm(&["install", flag]));
            assert!(refused.contains(flag.split_once('=').unwrap().1), "{refused}");
        }
        assert!(!fs::exists("/opt/bin").unwrap());
        // A program under a link that leads nowhere yet is made where that leads.
        symlink("/opt/later/kcm", "/opt/kcm").unwrap();
        node.kcm(&["install"]).succeeded();
        let mut hook = Command::new("/opt/later/kcm/kcm-hook");
        assert!(hook.arg("--version").stdout(Stdio::null()).status().unwrap().success());
    });
}
