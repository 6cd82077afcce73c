//! Whole configuration directories: any `tasks`, records and indexes, any living processes. Whoever
//! asks for a list gets none that a living owner has; who is refused could not have had one; and
//! `reconcile` takes nothing from the living.

use std::cell::OnceCell;
use std::collections::BTreeSet;
use std::fs;
use std::num::NonZeroUsize;
use std::os::unix::fs::symlink;
use std::path::Path;

use kcm_core::Node;
use kcm_core::host::cgroup::Hierarchy;
use kcm_core::host::procfs::Procfs;
use kcm_core::node::Error;
use kcm_core::plan::allocate::Refusal;
use kcm_core::request::Request;
use kcm_core::state::{ConfDir, LockTimeout};
use kcm_core::task::Process;
use tempfile::TempDir;

const BOOT: &str = "11111111-1111-4111-8111-111111111111";
const EARLIER: &str = "00000000-0000-4000-8000-000000000000";
const LISTS: [&str; 3] = ["0", "1", "2"];
const OWNERS: [&str; 4] = ["a", "b", "c", "d"];
/// The processes that there may be.
const PIDS: std::ops::Range<u32> = 100..106;
const CALLER: u32 = 99;

thread_local! {
    static FOLDER: OnceCell<TempDir> = const { OnceCell::new() };
}

/// Choices, from bytes that are anything; when they end, the first of each.
struct Choices<'a>(&'a [u8]);

impl Choices<'_> {
    fn of(&mut self, several: u8) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        first % several
    }

    fn yes(&mut self) -> bool {
        self.of(2) == 1
    }
}

/// A record that was written.
struct Record {
    owner: &'static str,
    pid: u32,
    lists: Vec<usize>,
    /// Its process is there, and is the one that it names.
    is_alive: bool,
    text: String,
}

pub(super) fn directory(data: &[u8]) {
    FOLDER.with(|folder| {
        let folder = folder.get_or_init(super::folder).path();
        for name in ["conf", "root"] {
            let _ = fs::remove_dir_all(folder.join(name));
        }
        one(folder, &mut Choices(data));
    });
}

fn one(folder: &Path, choices: &mut Choices<'_>) {
    let (conf, root) = (folder.join("conf"), folder.join("root"));
    let living: BTreeSet<u32> = PIDS.filter(|_| choices.yes()).collect();
    make_procfs(&root.join("proc"), &living);
    fs::write(root.join("cgroup.controllers"), "cpuset").unwrap();
    let node = Node {
        conf: ConfDir::new(&conf, LockTimeout::default()),
        procfs: Procfs::new(root.join("proc")),
        hierarchy: Hierarchy::find(&root, "0::/\n").ok(),
        sys_root: root,
    };
    let pool = conf.join("pools/p");
    for list in LISTS {
        fs::create_dir_all(pool.join(list)).unwrap();
    }
    fs::create_dir_all(conf.join("allocations")).unwrap();
    fs::write(pool.join("exclusive"), "1").unwrap();
    fs::write(conf.join("lock"), "").unwrap();
    let is_of_boot = choices.of(4) > 0;
    symlink(if is_of_boot { BOOT } else { EARLIER }, conf.join("allocations/.boot")).unwrap();
    let records = make_records(&conf, choices, &living);
    let mut held: BTreeSet<usize> = BTreeSet::new();
    let (mut damaged, mut harmed_twice) = (BTreeSet::new(), BTreeSet::new());
    let kept = records.iter().filter(|(_, kept)| *kept);
    let mut known: Vec<(&Record, Vec<usize>)> =
        kept.map(|(record, _)| (record, record.lists.clone())).collect();
    for (i, list) in LISTS.iter().enumerate() {
        let index = match choices.of(4) {
            0 => false,
            1 => {
                fs::write(pool.join(list).join("holder.json"), "x").unwrap();
                true
            }
            _ => match records.get(usize::from(choices.of(OWNERS.len() as u8))) {
                Some((record, kept)) => {
                    let index = pool.join(list).join("holder.json");
                    if *kept && choices.yes() {
                        let path = conf.join(format!("allocations/{}.json", record.owner));
                        fs::hard_link(path, index).unwrap();
                    } else {
                        fs::write(index, &record.text).unwrap();
                    }
                    if record.lists.contains(&i) {
                        // Of the others that it names, nothing may tell.
                        known.push((record, vec![i]));
                    }
                    true
                }
                None => false,
            },
        };
        let pids: Vec<u32> = PIDS.filter(|_| choices.of(4) == 0).collect();
        let mut text: String = pids.iter().map(|pid| format!("{pid},")).collect();
        let path = pool.join(list).join("tasks");
        match choices.of(6) {
            0 => continue,
            1 => {
                fs::write(path, [0; 4]).unwrap();
                continue;
            }
            2 => {
                text.push_str("x,");
                damaged.insert(i);
            }
            _ => {}
        }
        if text.is_empty() && !index {
            // Free at a glance, whatever a record says: two files of it were harmed.
            harmed_twice.insert(i);
        }
        fs::write(path, text).unwrap();
        // A PID of which no record says whose it is; before the first writer of a boot none counts
        // in a list that kcm gave away.
        let nameless = |pid: &&u32| {
            !known.iter().any(|(record, lists)| record.pid == **pid && lists.contains(&i))
        };
        if (is_of_boot || !index) && pids.iter().filter(nameless).any(|pid| living.contains(pid)) {
            held.insert(i);
        }
    }
    let live = known.iter().filter(|(record, _)| record.is_alive);
    held.extend(live.flat_map(|(_, lists)| lists));
    let owners: Vec<&str> =
        records.iter().filter(|(r, kept)| *kept && r.is_alive).map(|(r, _)| r.owner).collect();

    let said = format!(
        "living {living:?}, held {held:?}, damaged {damaged:?}, {}, {}",
        if is_of_boot { "of this boot" } else { "of an earlier boot" },
        shown(&conf)
    );
    match node.allocate(&request(), &mut Vec::new()) {
        Ok(granted) => {
            let list = granted.allocation.lists[0].to_string();
            let i = LISTS.iter().position(|other| *other == list).unwrap();
            let is_free = !held.contains(&i) || harmed_twice.contains(&i);
            assert!(is_free, "list {list} has two owners: {said}");
        }
        Err(Error::Refused(Refusal::NoneFree { .. } | Refusal::NotUsable { .. })) => {
            let free = (0..LISTS.len()).find(|i| !held.contains(i) && !damaged.contains(i));
            assert_eq!(free, None, "a list that nobody holds is out of use: {said}");
        }
        Err(error) => panic!("{error}: {said}"),
    }
    node.reconcile(&mut Vec::new()).unwrap();
    for owner in owners {
        let path = conf.join(format!("allocations/{owner}.json"));
        assert!(path.exists(), "the record of {owner}, who lives, is gone: {said}");
    }
    // Whatever was damaged: now it is not, so whoever comes next is told the truth.
    let lists = fs::read_dir(&pool).unwrap().flatten().filter(|entry| entry.path().is_dir());
    for list in lists {
        let tasks = fs::read_to_string(list.path().join("tasks")).unwrap_or_default();
        assert!(!tasks.contains('x'), "reconcile left a damaged tasks: {said}");
    }
}

