//! `kcm reconcile` in the original's directories, and what is left of them after everything.

use kcm_tests::hook::HookCall;
use kcm_tests::isolate::Isolate;
use kcm_tests::kcm::{self, kcm, run};
use kcm_tests::stand_in::StandIn;
use serde_json::{Value, json};

use super::original::{DEAD, DEAD_TOO, Isolated, Original};

fn reconcile(directory: &Original) -> Value {
    serde_json::from_str(&kcm::reconcile(&directory.conf, &[]).succeeded().out).unwrap()
}

fn reclaimed(pool: &str, list: &str, pid: i32) -> Value {
    json!({"cpus": list, "pid": pid, "pool": pool})
}

#[test]
fn the_dead_are_reclaimed_once_a_list_and_the_living_stay() {
    let live = Isolated::on("0,1");
    let pid = live.pid();
    let directory = Original::new(&[
        ("dataplane", true, &["0", "1", "1,0"]),
        ("controlplane", false, &["0,1"]),
        ("infra", false, &["0-1"]),
    ])
    .with_tasks("dataplane", "0", &DEAD.to_string())
    .with_tasks("dataplane", "1", &format!("{DEAD_TOO},{DEAD_TOO}\n"))
    .with_tasks("dataplane", "1,0", &pid.to_string())
    .with_tasks("controlplane", "0,1", &format!("{DEAD},{pid},{DEAD_TOO},{pid}, {DEAD}"));
    assert_eq!(
        reconcile(&directory),
        json!({
            "mismatchedCpuMasks": [],
            "reclaimedCpuLists": [
                reclaimed("controlplane", "0,1", DEAD_TOO),
                reclaimed("dataplane", "1", DEAD_TOO),
                reclaimed("controlplane", "0,1", DEAD),
                reclaimed("dataplane", "0", DEAD),
            ],
        })
    );
    assert_eq!(directory.tasks("dataplane", "0"), [0; 0]);
    assert_eq!(directory.tasks("dataplane", "1"), [0; 0]);
    assert_eq!(directory.tasks("dataplane", "1,0"), [pid]);
    let mut shared = directory.tasks("controlplane", "0,1");
    shared.dedup();
    assert_eq!(shared, [pid]);
    directory.must_be_readable();
    // A second round finds nothing, and writes nothing.
    let before = directory.conf.snapshot();
    let nothing = json!({"mismatchedCpuMasks": [], "reclaimedCpuLists": []});
    assert_eq!(reconcile(&directory), nothing);
    assert_eq!(directory.conf.snapshot(), before);
    drop(live);
    let last = reconcile(&directory);
    let freed = ["controlplane", "dataplane"].map(|pool| {
        let list = if pool == "dataplane" { "1,0" } else { "0,1" };
        reclaimed(pool, list, pid)
    });
    assert_eq!(last["reclaimedCpuLists"], json!(freed));
    directory.must_be_readable();
}

#[test]
fn after_everything_the_original_finds_its_directory_and_its_processes() {
    let live = Isolated::on("0");
    let directory = Original::new(&[
        ("exclusive", true, &["0", "1", "1,0", "0,1"]),
        ("shared", false, &["0-1"]),
        ("infra", false, &["0,1"]),
    ])
    .with_tasks("exclusive", "0", &live.pid().to_string())
    .with_tasks("exclusive", "1", &DEAD.to_string())
    .with_tasks("exclusive", "0,1", "\n")
    .with_tasks("infra", "0,1", &format!(" {},\n", live.pid()));
    let path = directory.conf.path();
    for subcommand in ["describe", "node-report"] {
        run(kcm().arg(subcommand).env("KCM_CONF_DIR", path)).succeeded();
    }
    let mut container = StandIn::new("whole-story");
    let pinned = StandIn::new("whole-story-shared");
    HookCall::create_cores(path, &container, "exclusive", 2).run().must_succeed();
    HookCall::create(path, &pinned, "shared").run().must_succeed();

    let script = "echo $$; exec sleep 600";
    let running = |pool| Isolate::new(&directory.conf, pool, &[]).script(script).start();
    let (mut left, infra) = (running("exclusive"), running("infra"));
    let [held, theirs] = [left.pid(), infra.pid()];
    let [child, _other] = [left.process(0), infra.process(0)];
    directory.must_be_readable();
    assert_eq!(directory.tasks("infra", "0,1"), [live.pid(), theirs]);
    for list in ["0", "1", "0,1", "1,0"] {
        assert_eq!(directory.tasks("exclusive", list).len(), 1, "{list} is held by one");
    }

    // One ends as it should, one is removed, one is killed with all that it has started.
    infra.signal(nix::sys::signal::Signal::SIGTERM);
    infra.finish();
    container.kill();
    HookCall::poststop(path, container.id()).run().must_succeed();
    left.kill();
    // It dies with kcm, and the list is held until then.
    child.ends();
    let report = reconcile(&directory);
    let reclaimed: Vec<i64> = report["reclaimedCpuLists"]
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| entry["pid"].as_i64().unwrap())
        .collect();
    assert_eq!(reclaimed, [i64::from(held)]);
    directory.must_be_readable();
    let all = ["0", "1", "0,1", "1,0"].map(|list| directory.tasks("exclusive", list));
    assert_eq!(all.concat(), [live.pid()]);
    assert_eq!(directory.tasks("shared", "0-1"), [pinned.pid()]);
    assert_eq!(directory.tasks("infra", "0,1"), [live.pid()]);
}
