//! `--default-pool=auto`: infra, where some container of an exclusive pool is no partition of the kernel's.
//! In the guest with Debian 13 the kernel can have them, elsewhere it cannot.

use std::fs;
use std::path::Path;

use kcm_tests::kcm::{Outcome, kcm, run};
use kcm_tests::node::{Node, on_a_node};
use serde_json::Value;

const FILE: &str = "/usr/share/containers/oci/hooks.d/50-kcm.json";

/// The root of the hierarchy tells.
fn kernel_can() -> bool {
    Path::new("/sys/fs/cgroup/cpuset.cpus.isolated").exists()
}

fn init(node: &Node, flags: &[&str]) {
    node.kcm(&[&["init", "--num-dp-cores=1", "--num-cp-cores=0"], flags].concat()).succeeded();
}

/// Installs for an engine; whether there is a default pool then, and what was said.
#[track_caller]
fn auto(node: &Node, engine: &str) -> (bool, Outcome) {
    let runtime = format!("--runtime={engine}");
    let outcome = node.kcm(&["install", &runtime, "--default-pool=auto"]).succeeded();
    let file = node.read(FILE);
    assert_eq!(file.contains("--default-pool=infra"), file.contains("\"always\": true"), "{file}");
    (file.contains("--default-pool=infra"), outcome)
}

/// What guards dataplane, as it is told.
fn guards() -> Value {
    let report = run(kcm().arg("node-report")).succeeded().out;
    let report: Value = serde_json::from_str(&report).unwrap();
    report["checks"]["isolation"]["pools"]["dataplane"].clone()
}

#[test]
fn a_default_pool_of_auto_is_there_where_a_container_may_be_no_partition() {
    on_a_node(|node| {
        node.pretend_program("crio");
        init(node, &[]);
        for (says, of_pods, of_podman) in [
            ("auto", false, true),
            ("auto,required", false, false),
            ("root", false, false),
            ("none", true, true),
        ] {
            init(node, &[&format!("--partition=dataplane={says}")]);
            for (engine, needed) in [("podman", of_podman), ("crio", of_pods)] {
                let (has_one, outcome) = auto(node, engine);
                assert_eq!(has_one, needed || !kernel_can(), "{says} {engine}: {outcome:?}");
                let said = match (has_one, kernel_can(), says) {
                    (false, ..) => "INFO No default pool: ",
                    (true, false, _) => "is a cpuset partition, since this kernel has none.",
                    (true, true, "none") => "since its file partition says none.",
                    (true, true, _) => "that others stand beside is no cpuset partition",
                };
                assert!(outcome.err.contains(said), "{says} {engine}: {outcome:?}");
            }
            // crio's, and so podman's, who shares its file; containerd is not wired.
            let guards = guards();
            let has_one = of_pods || !kernel_can();
            let expected = if has_one { "partly" } else { "missing" };
            assert_eq!(guards["defaultPool"]["state"], expected, "{says}: {guards}");
            let partition = match (kernel_can(), says) {
                (false, _) | (_, "none") => "missing",
                (true, "auto") => "partly",
                (true, _) => "holds",
            };
            assert_eq!(guards["partition"]["state"], partition, "{says}: {guards}");
        }
    });
}

#[test]
fn whatever_is_wrong_with_the_pools_an_installation_with_auto_goes_on() {
    on_a_node(|node| {
        // None was made yet.
        let (has_one, outcome) = auto(node, "podman");
        assert!(has_one && outcome.err.contains("WARNING there is no /etc/kcm yet"), "{outcome:?}");
        init(node, &[]);
        let dataplane = "/etc/kcm/pools/dataplane";
        fs::write(format!("{dataplane}/partition"), "x").unwrap();
        let (has_one, outcome) = auto(node, "podman");
        let why = if kernel_can() { "is damaged" } else { "this kernel has none" };
        assert!(has_one && outcome.err.contains(why), "{outcome:?}");
        fs::remove_file(format!("{dataplane}/partition")).unwrap();
        fs::write(format!("{dataplane}/exclusive"), "x").unwrap();
        let (has_one, outcome) = auto(node, "podman");
        assert!(has_one && outcome.err.contains("pool dataplane cannot be read"), "{outcome:?}");
        fs::write(format!("{dataplane}/exclusive"), "1").unwrap();

        // It would keep nobody anywhere.
        for (text, why) in [("1", "infra, which is exclusive"), ("x", "infra, which is not there")]
        {
            fs::write("/etc/kcm/pools/infra/exclusive", text).unwrap();
            let (has_one, outcome) = auto(node, "podman");
            let lines = outcome.lines("WARNING");
            assert!(!has_one && lines.iter().any(|line| line.contains(why)), "{outcome:?}");
        }
        fs::write("/etc/kcm/pools/infra/exclusive", "0").unwrap();
        // Nothing to keep anybody off.
        for list in fs::read_dir(dataplane).unwrap().map(|entry| entry.unwrap().path()) {
            if list.is_dir() {
                fs::remove_dir_all(list).unwrap();
            }
        }
        let (has_one, outcome) = auto(node, "podman");
        assert!(!has_one && outcome.err.contains("INFO No default pool: "), "{outcome:?}");
        fs::remove_dir_all("/etc/kcm/pools").unwrap();
        fs::write("/etc/kcm/pools", "garbage").unwrap();
        let (has_one, outcome) = auto(node, "podman");
        let said = "WARNING default pool infra, since no pool can be read";
        assert!(has_one && outcome.err.contains(said), "{outcome:?}");
    });
}
