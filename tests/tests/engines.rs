//! Several engines on one node: they share its pools, and never an exclusive CPU list.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods, missing_docs)]

use kcm_tests::cri::Containerd;
use kcm_tests::isolate::{Isolate, status};
use kcm_tests::machine::{two_cpus, until};
use kcm_tests::node::on_a_node;
use kcm_tests::podman::Podman;

const PODMANS: &[&str] = &["kcm.intel.com/pool=exclusive"];
const PODS: &[(&str, &str)] = &[("kcm.intel.com/pool", "exclusive")];
const STAY: &str = "exec sleep 1000";

#[test]
fn podman_containerd_and_isolate_share_the_pools_and_no_exclusive_list() {
    let [first, second] = two_cpus();
    on_a_node(|node| {
        node.make_pools(&[("exclusive", true, &first), ("exclusive", true, &second)]);
        let (podman, containerd) = (Podman::new(node, "runc"), Containerd::new(node, ""));
        node.kcm(&["install", "--runtime=podman", "--runtime=containerd"]).succeeded();
        containerd.start();

        podman.start("a", PODMANS);
        let pod = containerd.sandbox("b", "kcm", PODS).unwrap();
        let b = pod.container("main", STAY).unwrap();
        assert_eq!([podman.cpus("a", 0), status(b.pid(), "Cpus_allowed_list")], [&*first, &second]);

        // No third one gets in, by any way.
        let refused = podman.start_with("c", PODMANS, &["sh", "-c", STAY]);
        assert!(refused.err.contains("2 of 2 are held"), "{refused:?}");
        let refused = pod.container("c", STAY).unwrap_err();
        assert!(refused.contains("2 of 2 are held"), "{refused}");
        let isolate = || Isolate::of([kcm_tests::programs::program("kcm")]).words(["isolate"]);
        let refused = isolate().words(["--pool=exclusive", "true"]).run();
        assert_eq!(refused.code, Some(125), "{refused:?}");

        // What one gives back another gets.
        podman.podman(&["rm", "--force", "--time=0", "a"]).succeeded();
        until("the first list to be free", || {
            node.tasks("exclusive", &first).is_empty().then_some(())
        });
        let d = pod.container("d", STAY).unwrap();
        assert_eq!(status(d.pid(), "Cpus_allowed_list"), first);
        b.stop();
        until("the second list to be free", || {
            node.tasks("exclusive", &second).is_empty().then_some(())
        });
        let script = "echo $KCM_CPUS_ASSIGNED";
        let isolated = isolate().words(["--pool=exclusive"]).script(script).run().succeeded();
        assert_eq!(isolated.out, format!("{second}\n"));
    });
}