/// All files, for a message.
fn shown(conf: &Path) -> String {
    let folders = LISTS.map(|list| conf.join("pools/p").join(list));
    let folders = folders.into_iter().chain([conf.join("allocations")]);
    let files = folders.flat_map(|folder| fs::read_dir(folder).unwrap().flatten());
    let files = files.map(|file| {
        let text = fs::read(file.path()).unwrap_or_default();
        let path = file.path();
        let name = path.strip_prefix(conf).unwrap().display();
        format!("{name}: {:?}", String::from_utf8_lossy(&text))
    });
    files.collect::<Vec<String>>().join("\n")
}

/// Each with whether it is in its place: of another, there may be only an index.
fn make_records(
    conf: &Path,
    choices: &mut Choices<'_>,
    living: &BTreeSet<u32>,
) -> Vec<(Record, bool)> {
    let mut records = Vec::new();
    for owner in OWNERS {
        let pid = PIDS.start + u32::from(choices.of(PIDS.len() as u8));
        let lists: Vec<usize> = (0..LISTS.len()).filter(|_| choices.of(3) == 0).collect();
        if lists.is_empty() {
            continue;
        }
        let (is_this_boot, is_this_process) = (choices.of(4) > 0, choices.of(4) > 0);
        let names: Vec<&str> = lists.iter().map(|&i| LISTS[i]).collect();
        let text = serde_json::json!({
            "owner": owner, "pool": "p", "cpuLists": names, "cpus": names.join(","), "pid": pid,
            "startTime": if is_this_process { pid } else { 7 },
            "bootId": if is_this_boot { BOOT } else { EARLIER },
            "createdAt": "2026-01-01T00:00:00Z", "affinity": true,
        })
        .to_string();
        let is_alive = is_this_boot && is_this_process && living.contains(&pid);
        let kept = choices.of(3) > 0;
        if kept {
            fs::write(conf.join(format!("allocations/{owner}.json")), &text).unwrap();
        }
        records.push((Record { owner, pid, lists, is_alive, text }, kept));
    }
    records
}

fn make_procfs(proc: &Path, living: &BTreeSet<u32>) {
    fs::create_dir_all(proc.join("sys/kernel/random")).unwrap();
    fs::write(proc.join("sys/kernel/random/boot_id"), BOOT).unwrap();
    symlink("1", proc.join("self")).unwrap();
    for pid in living.iter().chain([&1, &CALLER]) {
        let folder = proc.join(pid.to_string());
        fs::create_dir_all(folder.join("ns")).unwrap();
        // proc_pid_stat(5): state is field 3, the start time field 22.
        let stat = format!("{pid} (c) S{} {pid} 0 0\n", " 0".repeat(18));
        fs::write(folder.join("stat"), stat).unwrap();
        // namespaces(7): in the initial PID namespace.
        symlink("pid:[4026531836]", folder.join("ns/pid")).unwrap();
    }
}

fn request() -> Request {
    let process = Process {
        pid: i32::try_from(CALLER).unwrap().try_into().unwrap(),
        start_time: Some(u64::from(CALLER)),
        boot_id: BOOT.to_owned(),
    };
    Request {
        owner: "caller".parse().unwrap(),
        process,
        pool: "p".parse().unwrap(),
        cores: NonZeroUsize::MIN,
        usable: "0-2".parse().unwrap(),
        within: None,
        cgroup: None,
        affinity: true,
        partition: None,
        had: None,
        details: Default::default(),
    }
}
