//! The overlay that the README shows can be built, and does what it says.

use std::fs;

use kcm_tests::kcm::run;

use super::overlay::{documents, kustomize, root};

#[test]
fn an_overlay_of_ones_own_changes_image_pools_and_numbers() {
    let source = root().join("packaging/kubernetes");
    let readme = fs::read_to_string(source.join("README.md")).unwrap();
    let own = readme.split("```yaml\n").nth(1).unwrap().split("```").next().unwrap();

    let folder = tempfile::tempdir().unwrap();
    let copy = folder.path().join("kubernetes");
    run(std::process::Command::new("cp").arg("-r").args([&source, &copy])).succeeded();
    let overlay = copy.join("overlays/own");
    fs::create_dir(&overlay).unwrap();
    fs::write(overlay.join("kustomization.yaml"), own).unwrap();
    let objects = documents(&kustomize(&overlay));

    let of_kind = |kind| objects.iter().find(|object| object["kind"] == kind).unwrap();
    let data = &of_kind("ConfigMap")["data"];
    assert_eq!(
        (&data["exclusivePools"], &data["runtimeClass"]),
        (&"dataplane,fast".into(), &"kcm".into())
    );
    let pod = &of_kind("DaemonSet")["spec"]["template"]["spec"];
    assert_eq!(pod["nodeSelector"]["example.com/pinned"], "true");
    let args = pod["initContainers"][0]["args"].as_array().unwrap();
    assert_eq!(args.last().unwrap(), "--partition=dataplane=root");
    assert_eq!(args[0], "init");
    for (list, container, variable, value) in [
        ("initContainers", "init", "KCM_NUM_DP_CORES", "8"),
        ("containers", "reconcile", "KCM_RECONCILE_SLEEP_TIME", "30"),
    ] {
        let first = &pod[list][0];
        assert_eq!(first["name"], container);
        assert_eq!(
            (&first["env"][0]["name"], &first["env"][0]["value"]),
            (&variable.into(), &value.into())
        );
        for container in pod[list].as_array().unwrap() {
            assert_eq!(container["image"], "registry.example.com/kcm:0.1.0");
        }
    }
}
