//! `kcm describe`, the built program: what other programs read, byte for byte.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods, missing_docs)]

#[path = "describe/malformed.rs"]
mod malformed;
#[path = "init/tmpfs.rs"]
mod tmpfs;
#[path = "describe/where_it_lies.rs"]
mod where_it_lies;

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::Stdio;

use kcm_tests::conf_dir::ConfDir;
use kcm_tests::kcm::{Outcome, kcm, run};

/// A directory as the operator manual shows it, with tasks.
fn manuals() -> ConfDir {
    let conf = ConfDir::new(&[
        ("controlplane", false, &["3,11"]),
        ("dataplane", true, &["4,12", "5,13", "6,14", "7,15"]),
        ("infra", false, &["0-2,8-10"]),
    ]);
    for (pool, list, tasks) in [
        ("controlplane", "3,11", "1000,1001,1002,1003"),
        ("dataplane", "4,12", "2000"),
        ("dataplane", "5,13", "2001"),
        ("dataplane", "6,14", "2002"),
        ("dataplane", "7,15", "2003"),
        ("infra", "0-2,8-10", "3002,3000,3001"),
    ] {
        std::fs::write(conf.tasks_path(pool, list), tasks).unwrap();
    }
    conf
}

/// What `describe` prints of it. Tasks are in the order of the file.
const MANUALS_JSON: &str = r#"{
  "path": "CONF_DIR",
  "pools": {
    "controlplane": {
      "cpuLists": {
        "3,11": {
          "cpus": "3,11",
          "tasks": [
            1000,
            1001,
            1002,
            1003
          ]
        }
      },
      "exclusive": false,
      "name": "controlplane"
    },
    "dataplane": {
      "cpuLists": {
        "4,12": {
          "cpus": "4,12",
          "tasks": [
            2000
          ]
        },
        "5,13": {
          "cpus": "5,13",
          "tasks": [
            2001
          ]
        },
        "6,14": {
          "cpus": "6,14",
          "tasks": [
            2002
          ]
        },
        "7,15": {
          "cpus": "7,15",
          "tasks": [
            2003
          ]
        }
      },
      "exclusive": true,
      "name": "dataplane"
    },
    "infra": {
      "cpuLists": {
        "0-2,8-10": {
          "cpus": "0-2,8-10",
          "tasks": [
            3002,
            3000,
            3001
          ]
        }
      },
      "exclusive": false,
      "name": "infra"
    }
  }
}
"#;

/// The JSON of a directory that lies at `path`.
fn json_at(json: &str, path: &Path) -> String {
    json.replace("CONF_DIR", path.to_str().unwrap())
}

fn describe(path: &Path) -> Outcome {
    run(kcm().arg("describe").arg("--conf-dir").arg(path))
}

#[test]
fn the_operator_manuals_directory_is_printed_byte_for_byte() {
    let conf = manuals();
    let before = conf.snapshot();
    let outcome = describe(conf.path()).succeeded();
    assert_eq!(outcome.out, json_at(MANUALS_JSON, conf.path()));
    assert_eq!(outcome.err, "");
    assert_eq!(conf.snapshot(), before);
}

#[test]
fn the_path_is_printed_as_it_was_given() {
    let conf = manuals();
    for path in ["kcm", "./kcm/", "kcm/../kcm"] {
        let mut command = kcm();
        command.args(["describe", "--conf-dir", path]);
        let outcome = run(command.current_dir(conf.path().parent().unwrap())).succeeded();
        assert_eq!(outcome.out, json_at(MANUALS_JSON, Path::new(path)));
    }
    let outcome = run(kcm().arg("describe").env("KCM_CONF_DIR", conf.path())).succeeded();
    assert_eq!(outcome.out, json_at(MANUALS_JSON, conf.path()));
}

