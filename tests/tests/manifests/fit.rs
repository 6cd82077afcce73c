//! The parts of an overlay name each other by the names that they have.

use kcm_tests::kcm::{kcm, run};
use serde_json::{Value, json};

use super::overlay::{overlays, root};

fn list<'a>(value: &'a Value, pointer: &str) -> &'a [Value] {
    value.pointer(pointer).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

fn name(object: &Value) -> &str {
    object["metadata"]["name"].as_str().unwrap()
}

#[test]
fn everything_that_has_a_namespace_is_in_kcm_system() {
    let cluster_wide = [
        "ClusterRole",
        "ClusterRoleBinding",
        "CustomResourceDefinition",
        "MutatingAdmissionPolicy",
        "MutatingAdmissionPolicyBinding",
        "Namespace",
        "RuntimeClass",
        "ValidatingAdmissionPolicy",
        "ValidatingAdmissionPolicyBinding",
    ];
    for overlay in overlays() {
        overlay.object("Namespace", "kcm-system");
        for object in &overlay.objects {
            let is_cluster_wide = cluster_wide.contains(&object["kind"].as_str().unwrap());
            let expected = if is_cluster_wide { Value::Null } else { json!("kcm-system") };
            assert_eq!(object["metadata"]["namespace"], expected, "{}", name(object));
        }
    }
}

#[test]
fn bindings_name_what_is_there() {
    for overlay in overlays() {
        for kind in ["ValidatingAdmissionPolicy", "MutatingAdmissionPolicy"] {
            for binding in overlay.of_kind(&format!("{kind}Binding")) {
                let policy = overlay.object(kind, binding["spec"]["policyName"].as_str().unwrap());
                let refers = &binding["spec"]["paramRef"];
                assert_eq!(refers.is_null(), policy["spec"]["paramKind"].is_null());
                if !refers.is_null() {
                    let params = overlay.object("ConfigMap", refers["name"].as_str().unwrap());
                    assert_eq!(refers["namespace"], params["metadata"]["namespace"]);
                    assert_eq!(refers["parameterNotFoundAction"], "Deny");
                    // Should it be gone, the cluster's own pods start nevertheless.
                    let exempt = binding.pointer(
                        "/spec/matchResources/namespaceSelector/matchExpressions/0/values",
                    );
                    assert_eq!(exempt, Some(&json!(["kube-system", "kcm-system"])));
                }
            }
            let bound = overlay.of_kind(&format!("{kind}Binding")).count();
            assert_eq!(bound, overlay.of_kind(kind).count(), "{}", overlay.name);
        }
        for (binding, role) in [("ClusterRoleBinding", "ClusterRole"), ("RoleBinding", "Role")] {
            let binding = overlay.object(binding, "kcm");
            overlay.object(role, binding["roleRef"]["name"].as_str().unwrap());
            assert_eq!(binding["roleRef"]["kind"], role);
            let account =
                json!([{"kind": "ServiceAccount", "name": "kcm", "namespace": "kcm-system"}]);
            assert_eq!(binding["subjects"], account);
        }
        overlay.object("ServiceAccount", "kcm");
    }
}

#[test]
fn the_daemon_set_mounts_what_it_declares_and_runs_this_version() {
    let version = env!("CARGO_PKG_VERSION");
    for overlay in overlays() {
        let daemon_set = overlay.object("DaemonSet", "kcm-node");
        let template = &daemon_set["spec"]["template"];
        assert_eq!(template["spec"]["serviceAccountName"], "kcm");
        assert_eq!(daemon_set["spec"]["selector"]["matchLabels"], template["metadata"]["labels"]);
        let volumes: Vec<&Value> =
            list(template, "/spec/volumes").iter().map(|volume| &volume["name"]).collect();
        let containers = list(template, "/spec/initContainers").iter();
        let mut mounted = Vec::new();
        for container in containers.chain(list(template, "/spec/containers")) {
            assert_eq!(container["image"], format!("localhost/kcm:{version}"));
            let mounts = list(container, "/volumeMounts").iter().map(|mount| &mount["name"]);
            mounted.extend(mounts);
            // `$(NAME)` in an argument is the container's own variable.
            let known: Vec<&str> =
                list(container, "/env").iter().map(|env| env["name"].as_str().unwrap()).collect();
            for argument in list(container, "/args").iter().map(|arg| arg.as_str().unwrap()) {
                if let Some((_, name)) = argument.split_once("$(") {
                    assert!(known.contains(&name.trim_end_matches(')')), "{argument}");
                }
            }
        }
        assert!(mounted.iter().all(|name| volumes.contains(name)), "{mounted:?}");
        assert!(volumes.iter().all(|name| mounted.contains(name)), "{volumes:?}");
    }
}

