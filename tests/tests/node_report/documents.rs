//! The whole report, byte for byte.

use std::fs;

use kcm_tests::conf_dir::ConfDir;
use kcm_tests::kcm::{kcm, run};
use kcm_tests::node::on_a_node;

use super::machine::{MANUAL, Machine};
use super::{on, parse};

/// Two sockets that take turns, of which the second is CPU 0's; CPU 7 is offline.
const SOCKETS: &str = "1,5 3,7; 0,4 2,6";

/// CPUs 2, 3 and 6 isolated: core 2 wholly, core 3 as far as it is online.
const CMDLINE: &str = "root=/dev/sda1 isolcpus=2-3,6 quiet";

const JSON: &str = r#"{
  "checks": {
    "configDirectory": {
      "errors": [],
      "ok": true
    },
    "isolation": {
      "errors": [],
      "ok": true,
      "pools": {
        "dataplane": {
          "defaultPool": {
            "message": "no default pool (containerd, podman)",
            "remedy": "kcm install --runtime=containerd --runtime=podman --default-pool=infra --conf-dir=CONF_DIR",
            "state": "missing"
          },
          "isolcpus": {
            "message": "isolated by the kernel's command line",
            "state": "holds"
          },
          "partition": {
            "message": "whether the kernel has cpuset partitions cannot be told: there is no MACHINE/proc/sys/kernel/osrelease",
            "state": "unknown"
          },
          "quota": {
            "message": "quotas cannot be told: cannot tell who is alive: MACHINE/proc does not show the host's processes; mount the host's /proc (for example at /host/proc) and set KCM_PROC_FS to that path",
            "state": "unknown"
          },
          "shield": {
            "message": "the shield cannot be told: the node's /var/lib/kcm is not mounted here",
            "state": "unknown"
          }
        }
      }
    }
  },
  "description": {
    "path": "CONF_DIR",
    "pools": {
      "dataplane": {
        "cpuLists": {
          "2,6": {
            "cpus": "2,6",
            "tasks": [
              4711
            ]
          },
          "3": {
            "cpus": "3",
            "tasks": []
          }
        },
        "exclusive": true,
        "name": "dataplane"
      },
      "infra": {
        "cpuLists": {
          "0-1,4-5": {
            "cpus": "0-1,4-5",
            "tasks": [
              12,
              34
            ]
          }
        },
        "exclusive": false,
        "name": "infra"
      }
    }
  },
  "topology": {
    "sockets": {
      "0": {
        "cores": [
          {
            "cpus": [
              {
                "id": 0,
                "isolated": false
              },
              {
                "id": 4,
                "isolated": false
              }
            ],
            "id": 0
          },
          {
            "cpus": [
              {
                "id": 2,
                "isolated": true
              },
              {
                "id": 6,
                "isolated": true
              }
            ],
            "id": 2
          }
        ],
        "id": 0
      },
      "1": {
        "cores": [
          {
            "cpus": [
              {
                "id": 1,
                "isolated": false
              },
              {
                "id": 5,
                "isolated": false
              }
            ],
            "id": 1
          },
          {
            "cpus": [
              {
                "id": 3,
                "isolated": true
              }
            ],
            "id": 3
          }
        ],
        "id": 1
      }
    }
  }
}
"#;

fn pools() -> ConfDir {
    let conf = ConfDir::new(&[("dataplane", true, &["2,6", "3"]), ("infra", false, &["0-1,4-5"])]);
    fs::write(conf.tasks_path("dataplane", "2,6"), "4711").unwrap();
    fs::write(conf.tasks_path("infra", "0-1,4-5"), "12,34").unwrap();
    conf
}

#[test]
fn a_machine_of_two_sockets_is_reported_byte_for_byte() {
    on_a_node(|_| {
        let machine = Machine::with_offline(SOCKETS, "7").with_cmdline(CMDLINE);
        let conf = pools();
        let before = conf.snapshot();
        let outcome = on(&machine, conf.path(), "node-report").succeeded();
        let folder = machine.path("proc").parent().unwrap().to_owned();
        let json = JSON.replace("CONF_DIR", conf.path().to_str().unwrap());
        assert_eq!(outcome.out, json.replace("MACHINE", folder.to_str().unwrap()));
        assert_eq!(outcome.err, "");
        assert_eq!(conf.snapshot(), before);
        // The flag is the same as the variable.
        let mut command = kcm();
        let command = machine.show_to(command.arg("node-report"));
        let flag = run(command.arg("--conf-dir").arg(conf.path())).succeeded();
        assert_eq!((flag.out, flag.err), (outcome.out, outcome.err));
    });
}

