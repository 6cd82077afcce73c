//! What the check of isolation says of a kernel's partitions: by what the kernel shows, else by its
//! release, and by each pool's own file.

use std::fs;
use std::path::Path;

use kcm_tests::conf_dir::ConfDir;
use kcm_tests::kcm::{kcm, run};
use kcm_tests::node::on_a_node;
use serde_json::{Value, json};

use super::machine::{MANUAL, Machine};
use super::parse;

/// A machine of this release with these files in the cgroup file system that it shows.
fn machine(release: &str, own: &str, cgroups: &[&str]) -> Machine {
    let machine = Machine::new(MANUAL).with_isolated_in_sysfs("1,9");
    let put = |path: &str, text: &str| {
        let path = machine.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    put("proc/sys/kernel/osrelease", release);
    put("proc/self/cgroup", own);
    for name in ["cgroup.controllers", "cpuset.cpus.effective"].iter().chain(cgroups) {
        put(&format!("cgroup/{name}"), "0-15\n");
    }
    machine
}

fn isolation(machine: &Machine, conf: &Path) -> Value {
    let mut command = kcm();
    let command = machine.show_to(command.arg("node-report")).env("KCM_CONF_DIR", conf);
    let outcome = run(command.env("KCM_CGROUP_FS", machine.path("cgroup"))).succeeded();
    parse(&outcome)["checks"]["isolation"].clone()
}

const NEW: (&str, &str, &[&str]) = ("6.12.1\n", "0::/\n", &["cpuset.cpus.isolated"]);

#[test]
fn each_pool_says_for_itself_whether_its_containers_are_partitions() {
    let lists: Vec<String> = (0..6).map(|cpu| cpu.to_string()).collect();
    let names = ["says-nothing", "auto", "root", "isolated", "without", "damaged"];
    let pools: Vec<(&str, bool, [&str; 1])> =
        names.iter().zip(&lists).map(|(name, list)| (*name, true, [list.as_str()])).collect();
    let pools: Vec<(&str, bool, &[&str])> =
        pools.iter().map(|(name, exclusive, list)| (*name, *exclusive, &list[..])).collect();
    let conf = ConfDir::new(&pools);
    for name in &names[1..] {
        let text = match *name {
            "root" => "root required\n",
            "without" => "none",
            name => name,
        };
        fs::write(conf.path().join("pools").join(name).join("partition"), text).unwrap();
    }
    // No engine is seen to call the hook: it may be one whose files kcm does not know.
    let beside_nobody =
        "a container that nobody stands beside (of a pod, of crun) is a cpuset partition (auto)";
    on_a_node(|_| {
        let (release, own, files) = NEW;
        let found = isolation(&machine(release, own, files), conf.path());
        for (name, state, message) in [
            ("says-nothing", "unknown", &format!("{beside_nobody}, but")[..]),
            ("auto", "unknown", &format!("{beside_nobody}, but")[..]),
            ("root", "unknown", "each container is a cpuset partition (root required), but"),
            ("isolated", "unknown", "each container is a cpuset partition (isolated), but"),
            ("without", "missing", "no cpuset partitions, since its file partition says none"),
            ("damaged", "missing", "no cpuset partitions, since its file partition is damaged"),
        ] {
            let guard = &found["pools"][name]["partition"];
            assert_eq!(guard["state"], state, "{name}: {guard}");
            assert!(guard["message"].as_str().unwrap().starts_with(message), "{name}: {guard}");
        }
        // Who holds CPUs cannot be told: that process shows no host. But others are kept off.
        let errors = found["errors"].as_array().unwrap();
        assert_eq!((errors.len(), &found["ok"]), (2, &json!(false)), "{errors:?}");
        let none =
            errors.iter().find(|error| error.as_str().unwrap().contains("pool without")).unwrap();
        let remedy =
            format!("kcm init --partition=without=auto --conf-dir={}", conf.path().display());
        assert!(none.as_str().unwrap().contains(&remedy), "{none}");
    });
}

#[test]
fn a_kernel_is_asked_and_where_its_root_cannot_be_seen_its_release_tells() {
    let conf = ConfDir::new(&[("p", true, &["0"])]);
    let each =
        "a container that nobody stands beside (of a pod, of crun) is a cpuset partition (auto)";
    let none = "no cpuset partitions, since this kernel has none";
    let inside = ["cgroup.events"];
    on_a_node(|_| {
        for (release, own, files, expected) in [
            // The root: what a release can, somebody may have built without.
            ("6.12.1\n", "0::/\n", &["cpuset.cpus.isolated"][..], each),
            ("6.12.1\n", "0::/\n", &[], none),
            // In a container's cgroup namespace.
            ("6.12.1\n", "0::/\n", &inside, each),
            ("6.1.0-49-amd64\n", "0::/\n", &inside, none),
            ("6.12.1\n", "3:cpuset:/x\n0::/\n", &inside, none),
            ("what is this\n", "0::/\n", &inside, none),
        ] {
            let found = isolation(&machine(release, own, files), conf.path());
            let message = found["pools"]["p"]["partition"]["message"].as_str().unwrap();
            assert!(message.starts_with(expected), "{release} {own} {files:?}: {message}");
        }
    });
}
