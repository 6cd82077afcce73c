//! The power is cut right after allocations, on real file systems. Whatever comes back of them, with
//! the next boot all that was held before is free by itself: also where a living process happens to
//! have the PID of before, and where nothing tells any more of which boot a file was.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods, missing_docs)]

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use kcm_tests::audit::{free, held_by, holders};
use kcm_tests::conf_dir::ConfDir;
use kcm_tests::hook::HookCall;
use kcm_tests::machine::skip;
use kcm_tests::power::{self, Disk, Image, Kind};
use kcm_tests::stand_in::{StandIn, new_id};

/// Four lists on two CPUs: the spelling is the identity.
const LISTS: [&str; 4] = ["0", "1", "0-1", "00"];

/// How many cuts are tried where a device may write in any order.
const ORDERS: u64 = 24;

/// Any boot but this one.
const EARLIER_BOOT: &str = "00000000-0000-4000-8000-000000000000";

/// What came back of the files that were written before the cut.
#[derive(Debug, Default)]
struct Seen {
    cuts: usize,
    /// `tasks` of nothing but NULs.
    nul_tasks: usize,
    /// A PID in `tasks`, and a record that is empty or of nothing but NULs.
    lost_records: usize,
    /// A PID in `tasks`, and no record.
    no_records: usize,
    whole: usize,
}

/// Containers that got CPU lists before the cut, and what was on the disk before and after that.
struct Before {
    /// They live on: so their PIDs are somebody's after the boot, too.
    containers: Vec<StandIn>,
    disk: Disk,
    synced: Image,
}

impl Before {
    /// `early` of the containers come before all is written to the disk, `late` after that.
    fn new(kind: Kind, early: usize, late: usize) -> Self {
        let disk = Disk::new(kind);
        let conf_dir = ConfDir::new_at(&disk.path().join("kcm"), &[("p", true, &LISTS)]);
        let containers: Vec<StandIn> =
            (0..early + late).map(|_| StandIn::new(&new_id("before"))).collect();
        let allocate = |containers: &[StandIn]| {
            for container in containers {
                HookCall::create(conf_dir.path(), container, "p").run().must_succeed();
            }
        };
        allocate(&containers[..early]);
        disk.sync();
        let synced = disk.cut();
        allocate(&containers[early..]);
        Self { containers, disk, synced }
    }

    /// What became of the files of an image, after the next boot.
    fn comes_back(&self, kind: Kind, image: &Image, seen: &mut Seen) {
        let disk = Disk::mount(kind, image);
        let conf_dir = ConfDir::at(&disk.path().join("kcm"));
        let damaged = look(&conf_dir, seen);
        of_an_earlier_boot(conf_dir.path());
        let all = "all that was held before the cut is free";
        let first = StandIn::new(&new_id("after"));
        let ran = HookCall::create(conf_dir.path(), &first, "p").run();
        assert!(ran.succeeded(), "{}: {all} ({damaged}): {}", kind.name, ran.stderr);
        let rest = StandIn::new(&new_id("after"));
        let ran = HookCall::create_cores(conf_dir.path(), &rest, "p", LISTS.len() - 1).run();
        assert!(ran.succeeded(), "{}: {all} ({damaged}): {}", kind.name, ran.stderr);
        let holders = holders(&conf_dir, "p");
        let held = [&first, &rest].map(|container| held_by(&holders, container.pid()).len());
        assert_eq!((free(&holders), held), (0, [1, LISTS.len() - 1]), "{holders:?}");
        assert!(self.containers.iter().all(StandIn::is_alive));
    }
}

/// Counts what is damaged, and says it.
fn look(conf_dir: &ConfDir, seen: &mut Seen) -> String {
    let is_empty = |bytes: &[u8]| bytes.iter().all(|&byte| byte == 0);
    let (mut pids, mut said) = (0, Vec::new());
    seen.cuts += 1;
    for list in LISTS {
        match fs::read(conf_dir.tasks_path("p", list)) {
            Ok(bytes) if bytes.is_empty() => {}
            Ok(bytes) if is_empty(&bytes) => {
                seen.nul_tasks += 1;
                said.push(format!("tasks of {list} is {} NULs", bytes.len()));
            }
            Ok(bytes) => {
                pids += 1;
                said.push(format!("tasks of {list} is {:?}", String::from_utf8_lossy(&bytes)));
            }
            Err(e) => said.push(format!("tasks of {list}: {e}")),
        }
        if let Ok(bytes) = fs::read(conf_dir.index_path("p", list)) {
            said.push(format!(
                "its index has {} bytes{}",
                bytes.len(),
                if is_empty(&bytes) { ", none of use" } else { "" }
            ));
        }
    }
    let records = conf_dir.allocations();
    let lost = |name: &&String| {
        let record = fs::read(conf_dir.path().join("allocations").join(name));
        record.is_ok_and(|bytes| is_empty(&bytes))
    };
    let lost = records.iter().filter(|name| name.ends_with(".json")).filter(lost).count();
    seen.lost_records += lost.min(pids);
    let whole = records.len() - lost;
    seen.no_records += usize::from(pids > whole + lost);
    seen.whole += usize::from(said.is_empty() || (lost == 0 && pids == whole));
    said.push(format!("{lost} of {records:?} are empty"));
    said.join("; ")
}

