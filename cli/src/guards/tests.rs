use super::judge::{fit, judge, why_a_default_pool};
use super::*;

fn cpus(text: &str) -> CpuSet {
    CpuSet::parse_possibly_empty(text).unwrap()
}

fn pool(name: &str, exclusive: bool, list: &str, says: &str) -> Pool {
    Pool { name: name.parse().unwrap(), exclusive, cpus: cpus(list), says: says.parse().ok() }
}

fn holder(owner: &str, is_partition: bool, quota: Option<&str>) -> Holder {
    let throttle =
        quota.map(|quota| Throttle { cgroup: "/a".to_owned(), quota: quota.parse().unwrap() });
    Holder { owner: owner.to_owned(), pool: "data".parse().unwrap(), is_partition, throttle }
}

fn engine(name: &'static str, default_pool: Option<&str>) -> Engine {
    let called = Ok(Some(Called { default_pool: default_pool.map(str::to_owned) }));
    Engine { name, is_of_pods: name != "podman", called }
}

/// A node of Kubernetes whose kernel can have partitions, with nobody there.
fn facts(says: &str) -> Facts {
    Facts {
        conf_dir: "/etc/kcm".into(),
        pools: vec![pool("data", true, "2-5", says), pool("infra", false, "0-1", "auto")],
        unreadable: Vec::new(),
        holders: Ok(Vec::new()),
        partitions: Ok(true),
        isolated: Ok(cpus("")),
        shielded: Ok(cpus("")),
        engines: vec![engine("containerd", None)],
    }
}

/// The same with a kernel that cannot.
fn old() -> Facts {
    Facts { partitions: Ok(false), ..facts("auto") }
}

#[track_caller]
fn only(facts: &Facts) -> Guarded {
    let mut judged = judge(facts);
    assert_eq!(judged.len(), 1);
    judged.remove(0)
}

/// A guard in short.
fn short(guard: &Guard) -> String {
    assert_eq!(
        guard.remedy.is_none(),
        matches!(guard.state, State::Holds | State::Unknown),
        "{guard:?}"
    );
    format!("{:?}: {}", guard.state, guard.message)
}

#[test]
fn a_partition_is_each_containers_or_of_those_beside_nobody_or_nobodys() {
    let podman = || vec![engine("podman", None)];
    let beside = "Partly: a container that nobody stands beside (of a pod, of crun) is a cpuset \
                  partition (auto)";
    for (facts, partition, is_open) in [
        (facts("auto"), "Holds: each container is a cpuset partition (auto)", false),
        (facts("root"), "Holds: each container is a cpuset partition (root)", false),
        (facts("none"), "Missing: no cpuset partitions, since its file partition says none", true),
        (facts("x"), "Missing: no cpuset partitions, since its file partition is damaged", true),
        (old(), "Missing: no cpuset partitions, since this kernel has none", true),
        (Facts { engines: podman(), ..facts("auto") }, beside, false),
        (
            Facts { engines: podman(), ..facts("isolated required") },
            "Holds: each container is a cpuset partition (isolated required)",
            false,
        ),
        // One that does not call the hook has no container of the pool.
        (
            Facts {
                engines: vec![
                    engine("crio", None),
                    Engine { called: Ok(None), ..engine("podman", None) },
                ],
                ..facts("auto")
            },
            "Holds: each container is a cpuset partition (auto)",
            false,
        ),
        (
            Facts { partitions: Err("no /proc".into()), ..facts("auto") },
            "Unknown: whether the kernel has cpuset partitions cannot be told: no /proc",
            true,
        ),
        (
            Facts { holders: Err("no cgroup".into()), ..facts("auto") },
            "Unknown: each container is a cpuset partition (auto), but whether they hold cannot be told: \
             no cgroup",
            false,
        ),
    ] {
        let found = only(&facts);
        assert_eq!(short(&found.guards.partition), partition);
        assert_eq!(found.open.is_some(), is_open, "{partition}");
    }
}

