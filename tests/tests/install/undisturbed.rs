//! An installation that fails in the midst of it leaves everything as it was.

use kcm_tests::isolate::Isolate;
use kcm_tests::mount::Mount;
use kcm_tests::node::{Node, on_a_node};
use kcm_tests::programs::program;
use kcm_tests::strace::{SystemCall, Trace};

use super::{changed, error};

fn command(words: &[&str]) -> Isolate {
    Isolate::of([program("kcm")]).words(words)
}

/// The points at which this command changes a file: of those that place something, and that write.
fn points(words: &[&str]) -> Vec<SystemCall> {
    let trace = Trace::of(&command(words), &[]);
    assert!(trace.ran.succeeded(), "{}", trace.ran.stderr);
    let changes = ["rename", "link", "linkat", "fsync", "fchown", "fchmod", "mkdir", "unlink"];
    let is_change = |call: &&SystemCall| {
        changes.contains(&call.name.as_str())
            || call.name == "openat" && call.line.contains("O_CREAT")
            || call.name == "write" && !call.line.starts_with("write(2,")
    };
    // A second name that stays is nobody's loss, and nothing can be done about it.
    let is_tidying = |call: &&SystemCall| call.name == "unlink" && call.line.contains(".kcm-");
    trace.calls.iter().filter(is_change).filter(|call| !is_tidying(call)).cloned().collect()
}

/// Has a command fail at each such point, and fails the test unless it changed all or nothing.
fn changes_all_or_nothing(node: &Node, words: &[&str], undo: &[&str]) {
    let before = node.files();
    let points = points(words);
    let after = node.files();
    assert!(points.len() > 10 && before != after);
    let mut refused = 0;
    for point in &points {
        node.kcm(undo).succeeded();
        assert_eq!(changed(&before, node), [""; 0], "{undo:?}");
        let injection = format!("{}:error=ENOSPC:when={}", point.name, point.nth);
        let ran = Trace::of_injected(&command(words), &[&injection]).ran;
        let now = node.files();
        match ran.status.code() {
            // What could be done without.
            Some(0) => assert!(now == after, "{}: {}", point.line, ran.stderr),
            Some(1) => {
                assert!(ran.stderr.contains("ERROR "), "{}", ran.stderr);
                assert!(
                    now == before,
                    "{}: {:?}: {}",
                    point.line,
                    changed(&before, node),
                    ran.stderr
                );
                refused += 1;
            }
            _ => panic!("{}: {}: {}", point.line, ran.status, ran.stderr),
        }
        // What was left in its way does not hinder it.
        node.kcm(words).succeeded();
        assert!(node.files() == after, "{}", point.line);
    }
    println!("{words:?}: refused at {refused} of {} points", points.len());
    assert!(refused > 10);
}

#[test]
fn an_error_at_any_point_of_an_installation_changes_nothing() {
    on_a_node(|node| {
        let flags = ["--runtime=podman", "--install-dir=/opt/bin"];
        let install = [&["install"], &flags[..]].concat();
        changes_all_or_nothing(node, &install, &[&["uninstall"], &flags[..]].concat());
    });
}

#[test]
fn an_error_at_any_point_of_a_change_of_containerds_configuration_changes_nothing() {
    on_a_node(|node| {
        node.kcm(&["install"]).succeeded();
        changes_all_or_nothing(
            node,
            &["install", "--runtime=containerd"],
            // Without its programs, which are there before.
            &["uninstall", "--runtime=containerd", "--install-dir=/opt/x", "--hook-dir=/opt/x"],
        );
    });
}

#[test]
fn a_disk_of_any_size_has_all_of_it_or_nothing() {
    on_a_node(|node| {
        std::fs::create_dir_all("/opt/kcm").unwrap();
        let mut installed = 0;
        for size in ["64k", "1m", "2m", "16m"] {
            let tmpfs = Mount::tmpfs("/opt/kcm".as_ref(), &format!("size={size}"));
            let before = node.files();
            let outcome = node.kcm(&["install", "--runtime=podman"]);
            if outcome.code == Some(0) {
                installed += 1;
                node.kcm(&["uninstall", "--runtime=podman"]).succeeded();
            } else {
                let refused = error(&outcome);
                assert!(refused.contains("/opt/kcm") && refused.contains("No space"), "{refused}");
            }
            assert_eq!(changed(&before, node), [""; 0], "{size}");
            drop(tmpfs);
        }
        assert!((1..4).contains(&installed), "{installed} of 4 sizes were enough");
    });
}

#[test]
fn a_read_only_file_system_is_named_and_nothing_is_changed() {
    on_a_node(|node| {
        let before = node.files();
        let _read_only =
            ["/etc", "/usr/share/containers"].map(|path| Mount::read_only(path.as_ref()));
        let refused = error(&node.kcm(&["install", "--runtime=podman"]));
        assert!(refused.contains("/etc/containers") && refused.contains("Read-only"), "{refused}");
        assert_eq!(changed(&before, node), [""; 0]);
    });
}
