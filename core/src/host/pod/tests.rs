use super::*;

#[test]
fn a_pod_is_known_by_the_names_that_the_kubelets_drivers_give() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("cgroup.controllers"), "cpuset cpu").unwrap();
    let hierarchy = Hierarchy::find(folder.path(), "0::/").unwrap();
    for (container, pod) in [
        ("/kubepods.slice/kubepods-pod1_2.slice/cri-1f.scope", Some("kubepods-pod1_2.slice")),
        (
            "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod1.slice/crio-1f.scope/container",
            Some("kubepods-burstable-pod1.slice"),
        ),
        ("/kubepods/burstable/pod1/1f", Some("pod1")),
        ("/x/kubepods/pod1/1f", Some("pod1")),
        (
            "/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-pod1.slice/cri-1f.scope",
            Some("kubelet-kubepods-pod1.slice"),
        ),
        ("/kubepods.slice/kubepods-burstable.slice/1f.scope", None),
        ("/machine.slice/machine-libpod_pod_1f.slice/libpod-1f.scope", None),
        ("/system.slice/podman-pod.slice/1f.scope", None),
        ("/pod1/1f", None),
        ("/", None),
    ] {
        let found = Pod::of(&hierarchy.at(container)).map(|pod| pod.cgroup.name().to_owned());
        assert_eq!(found.as_deref(), pod, "{container}");
    }
}
