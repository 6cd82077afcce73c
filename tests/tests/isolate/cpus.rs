//! The CPUs that a command gets: told to it, given to it, and written down.

use std::fs;
use std::os::unix::fs::MetadataExt;

use kcm_core::CpuSet;
use kcm_tests::conf_dir::ConfDir;
use kcm_tests::isolate::{Isolate, nothing_must_be_held, status};
use kcm_tests::machine::{cgroup_file, start_time, sysfs_cpus, together, two_cpus};

use super::descendants::is_executed;

/// What a command is told of its CPUs, and what its own child may use.
const REPORT: &str = "echo \"$KCM_CPUS_ASSIGNED $KCM_CPUS_ASSIGNED_MASK\"
sed -n 's/^Cpus_allowed_list:[[:blank:]]*//p' /proc/self/status";

#[test]
fn a_command_is_told_its_cpus_and_may_use_exactly_those() {
    let (online, mut tried) = (sysfs_cpus("cpu/online"), 0);
    for (lists, flags, assigned, mask) in [
        (&["0"] as &[_], &[] as &[&str], "0", "1"),
        (&["1"], &["--cores=1"], "1", "2"),
        (&["0-1"], &[], "0-1", "3"),
        (&["1,0"], &[], "0-1", "3"),
        (&["1", "0"], &["--cores=2"], "0-1", "3"),
        (&["0", "1"], &["--cores", "2"], "0-1", "3"),
        (&["2-3"], &[], "2-3", "C"),
        (&["9,11"], &[], "9,11", "A00"),
        (&["10-11", "4", "6"], &["--cores=3"], "4,6,10-11", "C50"),
        (&["0-15"], &[], "0-15", "FFFF"),
    ] {
        if !assigned.parse::<CpuSet>().unwrap().is_subset(&online) {
            continue;
        }
        let conf_dir = ConfDir::new(&[("p", true, lists)]);
        // In an environment that says something else, as within another isolate.
        let isolate = Isolate::new(&conf_dir, "p", flags).env("KCM_CPUS_ASSIGNED", "7");
        let isolate = isolate.env("KCM_CPUS_ASSIGNED_MASK", "80").script(REPORT);
        let outcome = isolate.run().succeeded();
        let expected = format!("{assigned} {mask}\n{assigned}\n");
        assert_eq!((&*outcome.out, &*outcome.err), (&*expected, ""), "{lists:?}");
        nothing_must_be_held(&conf_dir);
        tried += 1;
    }
    println!("{tried} pools whose CPUs this machine has");
}

#[test]
fn everything_else_in_the_environment_stays_as_it_is() {
    let conf_dir = ConfDir::new(&[("p", true, &["0"])]);
    let isolate = Isolate::new(&conf_dir, "p", &["env"]);
    let outcome = isolate.env("WITH_A_LINE", "one\ntwo").env("EMPTY", "").run().succeeded();
    let path = std::env::var("PATH").unwrap();
    let mut lines: Vec<&str> = outcome.out.lines().collect();
    lines.sort_unstable();
    let path = format!("PATH={path}");
    let mut expected = vec![&*path, "LC_ALL=C", "WITH_A_LINE=one", "two", "EMPTY="];
    expected.extend(["KCM_CPUS_ASSIGNED=0", "KCM_CPUS_ASSIGNED_MASK=1"]);
    expected.sort_unstable();
    assert_eq!(lines, expected);
}

#[test]
fn while_a_command_runs_kcms_own_process_is_the_holder_and_keeps_off_its_cpus() {
    for by_affinity in [false, true] {
        must_be_recorded(by_affinity);
    }
}

