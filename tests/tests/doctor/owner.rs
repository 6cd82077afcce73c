//! Directories in which others than root decide.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, lchown};

use kcm_tests::conf_dir::ConfDir;
use kcm_tests::hook::HookCall;
use kcm_tests::stand_in::{StandIn, new_id};

use super::look::{look, remedy, type_in};

const NOBODY: u32 = 65534;

#[test]
fn whatever_others_than_root_may_write_fails_until_what_is_told_is_done() {
    let container = StandIn::new(&new_id("owner"));
    for name in [
        "",
        "pools",
        "pools/p",
        "pools/p/0",
        "pools/p/exclusive",
        "pools/p/0/tasks",
        "lock",
        "allocations",
        &format!("allocations/{}.json", container.id()),
    ] {
        let conf = ConfDir::new(&[("p", true, &["0"])]);
        HookCall::create(conf.path(), &container, "p").run().must_succeed();
        look(&conf).is("owner", "ok", "is root's alone");
        let path = conf.path().join(name);
        let path = path.to_str().unwrap().trim_end_matches('/');
        let mode = fs::metadata(path).unwrap().permissions().mode();
        for spoil in [
            (|path, mode| fs::set_permissions(path, Permissions::from_mode(mode | 0o002)).unwrap())
                as fn(&str, u32),
            |path, mode| fs::set_permissions(path, Permissions::from_mode(mode | 0o020)).unwrap(),
            |path, _| lchown(path, Some(NOBODY), None).unwrap(),
        ] {
            spoil(path, mode);
            let told = remedy(&look(&conf), "owner", "fail", &["decide who holds CPUs", path]);
            assert!(told.contains(&format!(" {path};")), "{told}");
            type_in(told.split(';').next().unwrap());
            look(&conf).is("owner", "ok", "is root's alone");
        }
    }
}

#[test]
fn a_directory_that_is_an_ordinary_users_with_all_that_is_in_it_comes_to_be_roots_step_by_step() {
    let conf = ConfDir::new(&[("p", true, &["0"])]);
    fs::set_permissions(conf.path(), Permissions::from_mode(0o777)).unwrap();
    conf.give_to_nobody();
    for _ in 0..20 {
        let findings = look(&conf);
        if findings.get("owner").status == "ok" {
            return;
        }
        let told = remedy(&findings, "owner", "fail", &["others than root"]);
        type_in(told.split(';').next().unwrap());
    }
    panic!("{:?}", look(&conf).get("owner"));
}
