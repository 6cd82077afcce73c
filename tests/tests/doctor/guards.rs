//! Which guards an exclusive pool has: read from where each stands, whatever is wrong there. doctor and
//! `kcm node-report` say the same, and what they say to do can be typed as it is.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use kcm_tests::kcm::{bare, kcm, run};
use kcm_tests::machine::two_cpus;
use kcm_tests::programs::program;
use serde_json::{Value, json};

use super::findings::{Findings, command};
use super::on_an_installed_node;

const HOOKS_D: &str = "/usr/share/containers/oci/hooks.d/50-kcm.json";
const CONFIG: &str = "/etc/containerd/config.toml";
const BASE_SPEC: &str = "/etc/containerd/kcm-base-spec.json";
const SHIELD: &str = "/var/lib/kcm/shield.json";

/// What node-report says of the pool, seen through a variable; doctor has each message of it, and warns
/// where that is not in order.
#[track_caller]
pub(super) fn guards_seen(variable: &[(&str, &str)]) -> Value {
    let doctor = Findings::of(&run(command(&[]).envs(variable.iter().copied())));
    let found = doctor.get("isolation");
    let report = run(kcm().arg("node-report").envs(variable.iter().copied())).succeeded().out;
    let report: Value = serde_json::from_str(&report).unwrap();
    let isolation = &report["checks"]["isolation"];
    let guards = &isolation["pools"]["exclusive"];
    for (name, guard) in guards.as_object().unwrap() {
        let message = guard["message"].as_str().unwrap();
        assert!(found.message.contains(message), "{name}: {message}: {found:?}");
        let is_well = ["holds", "unknown"].contains(&guard["state"].as_str().unwrap());
        assert_eq!(guard["remedy"].is_null(), is_well, "{name}: {guard}");
    }
    assert_eq!(isolation["ok"], found.status == "ok", "{found:?}");
    if let Some(remedy) = &found.remedy {
        assert_eq!(isolation["errors"], json!([format!("{}; {remedy}", found.message)]));
    }
    guards.clone()
}

#[track_caller]
fn is(guard: &str, state: &str, message: &str) {
    let found = &guards_seen(&[])[guard];
    assert_eq!((&found["state"], &found["message"]), (&json!(state), &json!(message)));
}

/// Types what helps as it is told.
#[track_caller]
fn type_remedy(guard: &str) {
    let remedy = guards_seen(&[])[guard]["remedy"].as_str().unwrap().to_owned();
    let mut shell = Command::new("sh");
    bare(&mut shell);
    let programs = program("kcm").parent().unwrap().display().to_string();
    let path = format!("{programs}:{}", std::env::var("PATH").unwrap());
    run(shell.env("PATH", path).args(["-c", &remedy])).succeeded();
}

