//! Records written by hand.

use std::fs;

use kcm_tests::conf_dir::ConfDir;

/// What `kcm isolate` records for a list that this process holds.
pub(crate) fn isolate_record(conf: &ConfDir, pool: &str, list: &str, pid: i32, start: u64) {
    let boot_id = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    let owner = format!("isolate-{pid}");
    let record = serde_json::json!({
        "owner": owner,
        "pool": pool,
        "cpuLists": [list],
        "cpus": list,
        "pid": pid,
        "startTime": start,
        "bootId": boot_id.trim(),
        "createdAt": "2020-01-01T00:00:00Z",
        "affinity": true,
        "command": ["sleep", "600"],
    });
    fs::create_dir_all(conf.path().join("allocations")).unwrap();
    conf.write_record(&owner, &record);
}
