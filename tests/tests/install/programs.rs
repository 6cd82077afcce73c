//! The two programs: where they go, and that they are those that were asked to go there.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::process::{Command, Stdio};

use kcm_tests::kcm::{bare, run};
use kcm_tests::node::on_a_node;
use kcm_tests::programs::{copy, program};

use super::{changed, error};

#[test]
fn without_a_runtime_only_the_two_programs_are_copied() {
    on_a_node(|node| {
        let before = node.files();
        node.kcm(&["install"]).succeeded();
        assert_eq!(changed(&before, node), ["/opt/bin/kcm", "/opt/kcm/kcm-hook"]);
        for (name, path) in [("kcm", "/opt/bin/kcm"), ("kcm-hook", "/opt/kcm/kcm-hook")] {
            assert_eq!(fs::read(path).unwrap(), fs::read(program(name)).unwrap());
            assert_eq!(fs::metadata(path).unwrap().permissions().mode() & 0o7777, 0o755);
        }
        // It is whole, and runs; from there it installs itself, which changes nothing.
        let mut installed = Command::new("/opt/bin/kcm");
        bare(&mut installed);
        let inodes =
            || ["/opt/bin/kcm", "/opt/kcm/kcm-hook"].map(|p| fs::metadata(p).unwrap().ino());
        let inode = inodes();
        let outcome = run(installed.arg("install")).succeeded();
        assert!(outcome.err.contains("Nothing to change"), "{outcome:?}");
        assert_eq!(inodes(), inode);

        node.kcm(&["uninstall"]).succeeded();
        assert_eq!(changed(&before, node), [""; 0]);
        assert!(!fs::exists("/opt/kcm").unwrap());
        let again = node.kcm(&["uninstall"]).succeeded();
        assert!(again.err.contains("Nothing to change"), "{again:?}");
    });
}

#[test]
fn a_program_that_is_being_executed_is_replaced_whole() {
    on_a_node(|node| {
        fs::create_dir_all("/opt/bin").unwrap();
        copy("/bin/sleep".as_ref(), "/opt/bin/kcm".as_ref());
        let mut old = Command::new("/opt/bin/kcm").arg("600").stdin(Stdio::null()).spawn().unwrap();
        node.kcm(&["install"]).succeeded();
        assert_eq!(fs::read("/opt/bin/kcm").unwrap(), fs::read(program("kcm")).unwrap());
        assert!(old.try_wait().unwrap().is_none());
        old.kill().unwrap();
        old.wait().unwrap();
    });
}

#[test]
fn the_folders_are_those_that_are_asked_for_and_must_be_absolute() {
    on_a_node(|node| {
        let before = node.files();
        let flags = ["--install-dir=/opt/a/b", "--hook-dir=/opt/c"];
        node.kcm(&[&["install"], &flags[..]].concat()).succeeded();
        assert_eq!(changed(&before, node), ["/opt/a/b/kcm", "/opt/c/kcm-hook"]);
        node.kcm(&[&["uninstall"], &flags[..]].concat()).succeeded();
        assert_eq!(changed(&before, node), [""; 0]);
        for flag in ["--install-dir=x", "--hook-dir=./x", "--root=x", "--root=/etc/passwd"] {
            let refused = error(&node.kcm(&["install", flag]));
            assert!(refused.contains(flag), "{refused}");
        }
        assert_eq!(changed(&before, node), [""; 0]);
    });
}

#[test]
fn another_root_is_installed_on_as_that_machine_sees_itself() {
    on_a_node(|node| {
        let root = node.folder().join("root");
        fs::create_dir_all(root.join("usr/bin")).unwrap();
        // Its podman, whose presence is all that is asked for.
        fs::write(root.join("usr/bin/podman"), "#!/bin/sh\n").unwrap();
        // A link that means another file within than without.
        fs::create_dir_all(root.join("data/kcm")).unwrap();
        fs::create_dir_all(root.join("opt")).unwrap();
        std::os::unix::fs::symlink("/data/kcm", root.join("opt/kcm")).unwrap();
        let before = node.files();
        let flag = format!("--root={}", root.display());
        node.kcm(&["install", &flag, "--runtime=podman"]).succeeded();
        assert_eq!(changed(&before, node), [""; 0]);
        assert!(root.join("data/kcm/kcm-hook").is_file() && root.join("opt/bin/kcm").is_file());
        let hook =
            fs::read_to_string(root.join("usr/share/containers/oci/hooks.d/50-kcm.json")).unwrap();
        assert!(hook.contains("\"path\": \"/opt/kcm/kcm-hook\""), "{hook}");
        let refused = error(&node.kcm(&["install", &flag, "--runtime=containerd"]));
        assert!(refused.contains("containerd is not installed"), "{refused}");
        node.kcm(&["uninstall", &flag, "--runtime=podman"]).succeeded();
        assert!(!root.join("data/kcm/kcm-hook").exists());
        assert!(!root.join("usr/share/containers/oci/hooks.d/50-kcm.json").exists());
    });
}

#[test]
fn the_hook_stays_as_long_as_an_engine_calls_it() {
    on_a_node(|node| {
        let before = node.files();
        node.kcm(&["install", "--runtime=podman", "--runtime=containerd"]).succeeded();
        let installed = node.files();
        for (flags, part) in [
            (&["uninstall"] as &[&str], "--runtime=containerd"),
            (&["uninstall", "--runtime=podman"], "containerd still calls /opt/kcm/kcm-hook"),
            (&["uninstall", "--runtime=containerd"], "50-kcm.json"),
        ] {
            let refused = error(&node.kcm(flags));
            assert!(refused.contains(part), "{refused}");
            assert_eq!(node.files(), installed);
        }
        node.kcm(&["uninstall", "--runtime=podman", "--runtime=containerd"]).succeeded();
        assert_eq!(changed(&before, node), [""; 0]);
    });
}

#[test]
fn the_configuration_directory_goes_with_purge_and_only_if_nobody_alive_holds_anything() {
    on_a_node(|node| {
        let before = node.files();
        node.kcm(&["install"]).succeeded();
        node.kcm(&["init", "--num-dp-cores=1", "--num-cp-cores=0"]).succeeded();
        let installed = node.files();
        let list = fs::read_dir("/etc/kcm/pools/dataplane").unwrap().flatten();
        let mut lists = list.filter(|entry| entry.path().is_dir());
        let tasks = lists.next().unwrap().path().join("tasks");
        fs::write(&tasks, std::process::id().to_string()).unwrap();
        let refused = error(&node.kcm(&["uninstall", "--purge"]));
        assert!(refused.contains(&std::process::id().to_string()), "{refused}");
        fs::write(&tasks, "").unwrap();
        assert_eq!(node.files(), installed, "refused, and yet something is gone");

        // No process has that PID (PID_MAX_LIMIT).
        fs::write(&tasks, "4194999").unwrap();
        node.kcm(&["uninstall", "--purge"]).succeeded();
        assert!(!fs::exists("/etc/kcm").unwrap());
        assert_eq!(changed(&before, node), [""; 0]);

        node.kcm(&["init", "--num-dp-cores=1", "--num-cp-cores=0"]).succeeded();
        node.kcm(&["uninstall"]).succeeded();
        assert!(fs::exists("/etc/kcm").unwrap());
    });
}
