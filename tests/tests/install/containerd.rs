//! containerd: its configuration with a handler `kcm` in it, all else as it was; containerd itself
//! says so.

use std::process::Command;

use kcm_tests::kcm::{bare, run};
use kcm_tests::node::{Node, on_a_node};
use serde_json::Value;

use super::{changed, error};

const CONFIG: &str = "/etc/containerd/config.toml";
const BACKUP: &str = "/etc/containerd/config.toml.kcm-backup";
const BASE_SPEC: &str = "/etc/containerd/kcm-base-spec.json";

/// A user's own: settings, comments, a second runtime.
const USERS: &str = r#"# Ours, 2024
version = 2
oom_score = -5 # never first

[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "registry.example/pause:3.9"

  [plugins."io.containerd.grpc.v1.cri".containerd]
    # needed by systemd
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"

      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        SystemdCgroup = true

    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.slow]
      runtime_type = "io.containerd.runc.v2"
      pod_annotations = ["slow.example/*"]
"#;

/// What containerd makes of its configuration, without the handler `kcm`, sorted.
fn dump() -> (Vec<String>, Vec<String>) {
    let mut containerd = Command::new("containerd");
    bare(&mut containerd);
    let text = run(containerd.args(["config", "dump"])).succeeded().out;
    let mut table = String::new();
    let (mut ours, mut others) = (Vec::new(), Vec::new());
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
        if line.starts_with('[') {
            table = line.to_owned();
        }
        let is_ours = table.contains(".runtimes.kcm]") || table.contains(".runtimes.kcm.");
        if is_ours { &mut ours } else { &mut others }.push(format!("{table} {line}"));
    }
    ours.sort();
    others.sort();
    (ours, others)
}

fn has(lines: &[String], table: &str, line: &str) -> bool {
    lines.iter().any(|found| found.contains(table) && found.ends_with(&format!("] {line}")))
}

fn install(node: &Node, flags: &[&str]) {
    node.kcm(&[&["install", "--runtime=containerd"], flags].concat()).succeeded();
}

#[test]
fn the_users_settings_stay_and_the_handler_is_a_copy_of_the_default_one() {
    on_a_node(|node| {
        node.write(CONFIG, USERS);
        let (none, others) = dump();
        assert!(none.is_empty());
        let before = node.files();
        install(node, &[]);
        let programs = ["/opt/bin/kcm", "/opt/kcm/kcm-hook"];
        let expected = [&[CONFIG, BACKUP, BASE_SPEC], &programs[..]].concat();
        assert_eq!(changed(&before, node), expected);
        assert_eq!(node.read(BACKUP), USERS);

        let (ours, now) = dump();
        assert_eq!(now, others, "another setting is another than before");
        assert!(has(&ours, "kcm", &format!("base_runtime_spec = \"{BASE_SPEC}\"")), "{ours:?}");
        assert!(has(&ours, "kcm", "pod_annotations = [\"kcm.intel.com/*\"]"), "{ours:?}");
        assert!(has(&ours, "kcm.options", "SystemdCgroup = true"), "{ours:?}");
        for line in USERS.lines() {
            assert!(node.read(CONFIG).contains(line), "{line}");
        }

        let installed = node.files();
        let again = node.kcm(&["install", "--runtime=containerd"]).succeeded();
        assert!(again.err.contains("Nothing to change"), "{again:?}");
        assert_eq!(node.files(), installed);
        node.kcm(&["uninstall", "--runtime=containerd"]).succeeded();
        assert_eq!(changed(&before, node), [""; 0]);
    });
}

#[test]
fn the_base_spec_is_containerds_own_with_two_hooks_and_without_limits() {
    on_a_node(|node| {
        install(node, &[]);
        let spec: Value = serde_json::from_str(&node.read(BASE_SPEC)).unwrap();
        let mut ctr = Command::new("ctr");
        bare(&mut ctr);
        let ctr = run(ctr.args(["oci", "spec"])).succeeded().out;
        let mut expected: Value = serde_json::from_str(&ctr).unwrap();
        expected["process"].as_object_mut().unwrap().remove("rlimits");
        expected["process"].as_object_mut().unwrap().remove("apparmorProfile");
        expected["linux"].as_object_mut().unwrap().remove("seccomp");
        let hook = |stage: &str| {
            serde_json::json!([{
                "path": "/opt/kcm/kcm-hook", "args": ["kcm-hook", "--conf-dir=/etc/kcm", stage],
                "env": ["KCM_LOCK_TIMEOUT=10"], "timeout": 20,
            }])
        };
        expected["hooks"] = serde_json::json!({
            "createRuntime": hook("createRuntime"), "poststop": hook("poststop"),
        });
        assert_eq!(spec, expected);
        let mode = node.files()[BASE_SPEC.as_ref() as &std::path::Path].1;
        assert_eq!(mode, 0o600, "a hook in it runs as root");
    });
}

#[test]
fn with_a_default_pool_the_default_handler_calls_the_hook_and_without_one_no_longer() {
    on_a_node(|node| {
        node.write(CONFIG, USERS);
        let before = node.files();
        install(node, &["--default-pool=infra"]);
        let (_, others) = dump();
        assert!(has(&others, "runtimes.runc]", &format!("base_runtime_spec = \"{BASE_SPEC}\"")));
        assert!(has(&others, "runtimes.slow]", "base_runtime_spec = \"\""));
        assert_eq!(node.read(BASE_SPEC).matches("--default-pool=infra").count(), 2);
        install(node, &[]);
        let (_, others) = dump();
        assert!(has(&others, "runtimes.runc]", "base_runtime_spec = \"\""));
        install(node, &["--default-pool=infra"]);
        node.kcm(&["uninstall", "--runtime=containerd"]).succeeded();
        assert_eq!(changed(&before, node), [""; 0]);
    });
}

