//! A container of a real runtime, from its start to its end.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use kcm_tests::bundle::{Bundle, make_rootfs};
use kcm_tests::hook::POOL;
use kcm_tests::machine::remove_cgroup;

use crate::Bench;
use crate::measure::{Program, compare};
use crate::place::{Place, Storage};
use crate::report::Report;

const LIMIT: Duration = Duration::from_secs(60);

/// `runc run` of a busybox `true`, with our two hooks and with two that do nothing.
pub(crate) fn run(bench: &Bench, report: &mut Report) {
    let place = Place::new(Storage::Memory, 64);
    let rootfs = bench.folder.join("rootfs");
    make_rootfs(&rootfs);
    let parent = format!("/kcmbench{}", std::process::id());
    let runc = |name: &str, hook_starter: Vec<String>| {
        let folder: PathBuf = bench.folder.join(name);
        fs::create_dir(&folder).unwrap();
        let bundle = Bundle {
            args: ["/bin/busybox", "true"].map(str::to_owned).to_vec(),
            annotations: [(POOL.to_owned(), "p".to_owned())].into(),
            hook_flags: vec![format!("--conf-dir={}", place.conf_dir.path().display())],
            hook_starter,
            cgroups_path: Some(format!("{parent}/{name}").into()),
            ..Bundle::default()
        };
        bundle.write(&folder, &rootfs);
        let root = bench.folder.join("runc");
        let words = ["runc", "--root", root.to_str().unwrap(), "run", "--bundle"];
        Program::new(words.into_iter().chain([folder.to_str().unwrap(), name]))
    };
    let ours = runc("with-kcm", Vec::new());
    // It ignores what comes after: our hook and its arguments.
    let theirs = runc("with-nothing", vec![bench.noop.to_str().unwrap().to_owned()]);
    let it = compare(LIMIT, || ours.run(), || theirs.run());
    remove_cgroup(&parent);
    let against = "`runc run`, its hook pair does nothing";
    report.ratio("`runc run`, createRuntime and poststop of `kcm-hook`", against, 1.05, it);
}