#[test]
fn whoever_holds_cpus_without_one_is_named_with_what_helps() {
    let with = |says: &str, engine: Engine| Facts {
        holders: Ok(vec![holder("a", false, None), holder("b", true, None)]),
        engines: vec![engine],
        ..facts(says)
    };
    let found = only(&with("auto", engine("containerd", None)));
    let each = "Partly: each container is a cpuset partition (auto), but not a";
    assert_eq!(short(&found.guards.partition), each);
    assert!(found.open.unwrap().starts_with("start a anew, unless it asked for none, or "));
    let found = only(&with("auto", engine("podman", None)));
    let remedy = "kcm init --partition=data=root, and start a anew, unless it asked for none";
    assert_eq!(found.guards.partition.remedy.as_deref(), Some(remedy));
    assert!(
        found.line().contains("nothing keeps others off: a container that nobody stands beside")
    );
    // Where another guard keeps others off him, too, all is well.
    let found = only(&with("auto", engine("podman", Some("infra"))));
    assert_eq!((found.open, found.guards.partition.state), (None, State::Partly));
    let many: Vec<Holder> =
        (1..=7).map(|number| holder(&format!("h{number}"), false, None)).collect();
    let found = only(&Facts { holders: Ok(many), ..facts("root") });
    assert!(found.guards.partition.message.ends_with("but not h1, h2, h3, h4, h5, …"));
}

#[test]
fn a_default_pool_holds_if_it_is_every_engines_and_keeps_off_these_cpus() {
    let broken = Engine { called: Err("it is damaged".into()), ..engine("crio", None) };
    let all = |engines: Vec<Engine>| Facts { engines, ..old() };
    let runs = "containers without a pool run on infra";
    for (facts, default_pool, remedy) in [
        (all(vec![engine("crio", Some("infra"))]), format!("Holds: {runs} (crio)"), ""),
        (
            all(vec![engine("crio", None), engine("podman", None)]),
            "Missing: no default pool (crio, podman)".into(),
            "kcm install --runtime=crio --runtime=podman --default-pool=infra",
        ),
        (
            all(vec![engine("crio", Some("infra")), engine("podman", None)]),
            format!("Partly: {runs} (crio); no default pool (podman)"),
            "kcm install --runtime=podman --default-pool=infra",
        ),
        (
            all(vec![engine("crio", Some("gone"))]),
            "Missing: containers without a pool are to run on gone (crio), which is not there, or cannot \
             be read"
                .into(),
            "kcm install --runtime=crio --default-pool=infra",
        ),
        (
            all(vec![engine("crio", Some("data"))]),
            "Missing: containers without a pool are to run on data (crio), which is exclusive".into(),
            "kcm install --runtime=crio --default-pool=infra",
        ),
        (
            all(vec![broken.clone()]),
            "Unknown: the default pool of crio cannot be told: it is damaged".into(),
            "",
        ),
        (
            all(vec![broken.clone(), engine("podman", None)]),
            "Missing: no default pool (podman); the default pool of crio cannot be told: it is damaged"
                .into(),
            "kcm install --runtime=podman --default-pool=infra",
        ),
        (
            all(vec![broken, engine("podman", Some("infra"))]),
            format!("Unknown: {runs} (podman); the default pool of crio cannot be told: it is damaged"),
            "",
        ),
        (all(Vec::new()), "Unknown: no container engine can be seen here".into(), ""),
    ] {
        let found = only(&facts);
        assert_eq!(short(&found.guards.default_pool), default_pool);
        assert_eq!(found.guards.default_pool.remedy.unwrap_or_default(), remedy);
        assert_eq!(found.open.is_none(), found.guards.default_pool.state == State::Holds);
    }
    let mut facts = all(vec![engine("crio", Some("infra"))]);
    facts.conf_dir = "/srv/kcm".into();
    facts.pools[1] = pool("infra", false, "0-2", "auto");
    let found = only(&facts).guards.default_pool;
    assert!(found.message.ends_with("infra (crio), which has its CPUs 2"), "{found:?}");
    let remedy = "kcm install --runtime=crio --default-pool=POOL --conf-dir=/srv/kcm";
    assert_eq!(found.remedy.as_deref(), Some(remedy));
    assert_eq!(fit(&[pool("p", false, "", "auto")], "p"), Err("which has no CPUs"));
}

#[test]
fn isolcpus_and_the_shield_hold_where_they_have_all_of_a_pool() {
    let some = |list: &str| Facts { isolated: Ok(cpus(list)), shielded: Ok(cpus(list)), ..old() };
    for (list, isolcpus, shield, is_open) in [
        ("2-7", "Holds: isolated by the kernel's command line", "Holds: shielded", false),
        (
            "3,5-8",
            "Partly: CPUs 3,5 of it alone are isolated by the kernel's command line",
            "Partly: CPUs 3,5 of it alone are shielded",
            true,
        ),
        ("6-7", "Missing: no isolcpus", "Missing: no shield", true),
    ] {
        let found = only(&some(list));
        let shorts = [short(&found.guards.isolcpus), short(&found.guards.shield)];
        assert_eq!(shorts, [isolcpus, shield]);
        assert_eq!(found.open.is_some(), is_open, "{list}");
    }
    let blind = Facts { isolated: Err("x".into()), shielded: Err("y".into()), ..old() };
    let found = only(&blind).guards;
    let shorts = [short(&found.isolcpus), short(&found.shield)];
    assert_eq!(
        shorts,
        ["Unknown: isolcpus cannot be told: x", "Unknown: the shield cannot be told: y"]
    );
}

