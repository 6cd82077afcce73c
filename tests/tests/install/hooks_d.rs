//! podman and CRI-O: one file, where the engine's own configuration has it look.

use kcm_tests::mount::Mount;
use kcm_tests::node::{Node, on_a_node};

use super::{changed, error};

const FILE: &str = "/etc/containers/oci/hooks.d/50-kcm.json";
const PACKAGES_FILE: &str = "/usr/share/containers/oci/hooks.d/50-kcm.json";
const PROGRAMS: [&str; 2] = ["/opt/bin/kcm", "/opt/kcm/kcm-hook"];

const HOOK: &str = r#"{
  "version": "1.0.0",
  "hook": {
    "path": "/opt/kcm/kcm-hook",
    "args": [
      "kcm-hook",
      "--conf-dir=/etc/kcm"
    ],
    "env": [
      "KCM_LOCK_TIMEOUT=10"
    ],
    "timeout": 20
  },
  "when": {
    "annotations": {
      "^kcm\\.intel\\.com/pool(\\..+)?$": ".*"
    }
  },
  "stages": [
    "createRuntime",
    "poststop"
  ]
}
"#;

fn with_programs(files: &[&str]) -> Vec<String> {
    let mut all: Vec<String> = files.iter().chain(&PROGRAMS).map(|&path| path.to_owned()).collect();
    all.sort();
    all
}

/// Fails the test unless installing changes these files besides the programs, a second time nothing,
/// and uninstalling restores all.
#[track_caller]
fn must_change(node: &Node, runtime: &str, files: &[&str]) {
    let before = node.files();
    let flag = format!("--runtime={runtime}");
    node.kcm(&["install", &flag]).succeeded();
    assert_eq!(changed(&before, node), with_programs(files));
    let installed = node.files();
    let again = node.kcm(&["install", &flag]).succeeded();
    assert!(again.err.contains("Nothing to change"), "{again:?}");
    assert_eq!(node.files(), installed);
    node.kcm(&["uninstall", &flag]).succeeded();
    assert_eq!(changed(&before, node), [""; 0]);
}

#[test]
fn podman_gets_a_file_in_the_administrators_folder() {
    on_a_node(|node| {
        node.kcm(&["install", "--runtime=podman"]).succeeded();
        assert_eq!(node.read(FILE), HOOK);
        node.kcm(&["uninstall", "--runtime=podman"]).succeeded();
        must_change(node, "podman", &[FILE]);
    });
}

#[test]
fn the_file_says_what_was_asked_for() {
    on_a_node(|node| {
        let flags = ["--conf-dir=/srv/kcm", "--hook-dir=/srv/bin", "--default-pool=infra"];
        let allow = "--allow-none=kube-*,x";
        node.kcm(&[&["install", "--runtime=podman", allow], &flags[..]].concat()).succeeded();
        let file: serde_json::Value = serde_json::from_str(&node.read(FILE)).unwrap();
        let args = ["kcm-hook", "--conf-dir=/srv/kcm", "--default-pool=infra", allow];
        assert_eq!(file["hook"]["args"], serde_json::json!(args));
        assert_eq!(file["hook"]["path"], "/srv/bin/kcm-hook");
        assert_eq!(file["when"], serde_json::json!({"always": true}));
        std::fs::remove_dir_all("/srv/bin").unwrap();
    });
}

#[test]
fn podman_gets_it_where_its_own_configuration_has_it_look() {
    on_a_node(|node| {
        let conf = "/etc/containers/containers.conf";
        node.write(conf, "[engine]\nhooks_dir = [\"/opt/x\", \"/opt/hooks\"]\n");
        must_change(node, "podman", &["/opt/hooks/50-kcm.json"]);
        node.write(
            "/etc/containers/containers.conf.d/9.conf",
            "[engine]\nhooks_dir=[\"/opt/y\"]\n",
        );
        must_change(node, "podman", &["/opt/y/50-kcm.json"]);
        let both = "[engine]\nhooks_dir = [\"/etc/containers/oci/hooks.d\", \"/opt/z\"]\n";
        node.write("/etc/containers/containers.conf.d/9.conf", both);
        must_change(node, "podman", &[FILE]);
        for (text, part) in [("[engine]\nhooks_dir = []\n", "no hooks_dir"), ("[engine", "9.conf")]
        {
            node.write("/etc/containers/containers.conf.d/9.conf", text);
            let before = node.files();
            let refused = error(&node.kcm(&["install", "--runtime=podman"]));
            assert!(refused.contains(part), "{refused}");
            assert_eq!(changed(&before, node), [""; 0]);
        }
    });
}

#[test]
fn crio_gets_it_where_it_looks_and_where_that_is_read_only_it_is_told_to_look_elsewhere() {
    on_a_node(|node| {
        let before = node.files();
        let refused = error(&node.kcm(&["install", "--runtime=crio"]));
        assert!(refused.contains("crio is not installed"), "{refused}");
        assert_eq!(changed(&before, node), [""; 0]);

        node.pretend_program("crio");
        std::fs::create_dir_all("/usr/share/containers/oci/hooks.d").unwrap();
        must_change(node, "crio", &[PACKAGES_FILE]);
        node.write("/etc/crio/crio.conf", "[crio.runtime]\nhooks_dir = [\"/opt/hooks\"]\n");
        must_change(node, "crio", &["/opt/hooks/50-kcm.json"]);

        std::fs::remove_file("/etc/crio/crio.conf").unwrap();
        let _read_only = Mount::read_only("/usr/share/containers".as_ref());
        let drop_in = "/etc/crio/crio.conf.d/50-kcm.conf";
        must_change(node, "crio", &[FILE, drop_in]);
        let outcome = node.kcm(&["install", "--runtime=crio"]).succeeded();
        assert!(outcome.err.contains("systemctl restart crio"), "{outcome:?}");
        let dirs = "[\"/usr/share/containers/oci/hooks.d\", \"/etc/containers/oci/hooks.d\"]";
        let expected = format!("# Made by kcm install.\n[crio.runtime]\nhooks_dir = {dirs}\n");
        assert_eq!((node.read(drop_in), node.read(FILE)), (expected, HOOK.to_owned()));
    });
}

#[test]
fn somebody_elses_file_of_that_name_is_not_removed() {
    on_a_node(|node| {
        node.write(FILE, "{\"version\": \"1.0.0\", \"hook\": {\"path\": \"/usr/bin/other\"}}");
        let before = node.files();
        node.kcm(&["uninstall", "--runtime=podman"]).succeeded();
        assert_eq!(changed(&before, node), [""; 0]);
        // Where ours takes its place, it is kept, and comes back.
        let backup = format!("{FILE}.kcm-backup");
        must_change(node, "podman", &[FILE, &backup]);
    });
}

#[test]
fn a_default_pool_must_be_a_shared_one() {
    on_a_node(|node| {
        node.kcm(&["init", "--num-dp-cores=1", "--num-cp-cores=0"]).succeeded();
        let before = node.files();
        let flags = ["install", "--runtime=podman", "--default-pool=dataplane"];
        let refused = error(&node.kcm(&flags));
        assert!(refused.contains("dataplane is exclusive"), "{refused}");
        assert_eq!(changed(&before, node), [""; 0]);
    });
}
