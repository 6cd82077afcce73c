//! The commands do their work with the capabilities that the DaemonSet gives them, and no more. (That
//! systemd restarts an engine for them is tried in the guest.)

use std::fs;
use std::path::Path;
use std::process::Command;

use kcm_tests::conf_dir::ConfDir;
use kcm_tests::kcm::{Outcome, bare, run};
use kcm_tests::mount::Mount;
use kcm_tests::programs::program;

use super::overlay::overlay;

/// Runs `kcm` as the DaemonSet's container of that name would: root, with its capabilities.
fn kcm_as(container: &str, words: &[&str]) -> Outcome {
    let spec = &overlay("crio").object("DaemonSet", "kcm-node")["spec"]["template"]["spec"];
    let lists = [&spec["initContainers"], &spec["containers"]];
    let mut all = lists.into_iter().flat_map(|list| list.as_array().unwrap());
    let found = all.find(|found| found["name"] == container).unwrap();
    let mut set = "-all".to_owned();
    for name in found["securityContext"]["capabilities"]["add"].as_array().into_iter().flatten() {
        set += &format!(",+{}", name.as_str().unwrap().to_lowercase());
    }
    let mut command = Command::new("setpriv");
    bare(&mut command);
    command.arg(format!("--bounding-set={set}")).arg("--inh-caps=-all");
    if found["securityContext"]["allowPrivilegeEscalation"] == false {
        command.arg("--no-new-privs");
    }
    run(command.arg(program("kcm")).args(words))
}

#[test]
fn pools_are_made_and_read_with_no_capability() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("kcm");
    let conf_dir = format!("--conf-dir={}", path.display());
    kcm_as("init", &["init", &conf_dir, "--num-dp-cores=1", "--num-cp-cores=0"]).succeeded();
    assert!(path.join("pools/dataplane/exclusive").is_file());
}

#[test]
fn a_report_is_made_under_the_lock_with_no_capability_and_on_a_mount_that_can_only_be_read() {
    let conf = ConfDir::new(&[("dataplane", true, &["0"])]);
    let _mount = Mount::read_only(conf.path());
    let conf_dir = format!("--conf-dir={}", conf.path().display());
    let outcome = kcm_as("node-report", &["node-report", &conf_dir]).succeeded();
    assert!(outcome.out.contains("\"dataplane\""), "{outcome:?}");
    // Not "reading without the lock", which would be in the log each minute.
    assert_eq!(outcome.err, "");
}

#[test]
fn engines_of_the_node_are_configured_with_the_capabilities_of_install() {
    let node = tempfile::tempdir().unwrap();
    fs::create_dir_all(node.path().join("usr/bin")).unwrap();
    fs::write(node.path().join("usr/bin/podman"), "").unwrap();
    let root = format!("--root={}", node.path().display());
    let words = ["install", root.as_str(), "--runtime=podman"];
    kcm_as("install", &words).succeeded();
    assert!(node.path().join("opt/kcm/kcm-hook").is_file());
    assert!(node.path().join("usr/share/containers/oci/hooks.d/50-kcm.json").is_file());
    // What others do not have, it needs.
    let refused = kcm_as("init", &words);
    assert!(refused.err.contains("cannot change the root to"), "{refused:?}");
}

/// The words of an overlay's container `install`, for the node whose root is this folder.
fn install_words(name: &str, root: &Path) -> Vec<String> {
    let spec = &overlay(name).object("DaemonSet", "kcm-node")["spec"]["template"]["spec"];
    let install = &spec["initContainers"][1];
    assert_eq!(install["name"], "install");
    let words = install["args"].as_array().unwrap().iter();
    let words = words.map(|word| word.as_str().unwrap());
    words.map(|word| word.replace("--root=/host", &format!("--root={}", root.display()))).collect()
}

#[test]
fn a_node_gets_a_default_pool_where_its_kernel_has_no_partitions_unless_an_overlay_has_none() {
    // Each container of a pod is a partition, where there are such.
    let kernel_can = Path::new("/sys/fs/cgroup/cpuset.cpus.isolated").exists();
    for (name, expected) in [("crio", !kernel_can), ("crio-no-default-pool", false)] {
        let node = tempfile::tempdir().unwrap();
        fs::create_dir_all(node.path().join("usr/bin")).unwrap();
        fs::write(node.path().join("usr/bin/crio"), "").unwrap();
        let conf_dir = format!("--conf-dir={}", node.path().join("etc/kcm").display());
        fs::create_dir(node.path().join("etc")).unwrap();
        kcm_as("init", &["init", &conf_dir, "--num-dp-cores=1", "--num-cp-cores=0"]).succeeded();
        let words = install_words(name, node.path());
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        kcm_as("install", &words).succeeded();
        let file = node.path().join("usr/share/containers/oci/hooks.d/50-kcm.json");
        let file: serde_json::Value = serde_json::from_slice(&fs::read(file).unwrap()).unwrap();
        let args = file["hook"]["args"].as_array().unwrap();
        assert_eq!(args.contains(&"--default-pool=infra".into()), expected, "{name}: {file}");
        let allowed = "--allow-none=kube-system,kcm-system";
        assert_eq!(args.contains(&allowed.into()), expected, "{name}: {file}");
        assert_eq!(file["when"]["always"] == true, expected, "{name}: {file}");
    }
}
