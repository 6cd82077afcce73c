//! The pods are ones that Kubernetes knows, with no field that it does not.

use std::path::PathBuf;
use std::process::Command;

use kcm_tests::kcm::run;

use super::golden::pods;

/// Where `tests/kubernetes-tools` has kubernetes-validate.
fn validate() -> Command {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/kubernetes-tools");
    let found = Command::new(script).output().unwrap();
    assert!(found.status.success(), "{found:?}");
    let folder = PathBuf::from(String::from_utf8(found.stdout).unwrap().trim());
    Command::new(folder.join("kubernetes-validate"))
}

#[test]
fn every_pod_is_valid() {
    let folder = tempfile::tempdir().unwrap();
    let mut files = Vec::new();
    for flags in [
        &[][..],
        &["--runtime=containerd"],
        &["--kcm-cmd-list=init"],
        &["--kcm-cmd-list=nodereport", "--namespace=ops"],
    ] {
        for pod in pods(flags) {
            let file = folder.path().join(format!("{}.yaml", files.len()));
            // JSON is YAML, too.
            std::fs::write(&file, pod.to_string()).unwrap();
            files.push(file);
        }
    }
    assert_eq!(files.len(), 6);
    for version in ["1.36", "1.37"] {
        let outcome = run(validate().args(["--strict", "-k", version]).args(&files)).succeeded();
        let said = format!("{}{}", outcome.out, outcome.err);
        let passed = said.lines().filter(|line| line.contains(" passed for resource ")).count();
        assert_eq!(passed, files.len(), "{said}");
    }
}
