//! `kcm describe` of a large directory.

use std::ffi::OsString;
use std::fs;
use std::time::Duration;

use kcm_tests::programs::program;

use crate::Bench;
use crate::measure::{Program, compare};
use crate::place::{Place, Storage};
use crate::report::Report;

/// 1,024 CPU lists with 4 tasks each, against reading the same files.
pub(crate) fn describe(_: &Bench, report: &mut Report) {
    let place = Place::new(Storage::Memory, 1024);
    let path = place.conf_dir.path();
    let mut cat: Vec<OsString> = vec!["cat".into(), path.join("pools/p/exclusive").into()];
    for (number, list) in place.lists.iter().enumerate() {
        let tasks = place.conf_dir.tasks_path("p", list);
        let pids: Vec<String> = (0..4).map(|i| (1000 + 4 * number + i).to_string()).collect();
        fs::write(&tasks, pids.join(",")).unwrap();
        cat.push(tasks.into());
    }
    let conf_dir = format!("--conf-dir={}", path.display());
    let kcm = Program::new([program("kcm").as_os_str(), "describe".as_ref(), conf_dir.as_ref()]);
    let cat = Program::new(cat);
    let it = compare(Duration::from_secs(15), || kcm.run(), || cat.run());
    report.ratio(
        "`kcm describe`, 1,024 CPU lists, 4,096 tasks",
        "`cat` of the same files",
        3.0,
        it,
    );
}