/// As if the machine had booted since: what names this boot names an earlier one. The other way
/// round cannot be had without a boot, and would be the same to kcm.
fn of_an_earlier_boot(conf_dir: &Path) {
    let this = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    let folders = LISTS.map(|list| conf_dir.join("pools/p").join(list));
    for folder in folders.into_iter().chain([conf_dir.join("allocations")]) {
        let Ok(entries) = fs::read_dir(folder) else { continue };
        for path in entries.map(|entry| entry.unwrap().path()) {
            match fs::read_link(&path) {
                Ok(boot) => {
                    assert_eq!(boot.to_str(), Some(this.trim()), "{}", path.display());
                    fs::remove_file(&path).unwrap();
                    symlink(EARLIER_BOOT, &path).unwrap();
                }
                Err(_) => {
                    let bytes = fs::read(&path).unwrap();
                    let Ok(text) = String::from_utf8(bytes) else { continue };
                    if text.contains(this.trim()) {
                        // In its place: the other name of a record is the same file.
                        fs::write(&path, text.replace(this.trim(), EARLIER_BOOT)).unwrap();
                    }
                }
            }
        }
    }
}

/// Each block of the device written or not, by a sequence that is the same in each run.
fn some_order(seed: u64) -> impl FnMut() -> bool {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state >> 63 == 0
    }
}

#[test]
fn what_the_original_wrote_since_the_boot_is_not_of_before() {
    let conf_dir = ConfDir::new(&[("p", true, &["0"])]);
    let mut before = StandIn::new(&new_id("before"));
    HookCall::create(conf_dir.path(), &before, "p").run().must_succeed();
    before.kill();
    for path in [conf_dir.record_path(before.id()), conf_dir.index_path("p", "0")] {
        fs::remove_file(path).unwrap();
    }
    of_an_earlier_boot(conf_dir.path());
    let originals = StandIn::new(&new_id("original"));
    // Into the file, as it does.
    fs::write(conf_dir.tasks_path("p", "0"), originals.pid().to_string()).unwrap();
    let next = StandIn::new(&new_id("after"));
    HookCall::create(conf_dir.path(), &next, "p").run().must_refuse(&["1 of 1 are held"]);
}

fn cut_on(kind: Kind) -> Option<Seen> {
    if let Some(reason) = kind.is_missing() {
        skip(&reason);
        return None;
    }
    let mut seen = Seen::default();
    for (early, late) in [(0, 2), (2, 1)] {
        let before = Before::new(kind, early, late);
        before.comes_back(kind, &before.disk.cut(), &mut seen);
        before.disk.sync_metadata();
        before.comes_back(kind, &before.disk.cut(), &mut seen);
        before.disk.sync();
        let all = before.disk.cut();
        before.comes_back(kind, &all, &mut seen);
        if !kind.journal {
            for seed in 1..=ORDERS {
                let image = before.synced.with_some_of(&all, some_order(seed));
                before.comes_back(kind, &image, &mut seen);
            }
        }
    }
    println!("{}: {seen:?}", kind.name);
    Some(seen)
}

#[test]
fn after_a_power_cut_on_ext2_all_is_free_by_itself() {
    let seen = cut_on(power::EXT2);
    // Else nothing was tried.
    assert!(seen.is_none_or(|seen| seen.nul_tasks > 0 && seen.lost_records > 0));
}

#[test]
fn after_a_power_cut_on_ext4_without_a_journal_all_is_free_by_itself() {
    let seen = cut_on(power::EXT4_WITHOUT_JOURNAL);
    assert!(seen.is_none_or(|seen| seen.nul_tasks > 0 && seen.lost_records > 0));
}

#[test]
fn after_a_power_cut_on_ext4_that_orders_nothing_all_is_free_by_itself() {
    let seen = cut_on(power::EXT4_WRITEBACK);
    assert!(seen.is_none_or(|seen| seen.nul_tasks > 0));
}

#[test]
fn after_a_power_cut_on_ext4_all_is_free_by_itself() {
    cut_on(power::EXT4);
}

#[test]
fn after_a_power_cut_on_xfs_all_is_free_by_itself() {
    cut_on(power::XFS);
}