#[test]
fn a_default_pool_is_what_the_engines_own_files_say_and_the_remedy_makes_it_so() {
    on_an_installed_node(|node| {
        is("defaultPool", "missing", "no default pool (containerd, podman)");
        type_remedy("defaultPool");
        let kept = "containers without a pool run on infra (containerd), infra (podman)";
        is("defaultPool", "holds", kept);
        node.kcm(&["install", "--runtime=podman"]).succeeded();
        let partly =
            "containers without a pool run on infra (containerd); no default pool (podman)";
        is("defaultPool", "partly", partly);
        type_remedy("defaultPool");
        is("defaultPool", "holds", kept);

        // The flag alone has nobody call the hook.
        let ours = node.read(HOOKS_D);
        let always = r#""always": true"#;
        assert!(ours.contains(always));
        node.write(
            HOOKS_D,
            &ours.replace(always, r#""annotations": {"^kcm\\.intel\\.com/": ".*"}"#),
        );
        is("defaultPool", "partly", partly);
        node.write(HOOKS_D, &ours);
        let config = node.read(CONFIG);
        let default = config.replacen(BASE_SPEC, "/etc/containerd/another.json", 1);
        node.write(CONFIG, &default);
        let partly =
            "containers without a pool run on infra (podman); no default pool (containerd)";
        is("defaultPool", "partly", partly);
        node.write(CONFIG, &config);
        // Another directory's is none of this one.
        node.write(HOOKS_D, &ours.replace("--conf-dir=/etc/kcm", "--conf-dir=/srv/kcm"));
        let partly =
            "containers without a pool run on infra (containerd); no default pool (podman)";
        is("defaultPool", "partly", partly);
    });
}

#[test]
fn a_default_pool_that_keeps_nobody_off_is_told_from_one_that_does() {
    on_an_installed_node(|node| {
        type_remedy("defaultPool");
        let [first, second] = two_cpus();
        let said = |why: &str| {
            format!(
                "containers without a pool are to run on infra (containerd), which {why}, infra \
                 (podman), which {why}"
            )
        };
        let exclusive = "/etc/kcm/pools/infra/exclusive";
        node.write(exclusive, "1");
        let doctor = Findings::of(&run(&mut command(&[])));
        let found = doctor.get("isolation");
        assert!(found.message.contains(&said("is exclusive")), "{found:?}");
        node.write(exclusive, "x");
        let report = run(kcm().arg("node-report")).succeeded().out;
        let report: Value = serde_json::from_str(&report).unwrap();
        let isolation = &report["checks"]["isolation"];
        let found = isolation["pools"]["exclusive"]["defaultPool"]["message"].as_str().unwrap();
        assert_eq!(found, said("is not there, or cannot be read"));
        let errors = isolation["errors"].as_array().unwrap();
        assert_eq!(errors.last().unwrap(), "pool infra cannot be read: see configDirectory");
        node.write(exclusive, "0");
        let list = format!("/etc/kcm/pools/infra/{second}");
        let both = format!("/etc/kcm/pools/infra/{first},{second}");
        fs::rename(&list, &both).unwrap();
        is("defaultPool", "missing", &said(&format!("has its CPUs {first}")));
        fs::remove_dir_all(both).unwrap();
        is("defaultPool", "missing", &said("has no CPUs"));
    });
}

#[test]
fn an_engines_file_that_cannot_be_understood_is_named_and_nothing_is_assumed() {
    on_an_installed_node(|node| {
        type_remedy("defaultPool");
        for (path, text, part) in [
            (CONFIG, "version = ", "config.toml: it does not parse"),
            (CONFIG, "imports = [\"a?\"]\nversion = 2\n", "a pattern that kcm does not know"),
            (BASE_SPEC, "{", "kcm-base-spec.json: EOF"),
            (HOOKS_D, "{\"hook\": {\"path\": \"/opt/kcm/kcm-hook\"", "50-kcm.json: EOF"),
        ] {
            let before = node.read(path);
            node.write(path, text);
            let found = &guards_seen(&[])["defaultPool"];
            assert_eq!(found["state"], "unknown", "{path}: {found}");
            let message = found["message"].as_str().unwrap();
            assert!(message.contains("cannot be told: ") && message.contains(part), "{message}");
            node.write(path, &before);
        }
        fs::remove_file(BASE_SPEC).unwrap();
        let partly =
            "containers without a pool run on infra (podman); no default pool (containerd)";
        is("defaultPool", "partly", partly);
    });
}

#[test]
fn the_shield_is_what_its_own_note_says_of_this_boot() {
    on_an_installed_node(|node| {
        let [first, second] = two_cpus();
        let boot_id = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
        let note = |cpus: &str, boot_id: &str| {
            let note = json!({
                "bootId": boot_id.trim(), "confDir": "/etc/kcm", "cpus": cpus, "governor": null,
                "items": [], "latency": null, "refused": [],
            });
            node.write(SHIELD, &note.to_string());
            fs::set_permissions(SHIELD, Permissions::from_mode(0o600)).unwrap();
        };
        is("shield", "missing", "no shield");
        note(&first, &boot_id);
        is("shield", "holds", "shielded");
        note(&second, &boot_id);
        is("shield", "missing", "no shield");
        note(&first, "another");
        is("shield", "missing", "no shield");
        for (spoil, part) in [
            (
                (|| fs::set_permissions(SHIELD, Permissions::from_mode(0o666)).unwrap()) as fn(),
                "can be written by others",
            ),
            (|| fs::write(SHIELD, "{").unwrap(), "shield.json: EOF"),
        ] {
            note(&first, &boot_id);
            spoil();
            let found = &guards_seen(&[])["shield"];
            assert_eq!(found["state"], "unknown", "{found}");
            assert!(found["message"].as_str().unwrap().contains(part), "{found}");
        }
    });
}

#[test]
fn what_cannot_be_seen_is_told_from_what_is_not_there() {
    on_an_installed_node(|node| {
        let blind = guards_seen(&[("KCM_CGROUP_FS", "/nonexistent")]);
        assert_eq!(blind["quota"]["state"], "unknown", "{blind}");
        let said = blind["quota"]["message"].as_str().unwrap();
        assert!(said.starts_with("quotas cannot be told: KCM_CGROUP_FS: "), "{said}");
        // In a container, to which nobody shows the node's own files.
        let proc = node.folder().join("proc");
        std::os::unix::fs::symlink("/proc", &proc).unwrap();
        let inside = guards_seen(&[("KCM_PROC_FS", proc.to_str().unwrap())]);
        let said = "the shield cannot be told: the node's /var/lib/kcm is not mounted here";
        assert_eq!(
            (&inside["shield"]["state"], &inside["shield"]["message"]),
            (&json!("unknown"), &json!(said))
        );
        assert_eq!(inside["quota"]["state"], "holds", "{inside}");
    });
}
