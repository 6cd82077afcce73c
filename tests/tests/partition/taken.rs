//! Taken at the start, given back at the end.

use kcm_tests::alone::{alone, aside, others_have, partition};
use kcm_tests::isolate::status;
use kcm_tests::machine::{effective_cpus, reload_systemd};
use kcm_tests::runtime::with_every_runtime;

use super::say;

#[test]
fn a_container_has_its_cpus_for_itself_alone_until_it_ends() {
    let _alone = alone();
    with_every_runtime(&[("dataplane", true, &["2-3", "4-5"])], |scene| {
        assert!(others_have("2-5"));
        say(scene, "dataplane", "root");
        let first = scene.container("a").pool("dataplane").run();
        assert_eq!((first.cpus(), partition(&first.cgroup)), ("2-3".into(), "root".into()));
        assert!(!others_have("2") && !others_have("3") && others_have("4-5"));
        scene.logged("for itself alone (partition root)");
        let second = scene.container("b").pool("dataplane").run();
        assert_eq!((second.cpus(), partition(&second.cgroup)), ("4-5".into(), "root".into()));
        assert_eq!(
            (partition(&first.cgroup), aside(&scene.parent_cgroup())),
            ("root".into(), "2-5".into())
        );
        assert_eq!(scene.conf.record("a").unwrap()["partition"], "root");
        first.delete();
        assert!(others_have("2-3"));
        assert_eq!(
            (partition(&second.cgroup), aside(&scene.parent_cgroup())),
            ("root".into(), "4-5".into())
        );
        let third = scene.container("c").pool("dataplane").run();
        assert_eq!((third.cpus(), partition(&third.cgroup)), ("2-3".into(), "root".into()));
        assert_eq!(effective_cpus(&second.cgroup).to_string(), "4-5");
        second.delete();
        third.delete();
        assert_eq!(aside(&scene.parent_cgroup()), "");
        assert!(others_have("2-5"));
        // Nothing of a list that is held by somebody else's partition is a warning's matter.
        assert!(!scene.log().contains("skipping"), "{}", scene.log());
        assert!(!scene.log().contains("WARNING"), "{}", scene.log());
    });
}

#[test]
fn each_kind_is_what_its_pool_says_and_none_is_a_plain_cpuset() {
    let _alone = alone();
    with_every_runtime(&[("dataplane", true, &["2-3"]), ("shared", false, &["6-7"])], |scene| {
        for (says, is) in
            [("isolated\n", "isolated"), ("root required", "root"), ("none\n", "member")]
        {
            say(scene, "dataplane", says);
            let container = scene.container("a").pool("dataplane").run();
            assert_eq!((container.cpus(), partition(&container.cgroup)), ("2-3".into(), is.into()));
            assert_eq!(others_have("2-3"), is == "member");
            let recorded = scene.conf.record("a").unwrap()["partition"].clone();
            assert_eq!(recorded.as_str(), Some(is).filter(|is| *is != "member"));
            container.delete();
            assert!(others_have("2-3"));
        }
        let container = scene.container("s").pool("shared").run();
        assert_eq!(
            (container.cpus(), partition(&container.cgroup)),
            ("6-7".into(), "member".into())
        );
    });
}

#[test]
fn an_update_by_its_runtime_takes_nothing_from_it() {
    let _alone = alone();
    with_every_runtime(&[("dataplane", true, &["2-3"])], |scene| {
        say(scene, "dataplane", "root");
        let container = scene.container("a").pool("dataplane").run();
        // The last one asks for other CPUs, which nobody else is given.
        for flags in [
            ["--cpu-share", "700"],
            ["--memory", "200000000"],
            ["--cpuset-cpus", "2-3"],
            ["--cpuset-cpus", "8"],
        ] {
            container.update(&flags);
            let of = effective_cpus(&container.cgroup).to_string();
            assert_eq!(
                (partition(&container.cgroup), of),
                ("root".into(), "2-3".into()),
                "{flags:?}"
            );
            assert_eq!(status(container.pid(), "Cpus_allowed_list"), "2-3", "{flags:?}");
            assert!(!others_have("2") && !others_have("3") && others_have("8"), "{flags:?}");
        }
        reload_systemd();
        assert_eq!(partition(&container.cgroup), "root", "after a daemon-reload");
        container.delete();
        assert!(others_have("2-3"));
        let next = scene.container("b").pool("dataplane").run();
        assert_eq!((next.cpus(), partition(&next.cgroup)), ("2-3".into(), "root".into()));
    });
}
