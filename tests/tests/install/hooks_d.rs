//! podman and CRI-O: one file, where the engine's own configuration has it look.

use kcm_tests::mount::Mount;
use kcm_tests::node::{Node, on_a_node};

use super::{changed, error};

/// Where podman and CRI-O look if nothing is configured.
const FILE: &str = "/usr/share/containers/oci/hooks.d/50-kcm.json";
/// Where they are told to look if that cannot be written.
const ETC_FILE: &str = "/etc/containers/oci/hooks.d/50-kcm.json";
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
      "^kcm\\.intel\\.com/": ".*"
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
fn an_engine_gets_a_file_where_it_looks_by_itself() {
    on_a_node(|node| {
        node.kcm(&["install", "--runtime=podman"]).succeeded();
        assert_eq!(node.read(FILE), HOOK);
        node.kcm(&["uninstall", "--runtime=podman"]).succeeded();
        must_change(node, "podman", &[FILE]);

        let before = node.files();
        let refused = error(&node.kcm(&["install", "--runtime=crio"]));
        assert!(refused.contains("crio is not installed"), "{refused}");
        assert_eq!(changed(&before, node), [""; 0]);
        node.pretend_program("crio");
        must_change(node, "crio", &[FILE]);
        // The same file serves both.
        node.kcm(&["install", "--runtime=podman"]).succeeded();
        let again = node.kcm(&["install", "--runtime=podman", "--runtime=crio"]).succeeded();
        assert!(again.err.contains("Nothing to change"), "{again:?}");
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
fn an_engine_gets_it_where_its_own_configuration_has_it_look() {
    on_a_node(|node| {
        node.pretend_program("crio");
        for (runtime, table, main, drop_in) in [
            ("podman", "engine", "/etc/containers/containers.conf", "containers.conf.d"),
            ("crio", "crio.runtime", "/etc/crio/crio.conf", "crio.conf.d"),
        ] {
            let drop_in = format!("{}/{drop_in}/90-ours.conf", main.rsplit_once('/').unwrap().0);
            node.write(main, &format!("[{table}]\nhooks_dir = [\"/opt/x\", \"/opt/hooks\"]\n"));
            must_change(node, runtime, &["/opt/hooks/50-kcm.json"]);
            node.write(&drop_in, &format!("[{table}]\nhooks_dir=[\"/opt/y\"] # ours\n"));
            must_change(node, runtime, &["/opt/y/50-kcm.json"]);
            node.write(&drop_in, &format!("[{table}\n"));
            let before = node.files();
            let refused = error(&node.kcm(&["install", &format!("--runtime={runtime}")]));
            assert!(refused.contains("90-ours.conf"), "{refused}");
            assert_eq!(changed(&before, node), [""; 0]);
        }
    });
}

#[test]
fn an_engine_that_looks_where_nothing_can_be_written_is_told_to_look_elsewhere() {
    on_a_node(|node| {
        node.pretend_program("crio");
        let _read_only = Mount::read_only("/usr/share/containers".as_ref());
        for (runtime, table, drop_in) in [
            ("podman", "engine", "/etc/containers/containers.conf.d/50-kcm.conf"),
            ("crio", "crio.runtime", "/etc/crio/crio.conf.d/50-kcm.conf"),
        ] {
            must_change(node, runtime, &[ETC_FILE, drop_in]);
            let flag = format!("--runtime={runtime}");
            let outcome = node.kcm(&["install", &flag]).succeeded();
            assert_eq!(outcome.err.contains("systemctl restart crio"), runtime == "crio");
            let dirs = "[\"/usr/share/containers/oci/hooks.d\", \"/etc/containers/oci/hooks.d\"]";
            let expected = format!("# Made by kcm install.\n[{table}]\nhooks_dir = {dirs}\n");
            assert_eq!((node.read(drop_in), node.read(ETC_FILE)), (expected, HOOK.to_owned()));
            node.kcm(&["uninstall", &flag]).succeeded();
        }
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
