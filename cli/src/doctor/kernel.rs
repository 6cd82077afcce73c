//! The kernel, and the kubelet, which may want the same of it.

use std::path::Path;

use kcm_core::host::cgroup::Version;
use kcm_core::host::files;

use super::{Finding, Subject};

pub(super) fn cgroups(subject: &Subject) -> Finding {
    let check = "cgroups";
    let release = files::read_text(Path::new("/proc/sys/kernel/osrelease")).ok().flatten();
    let release = release.unwrap_or_default();
    let hierarchy = match subject.machine.hierarchy() {
        Ok(hierarchy) => hierarchy,
        Err(e) => {
            let remedy =
                "mount the cgroup file system, or set KCM_CGROUP_FS to where the host's is";
            return Finding::fail(check, format!("{e:#}"), remedy);
        }
    };
    let version = match hierarchy.version() {
        Version::V1 => "v1",
        Version::V2 => "v2",
    };
    if let Err(e) = hierarchy.at("/").effective_cpus() {
        let remedy = "boot a kernel with CONFIG_CPUSETS, and without cgroup_disable=cpuset";
        return Finding::fail(check, format!("no cpuset controller: {e}"), remedy);
    }
    Finding::ok(check, format!("Linux {}, cpuset controller of cgroup {version}", release.trim()))
}

pub(super) fn procfs(subject: &Subject) -> Finding {
    match subject.machine.procfs() {
        Ok(procfs) => {
            let root = procfs.root().display();
            Finding::ok("procfs", format!("{root} shows the host's processes"))
        }
        Err(e) => {
            let remedy = "run it on the host, or mount the host's /proc and set KCM_PROC_FS to it";
            Finding::fail("procfs", format!("{e:#}"), remedy)
        }
    }
}

/// What a kubelet keeps of its CPU manager.
const KUBELET_STATE: &str = "/var/lib/kubelet/cpu_manager_state";
const KUBELET_CONFIG: &str = "/var/lib/kubelet/config.yaml";

pub(super) fn kubelet() -> Finding {
    let check = "kubelet";
    let read = |path: &str| files::read_text(Path::new(path)).ok().flatten();
    let state = read(KUBELET_STATE);
    let policy = state.as_deref().and_then(|text| {
        let state: serde_json::Value = serde_json::from_str(text).ok()?;
        Some(state["policyName"].as_str()?.to_owned())
    });
    let configured = read(KUBELET_CONFIG).unwrap_or_default().lines().any(|line| {
        let value = line.strip_prefix("cpuManagerPolicy:").map(str::trim);
        value.is_some_and(|value| value.trim_matches('"') == "static")
    });
    if policy.as_deref() == Some("static") || configured {
        return Finding::fail(
            check,
            "its CPU manager policy is static: it sets cpusets of its own, and both would fight",
            format!(
                "set cpuManagerPolicy: none in its configuration, remove {KUBELET_STATE} and restart it"
            ),
        );
    }
    match policy {
        Some(policy) => Finding::ok(check, format!("CPU manager policy {policy}")),
        None => Finding::ok(check, "no CPU manager"),
    }
}