#[test]
fn a_quota_is_wrong_wherever_it_is_and_nobody_needs_a_shield() {
    let mut facts = facts("root");
    facts.holders = Ok(vec![holder("a", true, Some("50000 100000")), holder("b", true, None)]);
    let found = only(&facts);
    let said = "Missing: may be throttled: a (/a has a CFS quota (50000 100000))";
    assert_eq!(short(&found.guards.quota), said);
    assert_eq!(found.open, None);
    assert_eq!(found.remedy().as_deref(), Some(UNTHROTTLE));
    facts.holders = Ok(vec![holder("b", true, None)]);
    let found = only(&facts);
    assert_eq!((found.guards.shield.state, found.remedy()), (State::Missing, None));
    facts.holders = Err("no cgroup".into());
    assert_eq!(short(&only(&facts).guards.quota), "Unknown: quotas cannot be told: no cgroup");
}

#[test]
fn the_line_has_all_five_and_what_helps_comes_in_the_order_of_what_it_takes() {
    assert_eq!(
        only(&facts("auto")).line(),
        "pool data, CPUs 2-5: each container is a cpuset partition (auto); no default pool (containerd); \
         no isolcpus; no shield; nobody there is throttled"
    );
    let found = only(&old());
    assert_eq!(
        found.line(),
        "pool data, CPUs 2-5: nothing keeps others off: no cpuset partitions, since this kernel has none; no \
         default pool (containerd); no isolcpus; no shield; nobody there is throttled"
    );
    assert_eq!(
        found.remedy().as_deref(),
        Some(
            "kcm install --runtime=containerd --default-pool=infra, or boot with isolcpus=2-5, or Linux \
             6.8 or newer with cgroup v2"
        )
    );
    let remedy = only(&facts("none")).remedy().unwrap();
    assert!(remedy.starts_with("kcm init --partition=data=auto, or kcm install "), "{remedy}");
    let blind = Err("x".to_owned());
    let blind = Facts {
        partitions: blind.clone().map(|()| true),
        isolated: blind.map(|()| cpus("")),
        engines: Vec::new(),
        ..facts("auto")
    };
    assert_eq!(only(&blind).remedy().as_deref(), Some("mend what cannot be told"));
}

#[test]
fn shared_pools_and_those_without_cpus_need_no_guard_and_each_other_one_is_judged() {
    let mut facts = old();
    facts.pools.push(pool("empty", true, "", "auto"));
    facts.pools.push(pool("more", true, "7", "auto"));
    let names: Vec<String> = judge(&facts).iter().map(|it| it.pool.to_string()).collect();
    assert_eq!(names, ["data", "more"]);
    let isolcpus = &judge(&facts)[0].guards.isolcpus;
    assert_eq!(isolcpus.remedy.as_deref(), Some("boot with isolcpus=2-5,7"));
}

#[test]
fn a_default_pool_is_needed_where_a_container_of_an_exclusive_pool_may_be_no_partition() {
    let pools = |says: &[&str]| -> Vec<Pool> {
        let pools = says.iter().enumerate();
        let pools = pools.map(|(n, says)| pool(&format!("p{n}"), true, &n.to_string(), says));
        pools
            .chain([pool("infra", false, "9", "none"), pool("none-left", true, "", "none")])
            .collect()
    };
    for (says, of_pods, beside_others) in [
        (&["auto", "root"][..], "", "p0 that others stand beside"),
        (&["isolated", "auto required"], "", ""),
        (&["root", "none"], "its file partition says none", "its file partition says none"),
        (&["x"], "is damaged", "is damaged"),
        (&[], "", ""),
    ] {
        for (is_of_pods, expected) in [(true, of_pods), (false, beside_others)] {
            let why = why_a_default_pool(&Ok(true), &pools(says), is_of_pods).unwrap_or_default();
            assert!(why.contains(expected), "{says:?}: {why}");
            assert_eq!(why.is_empty(), expected.is_empty(), "{says:?}: {why}");
        }
    }
    let why = why_a_default_pool(&Ok(false), &pools(&["root"]), true).unwrap();
    assert_eq!(why, "no container of pool p0 is a cpuset partition, since this kernel has none");
    assert!(why_a_default_pool(&Err("x".into()), &pools(&["root"]), true).is_some());
    assert_eq!(why_a_default_pool(&Ok(false), &pools(&[]), true), None);
}
