use super::*;

/// cgroup v2 as files, below a folder.
fn hierarchy(root: &Path) -> Hierarchy {
    std::fs::write(root.join("cgroup.controllers"), "cpuset cpu").unwrap();
    Hierarchy::find(root, "0::/").unwrap()
}

#[test]
fn a_pod_is_known_by_the_names_that_the_kubelets_drivers_give() {
    let folder = tempfile::tempdir().unwrap();
    let hierarchy = hierarchy(folder.path());
    for (container, pod) in [
        (
            "/kubepods.slice/kubepods-pod1_2.slice/cri-containerd-1f.scope",
            Some("kubepods-pod1_2.slice"),
        ),
        (
            "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod1.slice/crio-1f.scope/container",
            Some("kubepods-burstable-pod1.slice"),
        ),
        ("/kubepods/burstable/pod1/1f", Some("pod1")),
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

#[test]
fn all_pods_are_found_of_every_class() {
    let folder = tempfile::tempdir().unwrap();
    let hierarchy = hierarchy(folder.path());
    for path in [
        "kubepods/pod1/c1",
        "kubepods/burstable/pod2/c1/pod9",
        "kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-pod3.slice/c1",
        "system.slice/pod4",
    ] {
        std::fs::create_dir_all(folder.path().join(path)).unwrap();
    }
    let pods = Pod::all(&hierarchy).unwrap();
    let mut names: Vec<_> = pods.iter().map(|pod| pod.cgroup.name()).collect();
    names.sort_unstable();
    assert_eq!(names, ["kubelet-kubepods-pod3.slice", "pod1", "pod2"]);
}

#[test]
fn a_note_is_a_quota_what_systemd_had_and_for_whom_it_was_lifted() {
    for text in ["150000 100000\n1500000\nc1\nc2", "50000 20000\n-\nc1", "50000 20000\n-"] {
        assert_eq!(Lifted::parse(text).unwrap().to_string(), text);
    }
    for bad in ["", "max 100000\n-\nc1", "1 2", "1 2\nx\nc1"] {
        assert_eq!(Lifted::parse(bad), None, "{bad:?}");
    }
}
