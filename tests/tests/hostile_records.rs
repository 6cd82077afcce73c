//! Allocation records in hostile hands: one that cannot be read counts as absent and holds nobody
//! up; one that can be read frees nothing that is alive, and moves nobody's cgroup.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods, missing_docs)]

use std::fs;
use std::os::unix::fs::symlink;
use std::process::{Command, Stdio};

use kcm_tests::audit::{free, held_by, holders};
use kcm_tests::conf_dir::ConfDir;
use kcm_tests::hook::{HookCall, POOL};
use kcm_tests::kcm::reconcile;
use kcm_tests::stand_in::{Cgroup, StandIn};
use kcm_tests::strace::{SystemCall, Trace};
use nix::sys::stat::Mode;

/// A directory with one list, which `holder` holds.
fn held(name: &str) -> (ConfDir, StandIn) {
    let conf_dir = ConfDir::new(&[("p", true, &["0"])]);
    let holder = StandIn::new(&format!("holder-{name}"));
    HookCall::create(conf_dir.path(), &holder, "p").run().must_succeed();
    (conf_dir, holder)
}

/// Has the record of this owner say something else.
fn forge(conf_dir: &ConfDir, owner: &str, changes: &[(&str, serde_json::Value)]) {
    let mut record = conf_dir.record(owner).unwrap();
    for (key, value) in changes {
        record[*key] = value.clone();
    }
    conf_dir.write_record(owner, &record);
}

#[test]
fn an_unreadable_record_is_set_aside_and_its_list_is_freed_when_the_process_is_gone() {
    let deep = "[".repeat(60_000);
    let large = " ".repeat(70_000);
    let not_utf8 = "\u{0}\u{1}";
    let contents = ["", "{", "{}", "null", "[]", not_utf8, &deep, &large, "folder", "fifo", "link"];
    let fields = [
        ("owner", serde_json::json!("somebody-else")),
        ("owner", serde_json::json!("../../etc/passwd")),
        ("owner", serde_json::json!("a\nb")),
        ("pool", serde_json::json!("../p")),
        ("pool", serde_json::json!("none")),
        ("cpuLists", serde_json::json!([])),
        ("cpuLists", serde_json::json!(["../../x"])),
        ("cpuLists", serde_json::json!(["99999"])),
        ("pid", serde_json::json!(0)),
        ("pid", serde_json::json!(-1)),
        ("pid", serde_json::json!(4_294_967_297_u64)),
        ("pid", serde_json::json!(1e300)),
        ("startTime", serde_json::json!(-1)),
        ("cgroup", serde_json::json!("/")),
        ("cgroup", serde_json::json!("/../..")),
        ("cgroup", serde_json::json!("relative")),
        ("cgroup", serde_json::json!("/a\u{0}b")),
    ];
    let cases = contents.iter().map(|content| (Some(*content), None));
    let cases = cases.chain(fields.iter().map(|field| (None, Some(field.clone()))));
    let mut tried = 0;
    for case in cases {
        let (conf_dir, mut holder) = held("unreadable");
        let path = conf_dir.record_path(holder.id());
        let other = conf_dir.path().join("other");
        fs::write(&other, "somebody else's").unwrap();
        match &case {
            (Some(content), _) => {
                fs::remove_file(&path).unwrap();
                match *content {
                    "folder" => fs::create_dir_all(path.join("x")).unwrap(),
                    "fifo" => nix::unistd::mkfifo(&path, Mode::from_bits_truncate(0o644)).unwrap(),
                    "link" => symlink(&other, &path).unwrap(),
                    content => fs::write(&path, content).unwrap(),
                }
            }
            (_, Some(field)) => forge(&conf_dir, holder.id(), std::slice::from_ref(field)),
            _ => unreachable!(),
        }
        // Its PID has no record now, and is alive while it exists.
        let next = StandIn::new("next-unreadable");
        let call = HookCall::create(conf_dir.path(), &next, "p");
        let ran = call.run().must_refuse(&["1 of 1 are held"]);
        assert!(ran.stderr.contains(path.to_str().unwrap()), "{case:?}: {}", ran.stderr);
        assert!(ran.stderr.lines().all(|line| line.starts_with("kcm-hook: ")), "{}", ran.stderr);
        assert_eq!(conf_dir.tasks("p", "0"), holder.pid().to_string(), "{case:?}");
        let names = [format!("{}.bad", holder.id())];
        assert_eq!(conf_dir.allocations(), names, "{case:?}");
        holder.kill();
        call.run().must_succeed();
        assert_eq!(fs::read_to_string(&other).unwrap(), "somebody else's");
        tried += 1;
    }
    println!("{tried} unreadable records set aside");
}

