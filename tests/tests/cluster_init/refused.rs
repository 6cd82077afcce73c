//! What is wrong is told before anything is made, and mostly before anybody is asked.

use super::cluster::{cluster, run};

#[test]
fn what_is_wrong_is_told_before_anything_is_made() {
    let order = "init command should be run and listed first.";
    let known = "KCM command should be one of [init, discover, install, reconcile, nodereport], \
                 not";
    for (flag, message) in [
        ("--kcm-cmd-list=install,init", order),
        ("--kcm-cmd-list=reconcile,init", order),
        ("--kcm-cmd-list=init,isolate", &format!("{known} \"isolate\"")),
        ("--kcm-cmd-list=Init", &format!("{known} \"Init\"")),
        ("--kcm-cmd-list=", &format!("{known} \"\"")),
        ("--kcm-cmd-list=init,,install", &format!("{known} \"\"")),
        ("--kcm-cmd-list=init,install,install", "install is twice in --kcm-cmd-list"),
        ("--kcm-cmd-list=init,init", "init is twice in --kcm-cmd-list"),
        (
            "--kcm-img-pol=Sometimes",
            "Image pull policy should be one of [Never, IfNotPresent, Always], not \"Sometimes\"",
        ),
        ("--kcm-img-pol=always", "Image pull policy should be one of"),
        ("--num-dp-cores=0", "num_dp_cores cores should be a positive integer, not 0."),
        ("--num-dp-cores=-1", "num_dp_cores cores should be a positive integer, not -1."),
        ("--num-cp-cores=0", "num_cp_cores cores should be a positive integer, not 0."),
        ("--num-cp-cores=-7", "num_cp_cores cores should be a positive integer, not -7."),
        ("--conf-dir=etc/kcm", "--conf-dir=etc/kcm is no absolute path"),
        ("--conf-dir=/etc/../kcm", "--conf-dir=/etc/../kcm is no absolute path"),
        ("--install-dir=bin", "--install-dir=bin is no absolute path"),
        ("--install-dir=", "--install-dir= is no absolute path"),
        ("--timeout=0", "--timeout=0: give the seconds that a node may take"),
        ("--kcm-img=", "\"\" is no image (--kcm-img)"),
        ("--kcm-img=a b", "\"a b\" is no image (--kcm-img)"),
        ("--namespace=", "--namespace= is no name of a namespace"),
        ("--namespace=a/b", "--namespace=a/b is no name of a namespace"),
        ("--namespace=Ops", "--namespace=Ops is no name of a namespace"),
    ] {
        let api = cluster(&["worker-1"]);
        let outcome = run(&api, &["--host-list=worker-1", flag]).failed_with(&[message]);
        assert_eq!(outcome.lines("INFO").len(), 0, "{flag}");
        assert_eq!(api.requests().len(), 0, "{flag}");
    }
}

#[test]
fn what_is_no_number_is_wrong_usage() {
    let api = cluster(&["worker-1"]);
    for flag in ["--num-dp-cores=x", "--num-cp-cores=1.5", "--timeout=-1", "--runtime=docker"] {
        let outcome = run(&api, &["--host-list=worker-1", flag]);
        assert_eq!(outcome.code, Some(2), "{outcome:?}");
        assert!(outcome.err.contains(flag.split_once('=').unwrap().0), "{outcome:?}");
    }
    assert_eq!(api.requests().len(), 0);
}

#[test]
fn a_node_whose_pod_would_have_too_long_a_name_is_told_before_anything_is_made() {
    let long = format!("{}.{}", "a".repeat(120), "b".repeat(120));
    let api = cluster(&[&long]);
    run(&api, &["--all-hosts"]).failed_with(&[&long, "over 253 characters", "--kcm-cmd-list"]);
    assert_eq!(api.writes().len(), 0);
}
