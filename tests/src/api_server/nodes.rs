//! Nodes as a kubelet registers them: the shape of the recorded one.

use serde_json::{Value, json};

use super::clock;

/// A Linux node that is ready.
pub(super) fn ready(name: &str) -> Value {
    let fine = |kind: &str, status: &str, reason: &str, message: &str| {
        json!({"type": kind, "status": status, "reason": reason, "message": message,
            "lastHeartbeatTime": clock::now(), "lastTransitionTime": clock::now()})
    };
    let handlers = ["", "crun", "runc"].map(|name| {
        let read_only = name != "crun";
        json!({"name": name,
            "features": {"recursiveReadOnlyMounts": read_only, "userNamespaces": false}})
    });
    json!({
        "kind": "Node", "apiVersion": "v1",
        "metadata": {
            "name": name,
            "labels": {
                "beta.kubernetes.io/arch": "amd64", "beta.kubernetes.io/os": "linux",
                "kubernetes.io/arch": "amd64", "kubernetes.io/hostname": name,
                "kubernetes.io/os": "linux",
            },
            "annotations": {
                "node.alpha.kubernetes.io/ttl": "0",
                "volumes.kubernetes.io/controller-managed-attach-detach": "true",
            },
        },
        "spec": {},
        "status": {
            "capacity": {
                "cpu": "2", "ephemeral-storage": "264212084Ki", "hugepages-1Gi": "0",
                "hugepages-2Mi": "0", "memory": "24684096Ki", "pods": "50",
            },
            "allocatable": {
                "cpu": "2", "ephemeral-storage": "267847642337", "hugepages-1Gi": "0",
                "hugepages-2Mi": "0", "memory": "24581696Ki", "pods": "50",
            },
            "conditions": [
                fine("MemoryPressure", "False", "KubeletHasSufficientMemory",
                    "kubelet has sufficient memory available"),
                fine("DiskPressure", "False", "KubeletHasNoDiskPressure",
                    "kubelet has no disk pressure"),
                fine("PIDPressure", "False", "KubeletHasSufficientPID",
                    "kubelet has sufficient PID available"),
                fine("Ready", "True", "KubeletReady", "kubelet is posting ready status"),
            ],
            "addresses": [
                {"type": "InternalIP", "address": "127.0.0.1"},
                {"type": "Hostname", "address": name},
            ],
            "daemonEndpoints": {"kubeletEndpoint": {"Port": 10250}},
            "nodeInfo": {
                "machineID": "3d1219c7c4c5404aaa1f6d2a48adfda4",
                "systemUUID": "3d1219c7c4c5404aaa1f6d2a48adfda4",
                "bootID": "e8d869ac-776c-4dda-b57f-1bff9fe1c8e8",
                "kernelVersion": "6.18.44-fc-v595", "osImage": "Debian GNU/Linux 12 (bookworm)",
                "containerRuntimeVersion": "containerd://2.3.4", "kubeletVersion": "v1.36.2",
                "kubeProxyVersion": "", "operatingSystem": "linux", "architecture": "amd64",
            },
            "runtimeHandlers": handlers,
            "features": {"supplementalGroupsPolicy": true},
            "declaredFeatures": [
                "ExtendWebSocketsToKubelet", "InPlacePodLevelResourcesVerticalScaling",
                "InPlacePodVerticalScalingInitContainers", "RestartAllContainersOnContainerExits",
            ],
        },
    })
}

/// Whether a DaemonSet's pod can be there: the controller asks for Linux no more than that.
pub(super) fn is_ready(node: &Value) -> bool {
    let conditions = node["status"]["conditions"].as_array().into_iter().flatten();
    conditions
        .into_iter()
        .any(|condition| condition["type"] == "Ready" && condition["status"] == "True")
}

/// Copies extended resources, which have a domain, from what a node has to what it may give away.
pub(super) fn copy_capacity(node: &mut Value) {
    let capacity = node["status"]["capacity"].as_object().cloned().unwrap_or_default();
    let Some(allocatable) = node["status"]["allocatable"].as_object_mut() else { return };
    allocatable.retain(|name, _| !name.contains('/') || capacity.contains_key(name));
    for (name, amount) in capacity.into_iter().filter(|(name, _)| name.contains('/')) {
        allocatable.insert(name, amount);
    }
}