#[test]
fn an_unreadable_record_of_the_containers_own_name_does_not_stop_it() {
    for with in ["garbage", "folder", "link"] {
        let conf_dir = ConfDir::new(&[("p", true, &["0"])]);
        let container = StandIn::new("own");
        fs::create_dir(conf_dir.path().join("allocations")).unwrap();
        let path = conf_dir.record_path("own");
        match with {
            "folder" => fs::create_dir_all(path.join("x")).unwrap(),
            "link" => symlink("/etc/passwd", &path).unwrap(),
            _ => fs::write(&path, with).unwrap(),
        }
        HookCall::create(conf_dir.path(), &container, "p").run().must_succeed();
        assert_eq!(conf_dir.record("own").unwrap()["pid"], container.pid(), "{with}");
        assert_eq!(conf_dir.allocations(), ["own.bad", "own.json"], "{with}");
    }
}

#[test]
fn a_record_that_cannot_be_set_aside_holds_nobody_up() {
    let conf_dir = ConfDir::new(&[("p", true, &["0"])]);
    let mut holder = StandIn::new("aside-holder");
    HookCall::create(conf_dir.path(), &holder, "p").run().must_succeed();
    fs::write(conf_dir.record_path("x"), "garbage").unwrap();
    fs::create_dir_all(conf_dir.path().join("allocations/x.bad/in-the-way")).unwrap();
    holder.kill();
    let next = StandIn::new("aside-next");
    HookCall::create(conf_dir.path(), &next, "p").run().must_succeed();
}

#[test]
fn a_record_that_names_a_foreign_live_cgroup_is_kept_alive_by_nobody_there() {
    let (conf_dir, mut holder) = held("foreign");
    let foreign = StandIn::new("foreign");
    forge(&conf_dir, holder.id(), &[("cgroup", foreign.cgroup().path().into())]);
    holder.kill();
    let before = (foreign.cgroup().cpus(), foreign.allowed_cpus());
    let next = StandIn::new("next-foreign");
    HookCall::create(conf_dir.path(), &next, "p").run().must_succeed();
    assert_eq!((foreign.cgroup().cpus(), foreign.allowed_cpus()), before);
}

#[test]
fn a_successor_in_the_same_cgroup_keeps_no_dead_holder_alive() {
    // A runtime with a fixed cgroupsPath; with one list, and with another for the successor.
    for lists in [&["0"][..], &["0", "1"]] {
        let conf_dir = ConfDir::new(&[("p", true, lists)]);
        let mut first = StandIn::new("job-1");
        HookCall::create(conf_dir.path(), &first, "p").run().must_succeed();
        first.kill();
        let mut second = Command::new("sleep").arg("600").stdin(Stdio::null()).spawn().unwrap();
        let pid = second.id() as i32;
        first.cgroup().enter(pid);
        let state = serde_json::json!({
            "ociVersion": "1.0.2", "id": "job-2", "status": "creating", "pid": pid, "bundle": "",
            "annotations": {POOL: "p"},
        });
        HookCall::with_input(conf_dir.path(), "createRuntime", state.to_string())
            .run()
            .must_succeed();
        reconcile(&conf_dir, &[]).succeeded();
        let held = holders(&conf_dir, "p");
        assert_eq!(held_by(&held, pid).len(), 1);
        assert_eq!(
            (free(&held), conf_dir.allocations()),
            (lists.len() - 1, vec!["job-2.json".into()])
        );
        second.kill().unwrap();
        second.wait().unwrap();
    }
}