#[test]
fn a_missing_directory_is_reported_byte_for_byte() {
    let machine = Machine::new("0").with_cmdline("quiet");
    let json = r#"{
  "checks": {
    "configDirectory": {
      "errors": [
        "CONF_DIR is no kcm configuration directory; make one with: kcm init --conf-dir=CONF_DIR"
      ],
      "ok": false
    },
    "isolation": {
      "errors": [
        "the pools cannot be read: see configDirectory"
      ],
      "ok": false,
      "pools": {}
    }
  },
  "description": null,
  "topology": {
    "sockets": {
      "0": {
        "cores": [
          {
            "cpus": [
              {
                "id": 0,
                "isolated": false
              }
            ],
            "id": 0
          }
        ],
        "id": 0
      }
    }
  }
}
"#;
    let outcome = machine.kcm(&["node-report"]).succeeded();
    assert_eq!(outcome.out, json.replace("CONF_DIR", machine.conf_dir().to_str().unwrap()));
    assert!(!machine.path("etc").exists(), "nothing was made");
}

#[test]
fn the_description_is_what_describe_prints() {
    let machine = Machine::new(MANUAL).with_isolated_in_sysfs("3-7,11-15");
    machine.init(4, 1).succeeded();
    let report = parse(&machine.kcm(&["node-report"]).succeeded());
    let described = machine.kcm(&["describe"]).succeeded();
    assert_eq!(report["description"], parse(&described));
    // As bytes, too: in the report, describe's lines are two blanks further in.
    let whole = machine.kcm(&["node-report"]).out;
    let lines = described.out.lines().enumerate();
    let lines = lines.map(|(n, line)| if n == 0 { line.into() } else { format!("  {line}") });
    let description = lines.collect::<Vec<_>>().join("\n");
    assert!(whole.contains(&format!("\"description\": {description},\n")), "{whole}");
}

/// The CPUs that the report calls isolated, ascending.
fn isolated(machine: &Machine) -> Vec<u64> {
    let report = parse(&machine.kcm(&["node-report"]).succeeded());
    let sockets = report["topology"]["sockets"].as_object().unwrap().values();
    let cores = sockets.flat_map(|socket| socket["cores"].as_array().unwrap());
    let cpus = cores.flat_map(|core| core["cpus"].as_array().unwrap());
    let isolated = cpus.filter(|cpu| cpu["isolated"].as_bool().unwrap());
    let mut isolated: Vec<u64> = isolated.map(|cpu| cpu["id"].as_u64().unwrap()).collect();
    isolated.sort_unstable();
    isolated
}

#[test]
fn isolated_is_what_the_kernels_command_line_says_and_else_what_sysfs_says() {
    let machine = || Machine::new(MANUAL).with_isolated_in_sysfs("1,9");
    assert_eq!(isolated(&machine()), [1, 9]);
    assert_eq!(isolated(&machine().with_cmdline("isolcpus=nohz,domain,3-4,11")), [3, 4, 11]);
    // That isolates from interrupts alone.
    assert_eq!(isolated(&machine().with_cmdline("isolcpus=managed_irq,3")), [0; 0]);
    assert_eq!(isolated(&Machine::with_offline(MANUAL, "4").with_cmdline("isolcpus=3-5")), [3, 5]);
    assert!(isolated(&Machine::new(MANUAL)).is_empty());
}

#[test]
fn a_machine_that_cannot_be_read_is_an_error_since_there_is_nothing_to_report() {
    let machine = Machine::new(MANUAL);
    fs::remove_dir_all(machine.path("sys")).unwrap();
    let missing = machine.path("sys/devices/system/cpu");
    machine.kcm(&["node-report"]).failed_with(&[missing.to_str().unwrap(), "No such file"]);
}
