//! `kcm isolate` under the shield.

use kcm_tests::alone::{alone, others_have, partition};
use kcm_tests::conf_dir::ConfDir;
use kcm_tests::isolate::{Isolate, Running};
use kcm_tests::kcm::{Outcome, kcm, reconcile, run};
use kcm_tests::machine::{effective_cpus, until};

/// As in a login; its command says its number.
fn in_a_login(conf: &ConfDir, name: &str) -> Running {
    let unit = format!("--unit=session-{name}");
    let login = ["systemd-run", "--scope", "--quiet", "--slice=user-0.slice", &unit];
    Isolate::new(conf, "p", &[]).script("echo $$; exec sleep 600").under(login).start()
}

fn must_be_alone(isolate: &Running, cpus: &str, when: &str) {
    let process = isolate.line(0).parse().unwrap();
    assert_eq!(partition(&isolate.cgroup()), "root", "CPUs {cpus}, {when}");
    let allowed = kcm_tests::isolate::status(process, "Cpus_allowed_list");
    assert_eq!((allowed.as_str(), others_have(cpus)), (cpus, false), "{when}");
}

#[test]
fn a_command_has_its_core_whether_it_starts_before_the_shield_or_under_it_and_keeps_it_after_it() {
    let _alone = alone();
    let conf = ConfDir::new(&[("p", true, &["4-5", "6-7"])]);
    let shield = |word: &str| -> Outcome {
        run(kcm().args(["shield", word]).env("KCM_CONF_DIR", conf.path()))
    };
    let mut before = in_a_login(&conf, "kcmbefore");
    must_be_alone(&before, "4-5", "at its start");
    shield("on").succeeded();
    assert_eq!(effective_cpus("/user.slice").to_string(), "0-3,8-15");
    must_be_alone(&before, "4-5", "when the shield was put on");
    let mut under = in_a_login(&conf, "kcmunder");
    must_be_alone(&under, "6-7", "under the shield");
    // The mask of what is bound to no CPU goes without a partition's for as long as it is there; that is
    // told, unless a container had those CPUs before the shield was on.
    let off = shield("off");
    assert!(off.out.starts_with("shield: off") && off.lines("ERROR").len() <= 1, "{off:?}");
    let mask = std::fs::read_to_string("/sys/devices/virtual/workqueue/cpumask").unwrap();
    let mask = u32::from_str_radix(mask.trim(), 16).unwrap();
    assert_eq!(mask & 0b1111_0000, 0, "{mask:x}");
    must_be_alone(&before, "4-5", "when the shield was taken off");
    must_be_alone(&under, "6-7", "when the shield was taken off");
    before.kill();
    under.kill();
    until("others to have the CPUs again", || {
        reconcile(&conf, &[]).succeeded();
        others_have("4-7").then_some(())
    });
    shield("off").succeeded();
    assert_eq!(effective_cpus("/user.slice").to_string(), "0-15");
}
