//! What only a machine of one's own can show: CPUs that go away, and memory of several nodes.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods, missing_docs)]

use std::process::Stdio;
use std::time::Duration;

use kcm_tests::kcm::{Outcome, kcm, run};
use kcm_tests::machine::{Offline, must_be_the_guest, sysfs_cpus, two_cpus};
use kcm_tests::runtime::with_every_runtime;

#[test]
fn a_list_with_an_offline_cpu_is_passed_over_and_named_where_none_is_left() {
    must_be_the_guest();
    let cpus: Vec<u32> = sysfs_cpus("cpu/online").iter().collect();
    let [.., before_last, last] = &cpus.iter().map(u32::to_string).collect::<Vec<_>>()[..] else {
        panic!("too few CPUs")
    };
    // The offline one comes first in the pool: a list is ordered by its lowest CPU.
    let half_offline = format!("{},{last}", two_cpus()[0]);
    let pools: &[(_, _, &[&str])] = &[("dataplane", true, &[&half_offline, before_last])];
    with_every_runtime(pools, |scene| {
        let offline = Offline::take(last);
        let container = scene.container("a").pool("dataplane").run();
        assert_eq!(container.cpus(), *before_last);
        scene.logged(&format!("skipping CPU list {half_offline} of pool dataplane"));
        let message = scene.container("b").pool("dataplane").refused();
        assert!(message.contains("No free cpu lists in pool dataplane"), "{message}");
        let two = scene.container("c").pool("dataplane").annotation("kcm.intel.com/cores", "2");
        let message = two.refused();
        assert!(
            message.contains("only 1 of 2 CPU lists of pool dataplane can be used"),
            "{message}"
        );
        drop(offline);
        let container = scene.container("d").pool("dataplane").run();
        assert_eq!(container.cpus(), half_offline);
    });
}

#[test]
fn a_cpu_that_goes_offline_while_it_is_watched_is_an_error_and_one_that_is_offline_is_named() {
    must_be_the_guest();
    let last = sysfs_cpus("cpu/online").iter().last().unwrap().to_string();
    let noise = |duration: &str| {
        let mut command = kcm();
        command.args(["noise", &format!("--cpus=0,{last}"), duration, "--output=json"]);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    };
    let watching = noise("--duration=5s").spawn().unwrap();
    std::thread::sleep(Duration::from_secs(2));
    let offline = Offline::take(&last);
    let outcome = Outcome::from(watching.wait_with_output().unwrap());
    let error = outcome.lines("ERROR").join("\n");
    assert_eq!((outcome.code, outcome.out.as_str()), (Some(1), ""), "{outcome:?}");
    assert!(error.contains(&format!("CPUs {last} went offline meanwhile")), "{error}");
    let error = format!("CPUs {last} are not online");
    run(&mut noise("--duration=50ms")).failed_with(&[&error]);
    drop(offline);
    run(&mut noise("--duration=50ms")).succeeded();
}
