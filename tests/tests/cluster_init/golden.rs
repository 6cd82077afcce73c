//! The pods, field by field.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use super::cluster::{cluster, made, made_names, run};

const DEFAULT: &str = "fixtures/cluster-init/default-pods.yaml";

/// The pods of `worker-1` that these flags give, after a run that succeeds.
pub(crate) fn pods(flags: &[&str]) -> Vec<Value> {
    let api = cluster(&["worker-1"]);
    let mut all = vec!["--host-list=worker-1"];
    all.extend(flags);
    run(&api, &all).succeeded();
    made(&api)
}

#[test]
fn the_defaults_give_two_pods() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(DEFAULT);
    let expected: Vec<Value> =
        serde_saphyr::from_multiple(&fs::read_to_string(file).unwrap()).unwrap();
    let made = pods(&[]);
    assert_eq!(made.len(), expected.len());
    for (made, expected) in made.iter().zip(&expected) {
        assert_eq!(made, expected, "{}", serde_json::to_string_pretty(made).unwrap());
    }
}

#[test]
fn each_node_has_its_own() {
    let api = cluster(&["a", "b"]);
    run(&api, &["--all-hosts"]).succeeded();
    let mut names = made_names(&api);
    names.sort();
    assert_eq!(
        names,
        [
            "kcm-init-install-discover-pod-a",
            "kcm-init-install-discover-pod-b",
            "kcm-reconcile-nodereport-pod-a",
            "kcm-reconcile-nodereport-pod-b",
        ]
    );
    for pod in made(&api) {
        let node = pod["spec"]["nodeName"].as_str().unwrap();
        assert!(pod["metadata"]["name"].as_str().unwrap().ends_with(&format!("-pod-{node}")));
    }
}

/// The names of the containers in a list of a pod.
fn names(pod: &Value, list: &str) -> Vec<String> {
    let containers = pod["spec"][list].as_array().into_iter().flatten();
    containers.map(|container| container["name"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn commands_that_end_run_in_the_order_given_and_the_last_is_the_container() {
    // Each pod as its name, its init containers, its containers.
    for (list, expected) in [
        (
            "init,discover,install",
            vec![("init-discover-install", vec!["init", "discover"], vec!["install"])],
        ),
        ("init", vec![("init", vec![], vec!["init"])]),
        ("discover,install", vec![("discover-install", vec!["discover"], vec!["install"])]),
        ("nodereport", vec![("nodereport", vec![], vec!["nodereport"])]),
        (
            "nodereport,install,reconcile",
            vec![
                ("install", vec![], vec!["install"]),
                ("nodereport-reconcile", vec![], vec!["nodereport", "reconcile"]),
            ],
        ),
    ] {
        let pods = pods(&[&format!("--kcm-cmd-list={list}")]);
        assert_eq!(pods.len(), expected.len(), "{list}");
        for (pod, (name, init, main)) in pods.iter().zip(expected) {
            assert_eq!(pod["metadata"]["name"], format!("kcm-{name}-pod-worker-1"));
            assert_eq!(names(pod, "initContainers"), init, "{list}");
            assert_eq!(names(pod, "containers"), main, "{list}");
            assert_eq!(pod["spec"]["initContainers"].is_null(), init.is_empty(), "{list}");
        }
    }
}

/// Where in the first or second pod each flag puts its value.
#[test]
fn each_flag_has_its_place() {
    let image = "registry.example/team/kcm:9@sha256:0";
    let pods = pods(&[
        &format!("--kcm-img={image}"),
        "--kcm-img-pol=Always",
        "--conf-dir=/srv/kcm",
        "--install-dir=/usr/local/bin",
        "--num-dp-cores=8",
        "--num-cp-cores=2",
        "--namespace=ops",
    ]);
    let last_args = ["--", "reconcile", "--interval=5", "--publish", "--namespace=ops"];
    let args = [&["isolate", "--pool=infra", "/kcm"][..], &last_args].concat();
    for (pod, place, value) in [
        (0, "/spec/containers/0/image", json!(image)),
        (1, "/spec/containers/1/image", json!(image)),
        (0, "/spec/initContainers/0/imagePullPolicy", json!("Always")),
        (1, "/spec/containers/0/imagePullPolicy", json!("Always")),
        (0, "/spec/volumes/1/hostPath/path", json!("/srv/kcm")),
        (1, "/spec/volumes/2/hostPath/path", json!("/srv/kcm")),
        // In the container it is where kcm looks for it.
        (0, "/spec/containers/0/volumeMounts/1/mountPath", json!("/etc/kcm")),
        (0, "/spec/volumes/2/hostPath/path", json!("/usr/local/bin")),
        (0, "/spec/initContainers/1/args", json!(["install"])),
        (0, "/spec/initContainers/0/args", json!(["init", "--num-dp-cores=8", "--num-cp-cores=2"])),
        (0, "/metadata/namespace", json!("ops")),
        (1, "/metadata/namespace", json!("ops")),
        (1, "/spec/containers/0/args", json!(args)),
    ] {
        assert_eq!(pods[pod].pointer(place), Some(&value), "{pod} {place}");
    }
}

#[test]
fn an_engine_is_configured_in_the_root_of_the_node() {
    let pods = pods(&["--runtime=containerd", "--runtime=crio", "--conf-dir=/srv/kcm"]);
    let install = &pods[0]["spec"]["initContainers"][1];
    assert_eq!(
        install["args"],
        json!([
            "install",
            "--root=/host",
            "--restart",
            "--install-dir=/opt/bin",
            "--conf-dir=/srv/kcm",
            "--runtime=containerd",
            "--runtime=crio"
        ])
    );
    let root = json!({"name": "host-root", "mountPath": "/host"});
    assert!(install["volumeMounts"].as_array().unwrap().contains(&root));
    // What else the container has is what the DaemonSet's has, and no more.
    assert_eq!(
        install["securityContext"],
        json!({
            "allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true,
            "capabilities": {"drop": ["ALL"], "add": ["SYS_CHROOT", "CHOWN"]},
        })
    );
    let volume = json!({"name": "host-root", "hostPath": {"path": "/", "type": "Directory"}});
    assert!(pods[0]["spec"]["volumes"].as_array().unwrap().contains(&volume));
    assert!(!pods[1]["spec"]["volumes"].as_array().unwrap().contains(&volume));
}
