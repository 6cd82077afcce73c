//! What a container may ask for by its annotation.

use kcm_tests::alone::{alone, partition};
use kcm_tests::runtime::with_every_runtime;

use super::say;

const KEY: &str = "kcm.intel.com/partition";

#[test]
fn a_container_chooses_where_its_pool_leaves_it_the_choice() {
    let _alone = alone();
    with_every_runtime(&[("dataplane", true, &["2-3"]), ("shared", false, &["6-7"])], |scene| {
        let asking =
            |id: &str, value: &str| scene.container(id).pool("dataplane").annotation(KEY, value);
        // Others may stand beside those of a runtime alone, so that auto means nothing for them; a crun
        // that divides its scope has nobody there.
        let is_divided = scene.runtime.systemd && scene.runtime.program == "crun";
        let auto = if is_divided { "root" } else { "member" };
        for (value, is) in [("isolated", "isolated"), ("none", "member"), ("auto", auto)] {
            let container = asking("a", value).run();
            assert_eq!((container.cpus(), partition(&container.cgroup)), ("2-3".into(), is.into()));
            container.delete();
        }
        let message = asking("b", "member").refused();
        assert!(message.contains("annotation kcm.intel.com/partition is \"member\""), "{message}");
        say(scene, "dataplane", "root required\n");
        let message = asking("c", "none").refused();
        assert!(message.contains("pool dataplane allows no partition \"none\""), "{message}");
        say(scene, "dataplane", "rot\n");
        let message = asking("d", "auto").refused();
        assert!(
            message.contains("pools/dataplane/partition") && message.contains("write none"),
            "{message}"
        );
    });
}
