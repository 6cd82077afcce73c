//! `kcm isolate` of a program that does nothing.

use std::time::Duration;

use kcm_tests::machine::processes_with_argument;
use kcm_tests::programs::program;

use crate::Bench;
use crate::measure::{Program, compare};
use crate::memory::peak_of;
use crate::place::{Place, Storage};
use crate::report::Report;

fn isolate(place: &Place, words: &[&str]) -> Program {
    let kcm = program("kcm");
    let conf_dir = format!("--conf-dir={}", place.conf_dir.path().display());
    let ours = [kcm.to_str().unwrap(), "isolate", &conf_dir, "--pool=p"];
    Program::new(ours.into_iter().chain(words.iter().copied()))
}

/// Against taskset, which only binds.
pub(crate) fn run(_: &Bench, report: &mut Report) {
    let place = Place::new(Storage::Memory, 64);
    let (kcm, taskset) =
        (isolate(&place, &["/bin/true"]), Program::new(["taskset", "-c", "0", "/bin/true"]));
    let it = compare(Duration::from_secs(15), || kcm.run(), || taskset.run());
    report.wall_ratio("`kcm isolate … /bin/true`", "`taskset -c 0 /bin/true`", 1.5, it);
}

/// `VmHWM` while its command runs.
pub(crate) fn peak(_: &Bench, report: &mut Report) {
    let place = Place::new(Storage::Memory, 64);
    // Long enough to be looked at, and to be found by.
    let kcm = isolate(&place, &["/bin/sleep", "--", "0.777"]);
    let mut child = kcm.command().spawn().unwrap();
    let mut peak = 0;
    let status = loop {
        let pids = processes_with_argument("isolate").into_iter();
        peak = pids.filter_map(|pid| peak_of("kcm", pid)).fold(peak, u64::max);
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    assert!(status.success() && peak > 0, "{status}, {peak} KiB");
    let value = format!("{:.2} MiB", peak as f64 / 1024.0);
    let limit = Some(("≤ 4 MiB", peak <= 4 * 1024));
    report.fact("peak memory (`VmHWM`) of `kcm isolate`", &value, limit);
}
