//! A directory in which all is as hostile as the limits allow.

use std::fs;
use std::time::Duration;

use serde_json::json;

use crate::Bench;
use crate::hook::Allocation;
use crate::measure::{Cost, compare};
use crate::place::{Place, Storage};
use crate::report::Report;

const LIMIT: Duration = Duration::from_secs(15);
const LISTS: usize = 64;
const RECORDS: usize = 1024;
/// All records that are read at once have no more.
const RECORD_BYTES: usize = (768 << 10) / RECORDS;
/// Nor do they name more lists.
const NAMES: usize = (1 << 13) / RECORDS;
/// As many bytes as a `tasks` may have in an exclusive pool, and in a shared one.
const TASKS_BYTES: [usize; 2] = [1 << 8, 64 << 10];

/// What an allocation costs there, against one in a clean pool.
pub(crate) fn allocate(bench: &Bench, report: &mut Report) {
    let mut clean = Allocation::new(bench, Storage::Memory, LISTS, "clean");
    let mut hostile = Allocation::new(bench, Storage::Memory, LISTS, "hostile");
    let tasks = tasks(TASKS_BYTES[0]);
    records(&hostile.place);
    let mut run = || {
        let hook = hostile.prepare();
        let (last, others) = hostile.place.lists.split_last().unwrap();
        for list in others {
            fs::write(hostile.place.conf_dir.tasks_path("p", list), &tasks).unwrap();
        }
        // Undated: kcm itself did not leave it so.
        fs::write(hostile.place.conf_dir.tasks_path("p", last), "").unwrap();
        let cost = hook.run();
        let given = hostile.place.conf_dir.tasks("p", last);
        assert_eq!(given, hostile.container.stand_in.pid().to_string());
        cost
    };
    let it = compare(LIMIT, &mut run, || clean.run());
    report.ratio(
        "`kcm-hook` createRuntime, 64 CPU lists and 1,024 records, all as hostile as the limits allow",
        "itself, in a clean pool",
        20.0,
        it,
    );
}

/// The same from a shared pool, whose lists have many tasks by right.
pub(crate) fn allocate_shared(bench: &Bench, report: &mut Report) {
    let shared = |id| {
        let allocation = Allocation::new(bench, Storage::Memory, LISTS, id);
        fs::write(allocation.place.conf_dir.path().join("pools/p/exclusive"), "0").unwrap();
        allocation
    };
    let (mut clean, mut hostile) = (shared("clean-shared"), shared("hostile-shared"));
    let tasks = tasks(TASKS_BYTES[1]);
    records(&hostile.place);
    let run = |allocation: &mut Allocation, tasks: Option<&str>| -> Cost {
        let hook = allocation.prepare();
        for list in tasks.iter().flat_map(|_| &allocation.place.lists) {
            fs::write(allocation.place.conf_dir.tasks_path("p", list), tasks.unwrap()).unwrap();
        }
        hook.run()
    };
    let it = compare(LIMIT, || run(&mut hostile, Some(&tasks)), || run(&mut clean, None));
    report.ratio(
        "the same from a shared pool, each `tasks` of 64 KiB",
        "itself, in a clean pool",
        80.0,
        it,
    );
}

/// This process, which lives, and as many dead ones as there is room for.
fn tasks(bytes: usize) -> String {
    let mut text = std::process::id().to_string();
    // The kernel gives the largest last (`/proc/sys/kernel/pid_max`).
    for pid in (1..=4_194_303).rev() {
        let pid = format!(",{pid}");
        if text.len() + pid.len() > bytes {
            break;
        }
        text.push_str(&pid);
    }
    text
}

/// Records of living owners, who hold all lists but the last, and the indexes of those.
fn records(place: &Place) {
    let stat = fs::read_to_string("/proc/self/stat").unwrap();
    let start_time: u64 =
        stat.rsplit_once(") ").unwrap().1.split(' ').nth(19).unwrap().parse().unwrap();
    let boot_id = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    let folder = place.conf_dir.path().join("allocations");
    fs::create_dir_all(&folder).unwrap();
    let others = &place.lists[..place.lists.len() - 1];
    for number in 0..RECORDS {
        let owner = format!("hostile-{number}");
        // As many words of each set, and as many bytes, as can be.
        let names = (1..NAMES).map(|name| format!("0-8191,{name}"));
        let names: Vec<String> = names.chain([others[number % others.len()].clone()]).collect();
        let record = |pod: &str| {
            json!({
                "owner": owner, "pool": "p", "cpuLists": names, "pod": pod,
                "cpus": "0-8191", "pid": std::process::id(), "startTime": start_time,
                "bootId": boot_id.trim(), "createdAt": "2026-11-27T00:00:00Z", "affinity": true,
            })
            .to_string()
        };
        // Each escaped, as a reader has to undo.
        let pod = "\"".repeat((RECORD_BYTES - record("").len()) / 2);
        fs::write(folder.join(format!("{owner}.json")), record(&pod)).unwrap();
        if let Some(list) = others.get(number) {
            fs::write(place.conf_dir.index_path("p", list), record(&pod)).unwrap();
        }
    }
}
