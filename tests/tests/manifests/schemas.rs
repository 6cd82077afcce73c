//! Every object is one that Kubernetes knows, with no field that it does not.

use std::fs;

use kcm_tests::kcm::run;

use super::overlay::{examples, overlays, root, tool};

/// The version that the manifests were recorded on, and the newest that the tool has.
const VERSIONS: [&str; 2] = ["1.36", "1.37"];

#[test]
fn every_object_is_valid() {
    let folder = tempfile::tempdir().unwrap();
    let mut files = Vec::new();
    let mut objects = 0;
    for overlay in overlays() {
        let path = folder.path().join(overlay.name).with_extension("yaml");
        fs::write(&path, &overlay.text).unwrap();
        files.push(path);
        objects += overlay.objects.len();
    }
    for (name, _) in examples() {
        files.push(root().join("examples/pods").join(name).with_extension("yaml"));
        objects += 1;
    }
    for version in VERSIONS {
        let mut validate = tool("kubernetes-validate");
        let outcome = run(validate.args(["--strict", "-k", version]).args(&files)).succeeded();
        let said = format!("{}{}", outcome.out, outcome.err);
        let passed = said.lines().filter(|line| line.contains(" passed for resource ")).count();
        assert_eq!(passed, objects, "{said}");
        assert_eq!(said.lines().count(), objects, "{said}");
    }
}

#[test]
fn a_field_that_kubernetes_does_not_know_is_found() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("odd.yaml");
    let odd = overlays()[0].text.replacen("hostPID:", "hostPid:", 1);
    assert_ne!(odd, overlays()[0].text);
    fs::write(&path, odd).unwrap();
    let outcome = run(tool("kubernetes-validate").args(["--strict", "-k", VERSIONS[0]]).arg(path));
    assert_ne!(outcome.code, Some(0));
    assert!(format!("{}{}", outcome.out, outcome.err).contains("hostPid"), "{outcome:?}");
}
