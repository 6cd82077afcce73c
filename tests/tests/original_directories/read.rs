//! `describe` and `node-report` of the original's directories.

use kcm_tests::kcm::{kcm, run};
use serde_json::{Value, json};

use super::machine::{MANUAL, Machine};
use super::original::Original;

#[test]
fn the_originals_directory_is_described_as_it_is_and_nothing_is_wrong_with_it() {
    let machine = Machine::new(MANUAL);
    // The names of v0.3, and those of v1.0.
    for [exclusive, shared] in [["dataplane", "controlplane"], ["exclusive", "shared"]] {
        let directory = Original::new(&[
            (exclusive, true, &["4,12", "5,13,6,14", "7,15"]),
            (shared, false, &["3,11"]),
            ("infra", false, &["0,8,1,9,2,10"]),
        ])
        .with_tasks(exclusive, "4,12", "2000")
        .with_tasks(exclusive, "5,13,6,14", "2001,\n")
        .with_tasks(exclusive, "7,15", "\n")
        .with_tasks(shared, "3,11", "1000,1001,1000")
        .with_tasks("infra", "0,8,1,9,2,10", " 3000, 3001 ");
        let path = directory.conf.path().to_str().unwrap();
        let expected = json!({
            "path": path,
            "pools": {
                exclusive: {
                    "cpuLists": {
                        "4,12": {"cpus": "4,12", "tasks": [2000]},
                        "5,13,6,14": {"cpus": "5,13,6,14", "tasks": [2001]},
                        "7,15": {"cpus": "7,15", "tasks": []},
                    },
                    "exclusive": true,
                    "name": exclusive,
                },
                shared: {
                    "cpuLists": {"3,11": {"cpus": "3,11", "tasks": [1000, 1001]}},
                    "exclusive": false,
                    "name": shared,
                },
                "infra": {
                    "cpuLists": {
                        "0,8,1,9,2,10": {"cpus": "0,8,1,9,2,10", "tasks": [3000, 3001]},
                    },
                    "exclusive": false,
                    "name": "infra",
                },
            },
        });

        let before = directory.conf.snapshot();
        let on = |subcommand| {
            let mut command = kcm();
            let command = machine.show_to(command.arg(subcommand)).env("KCM_CONF_DIR", path);
            let outcome = run(command).succeeded();
            assert_eq!(outcome.err, "", "{subcommand}");
            serde_json::from_str::<Value>(&outcome.out).unwrap()
        };
        assert_eq!(on("describe"), expected);
        let report = on("node-report");
        assert_eq!(report["description"], expected);
        assert_eq!(report["checks"]["configDirectory"], json!({"errors": [], "ok": true}));
        assert_eq!(directory.conf.snapshot(), before);
    }
}