#[test]
fn prometheus_and_the_kubelet_look_where_reconcile_listens() {
    for overlay in overlays() {
        let template = &overlay.object("DaemonSet", "kcm-node")["spec"]["template"];
        let reconcile = &list(template, "/spec/containers")[0];
        assert_eq!(reconcile["name"], "reconcile");
        assert!(list(reconcile, "/args").contains(&json!("--metrics-addr=0.0.0.0:9810")));
        assert_eq!(reconcile["ports"], json!([{"name": "metrics", "containerPort": 9810}]));
        assert_eq!(
            reconcile["readinessProbe"]["httpGet"],
            json!({"path": "/healthz", "port": "metrics"})
        );
        let expected = json!({
            "prometheus.io/scrape": "true", "prometheus.io/port": "9810", "prometheus.io/path": "/metrics",
        });
        assert_eq!(template["metadata"]["annotations"], expected);
    }
}

#[test]
fn each_overlay_is_for_its_engine() {
    for overlay in overlays() {
        let containerd = overlay.name.starts_with("containerd");
        let template = &overlay.object("DaemonSet", "kcm-node")["spec"]["template"];
        let install = &list(template, "/spec/initContainers")[1];
        let runtime = if containerd { "--runtime=containerd" } else { "--runtime=crio" };
        let mut expected = vec!["install", "--root=/host", runtime, "--restart"];
        if !overlay.name.ends_with("-no-default-pool") {
            expected.extend(["--default-pool=auto", "--allow-none=kube-system,kcm-system"]);
        }
        assert_eq!(install["args"], json!(expected), "{}", overlay.name);
        let class = if containerd { "kcm" } else { "" };
        let params = json!({"exclusivePools": "dataplane", "runtimeClass": class});
        assert_eq!(overlay.params()["data"], params);
        let classes: Vec<&Value> = overlay.of_kind("RuntimeClass").collect();
        assert_eq!(classes.len(), usize::from(containerd));
        for class in classes {
            assert_eq!((name(class), &class["handler"]), ("kcm", &json!("kcm")));
        }
        let defaults = overlay.of_kind("MutatingAdmissionPolicy").count();
        assert_eq!(defaults, usize::from(overlay.name.ends_with("-defaults")));
    }
}

#[test]
fn every_file_is_part_of_an_overlay() {
    let mut folders = vec![root().join("packaging/kubernetes")];
    while let Some(folder) = folders.pop() {
        let listed = std::fs::read_to_string(folder.join("kustomization.yaml")).unwrap_or_default();
        for entry in std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()) {
            let file = entry.file_name().unwrap().to_str().unwrap().to_owned();
            if entry.is_dir() {
                folders.push(entry);
            } else if file != "kustomization.yaml" && file != "README.md" {
                assert!(listed.contains(&file), "{entry:?} is in no kustomization");
            }
        }
    }
}

#[test]
fn the_program_knows_every_flag_that_a_container_is_given() {
    for overlay in overlays() {
        let spec = &overlay.object("DaemonSet", "kcm-node")["spec"]["template"]["spec"];
        let lists = [&spec["initContainers"], &spec["containers"]];
        for container in lists.into_iter().flat_map(|list| list.as_array().unwrap()) {
            let args = container["args"].as_array().unwrap().iter();
            let mut args: Vec<String> = args.map(|arg| arg.as_str().unwrap().to_owned()).collect();
            // What the kubelet would put there.
            for variable in container["env"].as_array().into_iter().flatten() {
                let name = format!("$({})", variable["name"].as_str().unwrap());
                let value = variable["value"].as_str().unwrap_or("name");
                args.iter_mut().for_each(|arg| *arg = arg.replace(&name, value));
            }
            assert!(!args.iter().any(|arg| arg.contains("$(")), "{args:?}");
            run(kcm().args(&args).arg("--help")).succeeded();
            let wrong = run(kcm().args(&args).args(["--no-such-flag", "--help"]));
            assert_eq!(wrong.code, Some(2), "{wrong:?}");
        }
    }
}
