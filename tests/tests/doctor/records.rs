//! Records that cannot be read, and those that were set aside.

use std::fs;

use kcm_tests::conf_dir::ConfDir;
use kcm_tests::hook::HookCall;
use kcm_tests::kcm::{kcm, reconcile, run};
use kcm_tests::stand_in::{StandIn, new_id};
use serde_json::Value;

use super::look::{look, remedy, type_in};

/// What the check of node-report says.
fn errors(conf: &ConfDir) -> Vec<String> {
    let report = run(kcm().arg("node-report").env("KCM_CONF_DIR", conf.path())).succeeded();
    let report: Value = serde_json::from_str(&report.out).unwrap();
    serde_json::from_value(report["checks"]["configDirectory"]["errors"].clone()).unwrap()
}

#[test]
fn a_record_that_was_set_aside_is_named_for_as_long_as_it_is_there() {
    let conf = ConfDir::new(&[("p", true, &["0"])]);
    let aside = conf.path().join("allocations/ghost.bad");
    fs::create_dir(conf.path().join("allocations")).unwrap();
    fs::write(&aside, "{").unwrap();
    let path = aside.to_str().unwrap();
    for _ in 0..2 {
        let [error] = &errors(&conf)[..] else { panic!("{:?}", errors(&conf)) };
        let parts = [path, "was set aside", "container ghost", "then remove the file"];
        assert!(parts.iter().all(|part| error.contains(part)), "{error}");
        remedy(&look(&conf), "directory", "fail", &parts);
        // Nobody can be told by it, so it stays.
        assert_eq!(reconcile(&conf, &[]).code, Some(1));
        assert!(aside.exists());
    }
    fs::remove_file(&aside).unwrap();
    assert!(errors(&conf).is_empty());
    look(&conf).is("directory", "ok", "in order");
}

#[test]
fn a_damaged_record_is_named_and_written_anew_of_its_copy() {
    let conf = ConfDir::new(&[("p", true, &["0"])]);
    let container = StandIn::new(&new_id("copied"));
    HookCall::create(conf.path(), &container, "p").run().must_succeed();
    let record = conf.record_path(container.id());
    let whole = fs::read(&record).unwrap();
    fs::write(&record, "{\"owner\":").unwrap();
    let findings = look(&conf);
    remedy(&findings, "directory", "fail", &[record.to_str().unwrap(), "run kcm reconcile"]);
    let said = run(kcm().arg("reconcile").env("KCM_CONF_DIR", conf.path()));
    let parts = ["wrote the record of", container.id(), "CPU list 0 of pool p has a copy of it"];
    assert!(parts.iter().all(|part| said.err.contains(part)), "{said:?}");
    assert_eq!(fs::read(&record).unwrap(), whole);
    let findings = look(&conf);
    findings.is("directory", "ok", "in order");
    findings.is("holders", "ok", "");
}

#[test]
fn a_damaged_record_of_a_live_holder_is_named_and_written_anew_as_it_is_told() {
    let conf = ConfDir::new(&[("p", true, &["0"])]);
    let container = StandIn::new(&new_id("damaged"));
    HookCall::create(conf.path(), &container, "p").run().must_succeed();
    let record = conf.record_path(container.id());
    let whole = conf.record(container.id()).unwrap();
    for path in [&record, &conf.index_path("p", "0")] {
        fs::write(path, "{\"owner\":").unwrap();
    }
    let path = record.to_str().unwrap();
    let errors = errors(&conf);
    assert!(errors.iter().any(|error| error.contains(path)), "{errors:?}");
    let findings = look(&conf);
    remedy(&findings, "directory", "fail", &[path, "run kcm reconcile"]);
    let parts = ["its cgroup is marked as that of", container.id()];
    let told = remedy(&findings, "holders", "warn", &parts);
    let said = run(kcm().arg("reconcile").env("KCM_CONF_DIR", conf.path()));
    assert!(said.err.contains("wrote the record of"), "{said:?}");
    type_in(told.split(',').next().unwrap());
    let anew = conf.record(container.id()).unwrap();
    for key in ["owner", "pool", "cpuLists", "pid", "startTime", "cgroup", "cgroupInode"] {
        assert_eq!(anew[key], whole[key], "{key}");
    }
    let findings = look(&conf);
    findings.is("directory", "ok", "in order");
    findings.is("holders", "ok", "");
}

#[test]
fn what_a_pool_says_of_partitions_is_in_order_and_a_damaged_word_is_named() {
    let conf = ConfDir::new(&[("p", true, &["0"])]);
    let path = conf.path().join("pools/p/partition");
    for word in ["auto\n", "isolated required\n", "none", ""] {
        fs::write(&path, word).unwrap();
        look(&conf).is("directory", "ok", "in order");
    }
    fs::write(&path, "yes\n").unwrap();
    let parts = [path.to_str().unwrap(), "\"yes\" is none of none, root, isolated and auto"];
    remedy(&look(&conf), "directory", "fail", &parts);
}