#[test]
fn pools_without_lists_and_lists_without_tasks_are_empty_not_absent() {
    let conf = ConfDir::new(&[("a", true, &[]), ("b", false, &["0"])]);
    let json = r#"{
  "path": "CONF_DIR",
  "pools": {
    "a": {
      "cpuLists": {},
      "exclusive": true,
      "name": "a"
    },
    "b": {
      "cpuLists": {
        "0": {
          "cpus": "0",
          "tasks": []
        }
      },
      "exclusive": false,
      "name": "b"
    }
  }
}
"#;
    let outcome = describe(conf.path()).succeeded();
    assert_eq!(outcome.out, json_at(json, conf.path()));
    for file in ["a/partition", "b/partition"] {
        std::fs::write(conf.path().join("pools").join(file), "isolated required\n").unwrap();
    }
    let outcome = describe(conf.path()).succeeded();
    assert_eq!((outcome.out, outcome.err), (json_at(json, conf.path()), String::new()));
    std::fs::remove_file(conf.tasks_path("b", "0")).unwrap();
    let outcome = describe(conf.path()).succeeded();
    assert_eq!(outcome.out, json_at(json, conf.path()), "tasks is missing");
    std::fs::remove_dir_all(conf.path().join("pools")).unwrap();
    std::fs::create_dir(conf.path().join("pools")).unwrap();
    let outcome = describe(conf.path()).succeeded();
    let json = "{\n  \"path\": \"CONF_DIR\",\n  \"pools\": {}\n}\n";
    assert_eq!(outcome.out, json_at(json, conf.path()), "no pools");
}

/// 1,024 CPU lists with four tasks each.
fn large() -> ConfDir {
    let names: Vec<String> = (0..1024).map(|n| n.to_string()).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let conf = ConfDir::new(&[("dataplane", true, &names)]);
    for name in names {
        let tasks: Vec<String> = (1..=4).map(|n| format!("{n}{name}")).collect();
        std::fs::write(conf.tasks_path("dataplane", name), tasks.join(",")).unwrap();
    }
    conf
}

#[test]
fn a_thousand_lists_and_four_thousand_tasks_are_all_there_in_order() {
    let conf = large();
    let outcome = describe(conf.path()).succeeded();
    let mut names: Vec<String> = (0..1024).map(|n| n.to_string()).collect();
    names.sort();
    let lists = names.iter().map(|name| {
        let tasks = (1..=4).map(|n| format!("            {n}{name}"));
        let tasks = tasks.collect::<Vec<_>>().join(",\n");
        format!(
            "        \"{name}\": {{\n          \"cpus\": \"{name}\",\n          \"tasks\": [\n\
             {tasks}\n          ]\n        }}"
        )
    });
    let lists = lists.collect::<Vec<_>>().join(",\n");
    let json = format!(
        "{{\n  \"path\": \"CONF_DIR\",\n  \"pools\": {{\n    \"dataplane\": {{\n      \
         \"cpuLists\": {{\n{lists}\n      }},\n      \"exclusive\": true,\n      \
         \"name\": \"dataplane\"\n    }}\n  }}\n}}\n"
    );
    assert!(outcome.out == json_at(&json, conf.path()), "not the same bytes");
}

#[test]
fn a_reader_that_has_seen_enough_is_no_error() {
    let conf = large();
    let mut command = kcm();
    command.arg("describe").env("KCM_CONF_DIR", conf.path());
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut first = String::new();
    let mut out = BufReader::new(child.stdout.take().unwrap());
    out.read_line(&mut first).unwrap();
    drop(out);
    let outcome = Outcome::from(child.wait_with_output().unwrap()).succeeded();
    assert_eq!((first.as_str(), outcome.err.as_str()), ("{\n", ""));
}

#[test]
fn a_result_that_cannot_be_written_is_an_error() {
    let conf = manuals();
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let mut command = kcm();
    command.arg("describe").env("KCM_CONF_DIR", conf.path());
    let outcome = run(command.stdout(full));
    outcome.failed_with(&["standard output", "No space left on device"]);
}
