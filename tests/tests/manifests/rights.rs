//! Nothing has more rights than the page on them says.

use serde_json::{Value, json};

use super::overlay::{Overlay, overlays};

/// The containers of the DaemonSet, by name.
fn containers(overlay: &Overlay) -> Vec<(&str, &Value)> {
    let spec = &overlay.object("DaemonSet", "kcm-node")["spec"]["template"]["spec"];
    let lists = [&spec["initContainers"], &spec["containers"]];
    let all = lists.into_iter().flat_map(|list| list.as_array().unwrap());
    all.map(|container| (container["name"].as_str().unwrap(), container)).collect()
}

#[test]
fn reconcile_alone_is_privileged() {
    for overlay in overlays() {
        let found = containers(overlay);
        let names: Vec<&str> = found.iter().map(|(name, _)| *name).collect();
        assert_eq!(names, ["init", "install", "reconcile", "node-report", "discover"]);
        for (name, container) in found {
            let context = &container["securityContext"];
            assert_eq!(context["readOnlyRootFilesystem"], json!(true), "{name}");
            if name == "reconcile" {
                assert_eq!(context["privileged"], json!(true));
                continue;
            }
            assert_eq!(context["privileged"], Value::Null, "{name}");
            assert_eq!(context["capabilities"]["drop"], json!(["ALL"]), "{name}");
            let install = name == "install";
            let added = if install { json!(["SYS_CHROOT", "CHOWN"]) } else { Value::Null };
            assert_eq!(context["capabilities"]["add"], added, "{name}");
            assert_eq!(context["allowPrivilegeEscalation"], json!(false), "{name}");
        }
    }
}

#[test]
fn folders_of_the_node_are_mounted_where_they_are_needed_and_else_to_be_read() {
    for overlay in overlays() {
        let mut writable = Vec::new();
        for (name, container) in containers(overlay) {
            for mount in container["volumeMounts"].as_array().unwrap() {
                if mount["readOnly"] != true {
                    writable.push(format!("{name} {}", mount["name"].as_str().unwrap()));
                }
            }
        }
        let expected =
            ["init conf", "install root", "reconcile conf", "reconcile cgroup", "reconcile run"];
        assert_eq!(writable, expected, "{}", overlay.name);
    }
}

#[test]
fn what_guards_a_pool_can_be_read_where_it_is_told() {
    for overlay in overlays() {
        let engine: &[&str] = match overlay.name.starts_with("containerd") {
            true => &["containerd /etc/containerd"],
            false => &["crio /etc/crio", "containers /etc/containers", "share /usr/share"],
        };
        for (name, own) in [
            ("node-report", ["cgroup /host/cgroup", "state /var/lib/kcm"]),
            ("reconcile", ["cgroup /sys/fs/cgroup", "state /var/lib/kcm"]),
        ] {
            let found = containers(overlay);
            let container = found.iter().find(|(other, _)| *other == name).unwrap().1;
            let mounts = container["volumeMounts"].as_array().unwrap().iter().map(|mount| {
                format!(
                    "{} {}",
                    mount["name"].as_str().unwrap(),
                    mount["mountPath"].as_str().unwrap()
                )
            });
            let mounts: Vec<String> = mounts.collect();
            for expected in own.iter().chain(engine) {
                assert!(mounts.contains(&(*expected).to_owned()), "{name} {expected}: {mounts:?}");
            }
        }
    }
}

#[test]
fn the_service_account_may_do_what_the_commands_do() {
    for overlay in overlays() {
        let nodes = json!([
            {"apiGroups": [""], "resources": ["nodes"], "verbs": ["get", "patch"]},
            {"apiGroups": [""], "resources": ["nodes/status"], "verbs": ["patch"]},
        ]);
        assert_eq!(overlay.object("ClusterRole", "kcm")["rules"], nodes);
        let reports = json!([{
            "apiGroups": ["kcm.intel.com"], "resources": ["nodereports", "reconcilereports"],
            "verbs": ["create", "patch"],
        }]);
        assert_eq!(overlay.object("Role", "kcm")["rules"], reports);
        let labels = &overlay.object("Namespace", "kcm-system")["metadata"]["labels"];
        assert_eq!(labels["pod-security.kubernetes.io/enforce"], "privileged");
    }
}
