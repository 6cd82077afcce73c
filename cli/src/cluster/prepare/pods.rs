//! The pods, as they are sent to the API server.

use serde_json::{Value, json};

use super::plan::{Plan, Step};
use crate::cluster::TAINT;

/// The label by which all pods of `cluster-init` are watched.
pub(super) const MANAGED_BY: (&str, &str) = ("app.kubernetes.io/managed-by", "kcm-cluster-init");

/// The service account of the pods.
pub(super) const SERVICE_ACCOUNT: &str = "kcm";

/// Where the hook is on the node: the default of `kcm install`.
const HOOK_DIR: &str = "/opt/kcm";

/// A pod.
#[derive(Clone, Debug)]
pub(super) struct Pod {
    /// Its name.
    pub(super) name: String,
    /// Whether it goes on for ever: then running is its success.
    pub(super) is_long: bool,
    /// The whole object.
    pub(super) object: Value,
}

/// The pod of commands that end: each is an init container, the last one the container, because a
/// pod must have one. So each waits for the one before it.
pub(super) fn one_shot(plan: &Plan, steps: &[Step], host: &str) -> Pod {
    let mut containers: Vec<Value> = steps.iter().map(|step| once(plan, *step)).collect();
    let last = containers.split_off(containers.len().saturating_sub(1));
    let mut volumes = vec![
        host_path("host-proc", "/proc", "Directory"),
        host_path("kcm-conf-dir", &plan.conf_dir, "DirectoryOrCreate"),
    ];
    if steps.contains(&Step::Install) {
        volumes.extend(install_volumes(plan));
    }
    let mut spec = json!({
        "restartPolicy": "Never",
        "containers": last,
        "volumes": volumes,
    });
    if !containers.is_empty() {
        spec["initContainers"] = json!(containers);
    }
    pod(plan, steps, host, spec, false)
}

/// The pod of commands that do not end: each a container, on the CPUs of the pool infra.
pub(super) fn long_running(plan: &Plan, steps: &[Step], host: &str) -> Pod {
    let containers: Vec<Value> = steps.iter().map(|step| long(plan, *step)).collect();
    let spec = json!({
        "restartPolicy": "Always",
        "containers": containers,
        "volumes": [
            host_path("host-proc", "/proc", "Directory"),
            host_path("host-cgroup", "/sys/fs/cgroup", "Directory"),
            host_path("kcm-conf-dir", &plan.conf_dir, "DirectoryOrCreate"),
        ],
    });
    pod(plan, steps, host, spec, true)
}

fn pod(plan: &Plan, steps: &[Step], host: &str, mut spec: Value, is_long: bool) -> Pod {
    let names: Vec<&str> = steps.iter().map(|step| step.name()).collect();
    let name = format!("kcm-{}-pod-{host}", names.join("-"));
    spec["nodeName"] = json!(host);
    spec["serviceAccountName"] = json!(SERVICE_ACCOUNT);
    spec["tolerations"] = json!([{"key": TAINT, "operator": "Exists"}]);
    spec["terminationGracePeriodSeconds"] = json!(10);
    let object = json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name,
            "namespace": plan.namespace,
            "labels": {"app.kubernetes.io/name": "kcm", MANAGED_BY.0: MANAGED_BY.1},
        },
        "spec": spec,
    });
    Pod { name, is_long, object }
}

/// A container of a command that ends.
fn once(plan: &Plan, step: Step) -> Value {
    match step {
        Step::Init => container(
            plan,
            step,
            vec![
                "init".to_owned(),
                format!("--num-dp-cores={}", plan.counts.dataplane),
                format!("--num-cp-cores={}", plan.counts.controlplane),
            ],
        ),
        Step::Install => install(plan),
        _ => container(plan, step, vec![step.name().to_owned()]),
    }
}

/// A container of a command that does not end.
fn long(plan: &Plan, step: Step) -> Value {
    let command = match step {
        Step::NodeReport => "node-report",
        _ => step.name(),
    };
    let args = ["isolate", "--pool=infra", "/kcm", "--", command, "--interval=5", "--publish"];
    let mut args = args.map(str::to_owned).to_vec();
    if plan.namespace != "default" {
        args.push(format!("--namespace={}", plan.namespace));
    }
    let mut container = container(plan, step, args);
    append(&mut container["env"], json!({"name": "KCM_CGROUP_FS", "value": "/host/cgroup"}));
    append(
        &mut container["volumeMounts"],
        json!({"name": "host-cgroup", "mountPath": "/host/cgroup", "readOnly": true}),
    );
    container
}

/// Engines are configured, asked and restarted as the node itself sees them, in its own root; the
/// two programs alone only need their folders.
fn install(plan: &Plan) -> Value {
    if plan.engines.is_empty() {
        let mut container = container(plan, Step::Install, vec!["install".to_owned()]);
        for (name, path) in [("kcm-install-dir", "/opt/bin"), ("kcm-hook-dir", HOOK_DIR)] {
            append(&mut container["volumeMounts"], json!({"name": name, "mountPath": path}));
        }
        return container;
    }
    let mut args = vec!["install".to_owned(), "--root=/host".to_owned(), "--restart".to_owned()];
    args.push(format!("--install-dir={}", plan.install_dir));
    args.push(format!("--conf-dir={}", plan.conf_dir));
    args.extend(plan.engines.iter().map(|engine| format!("--runtime={}", engine.name())));
    let mut container = container(plan, Step::Install, args);
    append(&mut container["volumeMounts"], json!({"name": "host-root", "mountPath": "/host"}));
    // To run the node's own engine, and to keep the owner of its files.
    container["securityContext"] = json!({
        "allowPrivilegeEscalation": false,
        "capabilities": {"drop": ["ALL"], "add": ["SYS_CHROOT", "CHOWN"]},
        "readOnlyRootFilesystem": true,
    });
    container
}

fn install_volumes(plan: &Plan) -> Vec<Value> {
    match plan.engines.is_empty() {
        true => vec![
            host_path("kcm-install-dir", &plan.install_dir, "DirectoryOrCreate"),
            host_path("kcm-hook-dir", HOOK_DIR, "DirectoryOrCreate"),
        ],
        false => vec![host_path("host-root", "/", "Directory")],
    }
}

fn container(plan: &Plan, step: Step, args: Vec<String>) -> Value {
    json!({
        "name": step.name(),
        "image": plan.image,
        "imagePullPolicy": plan.pull_policy,
        "command": ["/kcm"],
        "args": args,
        "env": [
            {"name": "KCM_PROC_FS", "value": "/host/proc"},
            {"name": "NODE_NAME", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}},
        ],
        "volumeMounts": [
            {"name": "host-proc", "mountPath": "/host/proc", "readOnly": true},
            {"name": "kcm-conf-dir", "mountPath": "/etc/kcm"},
        ],
    })
}

fn host_path(name: &str, path: &str, kind: &str) -> Value {
    json!({"name": name, "hostPath": {"path": path, "type": kind}})
}

fn append(list: &mut Value, item: Value) {
    if let Some(list) = list.as_array_mut() {
        list.push(item);
    }
}