fn must_be_recorded(by_affinity: bool) {
    let [first, second] = two_cpus();
    let conf_dir = ConfDir::new(&[("p", true, &[&first, &second])]);
    let words = ["/bin/sh", "--", "-c", "echo $$; exec sleep 600", "a  b", ""];
    let isolate = Isolate::new(&conf_dir, "p", &words);
    let isolate = if by_affinity { isolate.by_affinity() } else { isolate }.start();
    let (child, pid) = (isolate.process(0), isolate.pid());
    is_executed(&child);
    assert_eq!(conf_dir.tasks("p", &first), pid.to_string());
    assert_eq!(conf_dir.tasks("p", &second), "");
    assert_eq!(conf_dir.allocations(), [format!("isolate-{pid}.json")]);
    let record = conf_dir.record(&isolate.owner()).unwrap();
    let boot_id = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    let created_at = record["createdAt"].as_str().unwrap();
    assert!(created_at.starts_with("20") && created_at.ends_with('Z'), "{created_at}");
    let mut expected = serde_json::json!({
        "owner": format!("isolate-{pid}"),
        "pool": "p",
        "cpuLists": [first],
        "cpus": first,
        "pid": pid,
        "startTime": start_time(pid),
        "bootId": boot_id.trim(),
        "createdAt": created_at,
        "affinity": true,
        "command": ["/bin/sh", "-c", "echo $$; exec sleep 600", "a  b", ""],
    });
    if by_affinity {
        let mark = record["mark"].as_str().unwrap();
        // Whoever reads the record learns nothing that he could mark himself with.
        let value = child.environment("KCM_OWNER").unwrap();
        assert!(value.starts_with(&format!("isolate-{pid}-")), "{value}");
        assert_eq!(mark, kcm_core::host::environ::digest(value.as_bytes()));
        expected["mark"] = mark.into();
    } else {
        let cgroup = isolate.cgroup();
        expected["cgroup"] = cgroup.as_str().into();
        expected["cgroupInode"] = fs::metadata(cgroup_file(&cgroup, "")).unwrap().ino().into();
        assert_eq!(child.environment("KCM_OWNER"), None);
    }
    assert_eq!(record, expected);
    // Where the machine has CPUs in no pool.
    let (own, online) = (status(pid, "Cpus_allowed_list"), sysfs_cpus("cpu/online"));
    let others = online.difference(&together([&first, &second]).parse().unwrap());
    let expected = if others.is_empty() { online } else { others };
    assert_eq!(own, expected.to_string());
    assert_eq!(child.status("Cpus_allowed_list"), first);
    child.kill();
    assert_eq!(isolate.finish().code, Some(128 + 9));
    nothing_must_be_held(&conf_dir);
}

#[test]
fn without_affinity_a_command_keeps_its_callers_cpus() {
    for flags in [&["--no-affinity"] as &[&str], &["--no-affinity", "--cores=1"]] {
        for callers in ["0", "1", "0-1"] {
            let conf_dir = ConfDir::new(&[("p", true, &["0"])]);
            let script = format!("{REPORT}; echo $$; exec sleep 600");
            let isolate = Isolate::new(&conf_dir, "p", flags).script(&script);
            let isolate = isolate.under(["taskset", "-c", callers]).start();
            assert_eq!((isolate.line(0), isolate.line(1)), ("0 1".to_owned(), callers.to_owned()));
            let child = isolate.process(2);
            let kcms: CpuSet = status(isolate.pid(), "Cpus_allowed_list").parse().unwrap();
            assert!(!kcms.contains(0), "{kcms}");
            assert_eq!(conf_dir.tasks("p", "0"), isolate.pid().to_string());
            assert_eq!(conf_dir.record(&isolate.owner()).unwrap()["affinity"], false);
            child.kill();
            assert_eq!(isolate.finish().code, Some(128 + 9));
            nothing_must_be_held(&conf_dir);
        }
    }
}

#[test]
fn a_caller_that_is_bound_to_some_cpus_gets_to_a_list_on_others() {
    for (bound, list, mask) in [("0", "1", "2"), ("1", "0", "1"), ("0", "0-1", "3")] {
        let conf_dir = ConfDir::new(&[("p", true, &[list])]);
        let isolate = Isolate::new(&conf_dir, "p", &[]).script(REPORT);
        let outcome = isolate.under(["taskset", "-c", bound]).run().succeeded();
        assert_eq!(outcome.out, format!("{list} {mask}\n{list}\n"));
    }
}

#[test]
fn commands_share_a_list_of_a_shared_pool_and_each_takes_out_its_own() {
    let conf_dir = ConfDir::new(&[("p", false, &["0-1"])]);
    let start = || {
        let isolate = Isolate::new(&conf_dir, "p", &[]);
        let isolate = isolate.script("echo $$; exec sleep 600").start();
        (isolate.process(0), isolate)
    };
    let ((child, one), (_other, two)) = (start(), start());
    assert_eq!(conf_dir.tasks("p", "0-1"), format!("{},{}", one.pid(), two.pid()));
    child.kill();
    assert_eq!(one.finish().code, Some(128 + 9));
    assert_eq!(conf_dir.tasks("p", "0-1"), two.pid().to_string());
    assert_eq!(conf_dir.allocations(), [format!("isolate-{}.json", two.pid())]);
}
