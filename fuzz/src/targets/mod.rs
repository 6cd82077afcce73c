//! A function for each kind of text that kcm reads and somebody else has written. None may panic or
//! take long, whatever the bytes are; what is read and printed again is the same. `make deep` runs
//! them under libFuzzer; a test of kcm-tests, which has this very file, on what was kept.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods, unreachable_pub)]

mod directory;
mod kernel;
#[allow(dead_code, unreachable_pub)]
#[path = "../../../hook/src/oci.rs"]
mod oci;
mod peer;

use kcm_core::CpuSet;
use kcm_core::allocation::Allocation;
use kcm_core::task::{format_tasks, parse_tasks};
use kcm_core::topology::kernel_cmdline::isolcpus;
use kcm_shim_config::base_spec::{self, Origin};
use kcm_shim_config::hook::{DefaultPool, HookCall};
use kcm_shim_config::hooks_dirs::{self, Reader};
use kcm_shim_config::{containerd, hooks_d};

/// A function that reads bytes.
pub type Target = fn(&[u8]);

/// All of them, by the names of their corpora.
pub const ALL: [(&str, Target); 12] = [
    ("cpu_lists", cpu_lists),
    ("tasks", tasks),
    ("records", records),
    ("oci_state", oci_state),
    ("oci_bundle", oci_bundle),
    ("procfs", kernel::procfs),
    ("cgroups", kernel::cgroups),
    ("kernel_cmdline", kernel_cmdline),
    ("dbus", peer::dbus),
    ("toml", toml),
    ("base_spec", base_spec),
    ("directory", directory::directory),
];

/// The one of this name.
#[allow(dead_code)]
pub fn target(name: &str) -> Target {
    ALL.iter().find(|(other, _)| *other == name).unwrap().1
}

/// A folder of the target's own, in memory where that can be had.
fn folder() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

fn text(data: &[u8]) -> std::borrow::Cow<'_, str> {
    String::from_utf8_lossy(data)
}

fn cpu_lists(data: &[u8]) {
    if let Ok(set) = text(data).parse::<CpuSet>() {
        assert_eq!(set.to_string().parse(), Ok(set));
    }
    let _ = CpuSet::parse_possibly_empty(&text(data));
}

fn tasks(data: &[u8]) {
    let pids = match parse_tasks(&text(data)) {
        Ok(pids) => pids,
        Err((bad, pids)) => {
            assert!(!bad.to_string().contains('\n'));
            pids
        }
    };
    assert_eq!(parse_tasks(&format_tasks(&pids)), Ok(pids));
}

fn records(data: &[u8]) {
    if let Ok(record) = Allocation::from_json(&text(data)) {
        let written = record.to_json();
        // Whatever is written can be read again; what decides is not cut.
        let again = Allocation::from_json(&written).unwrap();
        assert_eq!(
            (&again.owner, &again.lists, &again.process),
            (&record.owner, &record.lists, &record.process)
        );
        assert_eq!((&again.pool, &again.cgroup), (&record.pool, &record.cgroup));
        assert_eq!(again.to_json(), written);
    }
}

fn oci_state(data: &[u8]) {
    if let Ok(state) = oci::State::read(data) {
        let _ = (state.owner(), state.stage_by_status(), state.id());
    }
}

fn oci_bundle(data: &[u8]) {
    if let Ok(bundle) = serde_json::from_slice::<oci::Bundle>(data) {
        let _ = (bundle.cpus().map(str::parse::<CpuSet>), bundle.quota());
    }
}

fn kernel_cmdline(data: &[u8]) {
    for last in [0, 15, 8191] {
        if let Ok(Some(cpus)) = isolcpus(&text(data), last) {
            assert!(cpus.iter().all(|cpu| cpu <= last));
        }
    }
}

fn toml(data: &[u8]) {
    let config = text(data);
    let _ = (containerd::own_base_spec(&config), containerd::imports(&config));
    let _ = containerd::has_handler(&config, "/opt/kcm/spec.json");
    for default_too in [false, true] {
        let handlers = containerd::Handlers { base_spec: "/opt/kcm/spec.json", default_too };
        if let Ok(added) = containerd::add(&config, &handlers) {
            assert_eq!(containerd::add(&added, &handlers).as_ref(), Ok(&added), "a second time");
            containerd::remove(&added, handlers.base_spec, None).unwrap();
        }
        let _ = containerd::drop_in(&config, &config, &handlers);
    }
    if let Ok(imported) = containerd::import(&config, "/etc/containerd/conf.d/kcm.toml") {
        let _ = containerd::remove_import(&imported, "/etc/containerd/conf.d/kcm.toml");
    }
    for reader in [Reader::Crio, Reader::Podman] {
        let _ = hooks_dirs::named(reader, &config);
    }
}

fn base_spec(data: &[u8]) {
    let pool = DefaultPool { pool: "infra".into(), allow_none: vec!["kube-*".into()] };
    let call = HookCall {
        program: "/opt/kcm/kcm-hook".into(),
        conf_dir: "/etc/kcm".into(),
        default_pool: Some(pool),
    };
    for origin in [Origin::Ctr, Origin::User] {
        if let Ok(edited) = base_spec::with_hooks(&text(data), origin, &call) {
            assert_eq!(base_spec::with_hooks(&edited, origin, &call).as_ref(), Ok(&edited));
            base_spec::without_ours(&edited).unwrap();
        }
    }
    if let Ok(value) = serde_json::from_slice(data) {
        let _ = (hooks_d::what_it_misses(&value), base_spec::is_ours(&value));
    }
}