#[test]
fn a_handlers_own_base_spec_is_kept_in_a_copy_with_our_hooks() {
    on_a_node(|node| {
        let own = "/etc/containerd/own.json";
        node.write(own, r#"{"ociVersion": "1.0.2", "process": {"rlimits": [{"hard": 9}]}}"#);
        let config = USERS.replacen(
            "runc.v2\"\n",
            &format!("runc.v2\"\nbase_runtime_spec = \"{own}\"\n"),
            1,
        );
        node.write(CONFIG, &config);
        let before = node.files();
        for flags in [&[] as &[&str], &["--default-pool=infra"], &["--default-pool=infra"], &[]] {
            install(node, flags);
            let spec: Value = serde_json::from_str(&node.read(BASE_SPEC)).unwrap();
            assert_eq!(spec["process"], serde_json::json!({"rlimits": [{"hard": 9}]}), "{flags:?}");
            assert_eq!(spec["hooks"].as_object().unwrap().len(), 2);
        }
        let (_, others) = dump();
        assert!(has(&others, "runtimes.runc]", &format!("base_runtime_spec = \"{own}\"")));
        node.kcm(&["uninstall", "--runtime=containerd"]).succeeded();
        assert_eq!(changed(&before, node), [""; 0]);
    });
}

#[test]
fn a_file_that_was_changed_since_keeps_the_change_when_kcm_is_taken_out() {
    on_a_node(|node| {
        node.write(CONFIG, USERS);
        install(node, &["--default-pool=infra"]);
        let changed = node.read(CONFIG).replace("oom_score = -5", "oom_score = -7");
        node.write(CONFIG, &changed);
        node.kcm(&["uninstall", "--runtime=containerd"]).succeeded();
        assert_eq!(node.read(CONFIG), USERS.replace("oom_score = -5", "oom_score = -7"));
    });
}

#[test]
fn where_there_is_no_file_one_is_made_and_goes_again() {
    on_a_node(|node| {
        for empty in [None, Some(""), Some("# nothing yet\n")] {
            if let Some(text) = empty {
                node.write(CONFIG, text);
            }
            let before = node.files();
            install(node, &[]);
            let (ours, others) = dump();
            let built_in = "runtime_type = \"io.containerd.runc.v2\"";
            assert!(has(&ours, "runtimes.kcm]", built_in), "{ours:?}");
            assert!(has(&others, "runtimes.runc]", built_in), "{others:?}");
            node.kcm(&["uninstall", "--runtime=containerd"]).succeeded();
            assert_eq!(changed(&before, node), [""; 0], "{empty:?}");
        }
    });
}

#[test]
fn what_cannot_be_edited_is_an_error_and_nothing_is_changed() {
    on_a_node(|node| {
        for (text, part) in [
            ("version = ", "does not parse"),
            ("version = 2\n[plugins", "does not parse"),
            ("version = 1\n[plugins.cri]\nsandbox_image = \"x\"\n", "config migrate"),
            ("[plugins.cri]\nsandbox_image = \"x\"\n", "config migrate"),
            ("version = 2\nplugins = 3\n", "plugins is no table"),
            // containerd itself does not take it.
            ("version = 2\nno_such_setting = [1, \"x\"]\noom_score = \"x\"\n", "containerd"),
        ] {
            node.write(CONFIG, text);
            let before = node.files();
            let refused = error(&node.kcm(&["install", "--runtime=containerd"]));
            assert!(refused.contains(part) && refused.contains("containerd"), "{text}: {refused}");
            assert_eq!(changed(&before, node), [""; 0], "{text}");
        }
    });
}

#[test]
fn a_drop_in_that_takes_the_handler_away_again_is_found_before_anything_is_changed() {
    on_a_node(|node| {
        node.write(CONFIG, &format!("imports = [\"/etc/containerd/x/*.toml\"]\n{USERS}"));
        let drop_in =
            "version = 2\n[plugins.\"io.containerd.grpc.v1.cri\"]\nsandbox_image = \"y\"\n";
        node.write("/etc/containerd/x/1.toml", drop_in);
        let before = node.files();
        let refused = error(&node.kcm(&["install", "--runtime=containerd"]));
        assert!(refused.contains("a file that it imports"), "{refused}");
        assert_eq!(changed(&before, node), [""; 0]);
    });
}

#[test]
fn a_dry_run_prints_what_would_change_and_changes_nothing() {
    on_a_node(|node| {
        node.write(CONFIG, USERS);
        let before = node.files();
        let flags = ["install", "--runtime=containerd", "--runtime=podman", "--dry-run"];
        let out = node.kcm(&flags).succeeded().out;
        assert_eq!(changed(&before, node), [""; 0]);
        for part in [
            "Binary files /dev/null and /opt/bin/kcm differ\n",
            "--- /dev/null\n+++ /etc/containerd/kcm-base-spec.json\n@@ -0,0 +1,",
            "--- /etc/containerd/config.toml\n+++ /etc/containerd/config.toml\n@@ -",
            "+[plugins.\"io.containerd.grpc.v1.cri\".containerd.runtimes.kcm]\n",
            "--- /dev/null\n+++ /usr/share/containers/oci/hooks.d/50-kcm.json\n",
        ] {
            assert!(out.contains(part), "{part:?} is not in {out}");
        }
        let removed = out.lines().filter(|line| line.starts_with('-') && !line.starts_with("---"));
        assert_eq!(removed.count(), 0, "{out}");
        install(node, &["--runtime=podman"]);
        assert_eq!(node.kcm(&flags).succeeded().out, "");
    });
}
