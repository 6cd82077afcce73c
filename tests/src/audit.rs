//! Who holds what, told from the files and from `/proc` without any of kcm's code: the judge of
//! the tests must not share the errors of what it judges.

use std::collections::BTreeMap;
use std::fs;

use crate::conf_dir::ConfDir;
use crate::stand_in;

/// CPU list → the PIDs that hold it: those in its `tasks` that are alive, and those of records whose
/// container is alive and was bound to their CPUs.
pub type Holders = BTreeMap<String, Vec<i32>>;

/// The live holders of each CPU list of a pool. Fails the test where a file does not parse, or
/// where an exclusive list has two live holders.
#[track_caller]
pub fn holders(conf_dir: &ConfDir, pool: &str) -> Holders {
    let records = records(conf_dir);
    let mut holders = Holders::new();
    for entry in fs::read_dir(conf_dir.path().join("pools").join(pool)).unwrap() {
        let list = entry.unwrap().file_name().into_string().unwrap();
        if list == "exclusive" {
            continue;
        }
        let tasks = conf_dir.tasks(pool, &list);
        let pids = tasks.split(',').filter(|word| !word.is_empty());
        let mut live: Vec<i32> = pids
            .map(|word| word.parse().unwrap_or_else(|_| panic!("tasks of {list}: {tasks:?}")))
            .filter(|&pid| is_alive(pid, &list, &records))
            .collect();
        live.extend(records.iter().filter(|record| is_bound_to(record, &list)).map(pid_of));
        live.sort_unstable();
        live.dedup();
        assert!(live.len() <= 1, "CPU list {list} has two live holders: {live:?}");
        holders.insert(list, live);
    }
    holders
}

/// How many lists nobody alive holds.
pub fn free(holders: &Holders) -> usize {
    holders.values().filter(|pids| pids.is_empty()).count()
}

/// The lists that a process holds.
pub fn held_by(holders: &Holders, pid: i32) -> Vec<String> {
    let held = holders.iter().filter(|(_, pids)| pids.contains(&pid));
    held.map(|(list, _)| list.clone()).collect()
}

fn records(conf_dir: &ConfDir) -> Vec<serde_json::Value> {
    let names = conf_dir.allocations();
    let owners = names.iter().filter_map(|name| name.strip_suffix(".json"));
    owners.filter_map(|owner| conf_dir.record(owner)).collect()
}

/// A PID is its record's process if the start times agree, and a container lives as long as
/// anything is in its cgroup; a PID with no record is whoever has it.
fn is_alive(pid: i32, list: &str, records: &[serde_json::Value]) -> bool {
    let stat = stat(pid).filter(|(state, _)| state != "Z");
    let mut its = records.iter().filter(|record| {
        let lists = record["cpuLists"].as_array().unwrap();
        record["pid"] == pid && lists.iter().any(|held| held == list)
    });
    if its.clone().next().is_none() {
        return stat.is_some();
    }
    its.any(|record| {
        stat.as_ref().is_some_and(|(_, start_time)| record["startTime"] == *start_time)
            || record["cgroup"].as_str().is_some_and(|cgroup| {
                // A successor may have made a cgroup of the same path.
                stand_in::is_populated(cgroup)
                    && record["cgroupInode"] == stand_in::inode_of(cgroup)
            })
    })
}

/// Whether a record's container lives, and its cgroup bears the mark that it was bound.
fn is_bound_to(record: &serde_json::Value, list: &str) -> bool {
    let names = record["cpuLists"].as_array().unwrap();
    let Some(cgroup) = record["cgroup"].as_str() else { return false };
    names.iter().any(|held| held == list)
        && is_alive(pid_of(record), list, std::slice::from_ref(record))
        && stand_in::mark_of(cgroup).is_some_and(|mark| {
            let [owner, cpus] = ["owner", "cpus"].map(|key| record[key].as_str().unwrap());
            mark == format!("{owner} {cpus}")
        })
}

fn pid_of(record: &serde_json::Value) -> i32 {
    record["pid"].as_i64().unwrap().try_into().unwrap()
}

/// State and start time of a process (proc_pid_stat(5), fields 3 and 22).
fn stat(pid: i32) -> Option<(String, u64)> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let fields: Vec<&str> = text.rsplit_once(") ")?.1.split(' ').collect();
    Some((fields[0].to_owned(), fields[19].parse().ok()?))
}
