//! The kernel, and the kubelet, which may want the same of it.

use std::path::Path;

use kcm_core::CpuSet;
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

/// Whether the scheduler counts exclusive CPUs among those that it gives to everybody; none where
/// there is no kubelet, or nothing exclusive.
pub(super) fn reserved(exclusive: &CpuSet) -> Option<Finding> {
    let check = "reserved";
    let config = files::read_text(Path::new(KUBELET_CONFIG)).ok().flatten()?;
    if exclusive.is_empty() {
        return None;
    }
    let millis = 1000 * exclusive.len() as u64;
    Some(match reserve(&config) {
        Reserve::Cpus(cpus) if exclusive.is_subset(&cpus) => {
            Finding::ok(check, format!("the kubelet keeps CPUs {cpus} to the system"))
        }
        Reserve::Millis(reserved) if reserved >= millis => {
            Finding::ok(check, format!("the kubelet keeps {reserved}m of CPU to the system"))
        }
        _ => Finding::warn(
            check,
            format!(
                "the node's allocatable cpu counts CPUs {exclusive} of exclusive pools: the scheduler \
                 gives them to other pods as well"
            ),
            format!(
                "systemReserved: {{cpu: {millis}m}} in {KUBELET_CONFIG}, beside what the system needs"
            ),
        ),
    })
}

/// What a kubelet's configuration keeps from pods.
enum Reserve {
    Cpus(CpuSet),
    Millis(u64),
}

/// `reservedSystemCPUs`, which replaces the others, or the sum of `systemReserved` and
/// `kubeReserved`. The file is YAML; these keys are read in the form in which kubeadm and
/// everybody's documentation write them.
fn reserve(config: &str) -> Reserve {
    let mut sum = 0;
    let mut is_within = false;
    for line in config.lines() {
        let (key, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.trim().trim_matches(['"', '\'']);
        if !line.starts_with([' ', '\t']) {
            is_within = matches!(key, "systemReserved" | "kubeReserved");
        }
        match key.trim() {
            "reservedSystemCPUs" if !value.is_empty() => {
                return Reserve::Cpus(value.parse().unwrap_or_default());
            }
            "cpu" if is_within => sum += millis(value),
            _ => {}
        }
    }
    Reserve::Millis(sum)
}

/// A Kubernetes quantity of CPU: `2`, `0.5` or `500m`.
fn millis(quantity: &str) -> u64 {
    match quantity.strip_suffix('m') {
        Some(millis) => millis.parse().unwrap_or_default(),
        None => quantity.parse::<f64>().map_or(0, |cpus| (cpus * 1000.0) as u64),
    }
}