#[test]
fn a_cgroup_outlives_its_init_and_so_does_the_allocation() {
    let (conf_dir, mut holder) = held("cgroup");
    let mut other = StandIn::new("cgroup-other");
    holder.cgroup().enter(other.pid());
    holder.kill();
    let next = StandIn::new("cgroup-next");
    let call = HookCall::create(conf_dir.path(), &next, "p");
    call.run().must_refuse(&["1 of 1 are held"]);
    other.kill();
    call.run().must_succeed();
}

#[test]
fn a_record_that_the_disk_does_not_give_back_frees_nothing() {
    // Its init is dead, and only the record knows that its cgroup is not empty.
    let (conf_dir, mut holder) = held("disk");
    let other = StandIn::new("disk-other");
    holder.cgroup().enter(other.pid());
    holder.kill();
    let before = conf_dir.snapshot();
    let next = StandIn::new("disk-next");
    let call = HookCall::create(conf_dir.path(), &next, "p");
    let file = format!("{}.json", holder.id());
    let opens = |call: &&SystemCall| call.name == "openat2" && call.line.contains(&file);
    let point = Trace::of(&call, &[]).calls.iter().find(opens).unwrap().clone();
    let trace = Trace::of(&call, &[&format!("openat2:error=EIO:when={}", point.nth)]);
    trace.ran.must_refuse(&[&file, "Input/output error"]);
    assert_eq!(conf_dir.snapshot(), before);
}

#[test]
fn a_record_of_another_owner_for_a_live_containers_list_takes_nothing_from_it() {
    // A forged record says that a dead process holds the list, with the live holder's PID.
    let (conf_dir, holder) = held("forged");
    let mut record = conf_dir.record(holder.id()).unwrap();
    record["owner"] = "forged".into();
    record["startTime"] = 1.into();
    record["cgroup"] = "/kcm-test-gone".into();
    conf_dir.write_record("forged", &record);
    let next = StandIn::new("forged-next");
    HookCall::create(conf_dir.path(), &next, "p").run().must_refuse(&["1 of 1 are held"]);
    HookCall::poststop(conf_dir.path(), "forged").run().must_succeed();
    assert_eq!(held_by(&holders(&conf_dir, "p"), holder.pid()), ["0"]);
    HookCall::create(conf_dir.path(), &next, "p").run().must_refuse(&["1 of 1 are held"]);
}

#[test]
fn another_live_container_of_the_same_id_is_refused() {
    let (conf_dir, holder) = held("twin");
    // The same id below another --root: another cgroup.
    let twin = StandIn::new("twin");
    let state = twin.state(&[("kcm.intel.com/pool", "p")]).replace("\"twin\"", "\"holder-twin\"");
    let call = HookCall::with_input(conf_dir.path(), "createRuntime", state);
    call.run().must_refuse(&["another live container with id holder-twin"]);
    assert_eq!(held_by(&holders(&conf_dir, "p"), holder.pid()), ["0"]);
    // The twin's removal is no reason to free what the first one holds.
    HookCall::poststop(conf_dir.path(), "holder-twin").run().must_succeed();
    assert_eq!(held_by(&holders(&conf_dir, "p"), holder.pid()), ["0"]);
}

#[test]
fn the_same_process_again_gets_what_it_has() {
    let (conf_dir, holder) = held("again");
    let before = conf_dir.snapshot();
    HookCall::create(conf_dir.path(), &holder, "p").run().must_succeed();
    assert_eq!(conf_dir.snapshot(), before);
}

#[test]
fn an_empty_cgroup_frees_what_its_dead_init_held() {
    let (conf_dir, mut holder) = held("empty");
    let _still_there: &Cgroup = holder.cgroup();
    holder.kill();
    let next = StandIn::new("empty-next");
    HookCall::create(conf_dir.path(), &next, "p").run().must_succeed();
}
