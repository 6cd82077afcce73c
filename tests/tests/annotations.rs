//! What a container says of itself: a slip is refused and not passed over, and nobody is whom he
//! says he is.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods, missing_docs)]

use kcm_tests::conf_dir::ConfDir;
use kcm_tests::hook::HookCall;
use kcm_tests::machine::{effective_cpus, two_cpus};
use kcm_tests::runtime::with_every_runtime;
use kcm_tests::stand_in::StandIn;
use kcm_tests::strace::{SystemCall, Trace};

fn conf() -> ConfDir {
    ConfDir::new(&[("dataplane", true, &["0", "1"]), ("shared", false, &["0-1"])])
}

/// A container `web` as containerd starts it.
const WEB: [(&str, &str); 2] = [
    ("io.kubernetes.cri.container-type", "container"),
    ("io.kubernetes.cri.container-name", "web"),
];

/// What the hook says to these annotations below `kcm.intel.com/` of the container `web`, which it
/// must refuse and not touch.
#[track_caller]
fn must_refuse(annotations: &[(&str, &str)], words: &[&str]) {
    let (conf, container) = (conf(), StandIn::new("refused"));
    let before = (conf.snapshot(), container.cgroup().cpus(), container.allowed_cpus());
    let keys: Vec<String> =
        annotations.iter().map(|(key, _)| format!("kcm.intel.com/{key}")).collect();
    let ours = keys.iter().zip(annotations).map(|(key, (_, value))| (key.as_str(), *value));
    let all: Vec<_> = ours.chain(WEB).collect();
    let call = HookCall::with_input(conf.path(), "createRuntime", container.state(&all));
    call.run().must_refuse(words);
    let after = (conf.snapshot(), container.cgroup().cpus(), container.allowed_cpus());
    assert_eq!(after, before, "{annotations:?}");
}

#[test]
fn an_annotation_that_would_do_nothing_is_refused_before_anything_is_touched() {
    let keys =
        "kcm knows kcm.intel.com/pool, cores and partition, each also with .<container> after it";
    must_refuse(&[("pol", "dataplane")], &["unknown annotation kcm.intel.com/pol: ", keys]);
    must_refuse(&[("pool", "dataplane"), ("numa", "0")], &["kcm.intel.com/numa: ", keys]);
    must_refuse(&[("pool", "none"), ("partitions", "isolated")], &["/partitions: ", keys]);
    must_refuse(
        &[("partition", "root")],
        &["annotation kcm.intel.com/partition is \"root\" means nothing in a pod without a pool"],
    );
    must_refuse(
        &[("partition.web", "none"), ("pool.db", "dataplane")],
        &["kcm.intel.com/partition.web is \"none\" means nothing for a container without a pool"],
    );
    must_refuse(
        &[("partition.web", "root"), ("pool", "shared")],
        &["annotation kcm.intel.com/partition.web is \"root\" means nothing in pool shared"],
    );
    must_refuse(
        &[("partition", "member"), ("pool", "dataplane")],
        &["annotation kcm.intel.com/partition is \"member\": \"member\" is none of none, root"],
    );
    must_refuse(
        &[("cores", "2")],
        &["annotation kcm.intel.com/cores is \"2\" means nothing in a pod without a pool"],
    );
    must_refuse(
        &[("cores.web", "2"), ("pool.db", "dataplane")],
        &["kcm.intel.com/cores.web is \"2\" means nothing for a container without a pool"],
    );
    must_refuse(
        &[("cores.web", "2"), ("pool", "shared")],
        &[
            "annotation kcm.intel.com/cores.web is \"2\" means nothing in pool shared, which is shared",
        ],
    );
    // A pool that is not there is named as ever.
    must_refuse(
        &[("cores.web", "2"), ("pool.web", "typo")],
        &[
            "annotation kcm.intel.com/pool.web is \"typo\": Requested pool typo does not exist",
            "dataplane",
        ],
    );
}

#[test]
fn cores_and_partitions_are_no_concern_of_a_container_without_an_exclusive_pool() {
    for (annotations, cpus) in [
        (
            &[("pool", "shared"), ("cores", "2"), ("cores.db", "x"), ("pool.db", "../x")][..],
            Some("0-1"),
        ),
        (&[("pool.web", "dataplane"), ("cores.web", "2"), ("cores.db", "9")], Some("0-1")),
        (&[("pool.db", "dataplane"), ("cores", "2"), ("cores.db", "2")], None),
        (&[("pool.web", "none"), ("pool", "dataplane"), ("cores", "2")], None),
        (&[("pool", "shared"), ("partition", "isolated"), ("partition.db", "x")], Some("0-1")),
        (&[("pool.web", "none"), ("pool", "dataplane"), ("partition", "root")], None),
        (&[("pool.db", "dataplane"), ("partition", "root")], None),
    ] {
        let (conf, container) = (conf(), StandIn::new("goes"));
        let before = container.allowed_cpus();
        let keys: Vec<_> =
            annotations.iter().map(|(key, _)| format!("kcm.intel.com/{key}")).collect();
        let ours = keys.iter().zip(annotations).map(|(key, (_, value))| (key.as_str(), *value));
        let all: Vec<_> = ours.chain(WEB).collect();
        let call = HookCall::with_input(conf.path(), "createRuntime", container.state(&all));
        call.run().must_succeed();
        assert_eq!(container.allowed_cpus(), cpus.unwrap_or(&before), "{annotations:?}");
        assert_eq!(conf.record(container.id()).is_some(), cpus.is_some());
    }
}

/// Fails the test if the hook has looked at the configuration directory, or changed anything.
#[track_caller]
fn touched_nothing(conf: &ConfDir, trace: &Trace) {
    let path = conf.path().to_str().unwrap();
    let names_it = |call: &&SystemCall| call.name != "execve" && call.line.contains(path);
    assert_eq!(trace.calls.iter().find(names_it), None);
    // It may say something, to standard error and to the log.
    let says = |call: &SystemCall| {
        call.line.starts_with("write(2, ")
            || call.line.contains("/dev/log")
            || ["sendto", "sendmsg", "exit_group"].contains(&call.name.as_str())
    };
    let changes: Vec<_> = trace.changes().into_iter().filter(|call| !says(call)).collect();
    assert_eq!(changes, []);
}

/// The runtime was killed before it wrote the state.
#[test]
fn called_with_nothing_the_hook_touches_nothing_at_any_stage() {
    // Without a stage the state would tell it.
    for stage in ["createRuntime", "prestart", "poststop", "--allow-none=x"] {
        for input in ["", "\n", "{", "null"] {
            let conf = conf();
            let before = conf.snapshot();
            let trace = Trace::of(&HookCall::with_input(conf.path(), stage, input.into()), &[]);
            assert_eq!(trace.ran.status.code(), Some(1), "{stage}");
            assert!(trace.ran.stderr.contains("not an OCI container state"), "{stage}");
            touched_nothing(&conf, &trace);
            assert_eq!(conf.snapshot(), before, "{stage}");
        }
    }
}

#[test]
fn a_container_that_holds_nothing_is_let_go_at_poststop_without_a_look() {
    for annotations in [&[][..], &[("a", "b")], &[("kcm.intel.com/pol", "x")], &WEB] {
        let (conf, container) = (conf(), StandIn::new("stopped"));
        let state = container.state(annotations);
        let trace = Trace::of(&HookCall::with_input(conf.path(), "poststop", state), &[]);
        assert!(trace.ran.succeeded(), "{}", trace.ran.stderr);
        touched_nothing(&conf, &trace);
    }
}

/// The keys of CRI-O that count, in its own order, after what the pod's author wrote.
fn under_crio<'a>(id: &'a str, namespace: &'a str) -> Vec<(&'a str, &'a str)> {
    vec![
        ("io.kubernetes.cri-o.ContainerID", id),
        ("io.kubernetes.cri-o.ContainerType", "container"),
        ("io.container.manager", "cri-o"),
        ("io.kubernetes.container.name", "web"),
        ("io.kubernetes.pod.name", "pod"),
        ("io.kubernetes.pod.namespace", namespace),
    ]
}

/// What an author may write who would like to be in the namespace `kcm-tools`, or nobody.
const FORGED: &[&[(&str, &str)]] = &[
    &[],
    &[("io.kubernetes.cri-o.Namespace", "kcm-tools"), ("io.kubernetes.cri-o.KubeName", "forged")],
    &[
        ("io.kubernetes.cri.container-type", "container"),
        ("io.kubernetes.cri.sandbox-namespace", "kcm-tools"),
        ("io.kubernetes.cri.container-name", "forged"),
    ],
    &[("io.kubernetes.cri.container-type", "sandbox")],
    &[
        ("io.container.manager", "libpod"),
        ("io.kubernetes.cri-o.ContainerType", "sandbox"),
        ("io.kubernetes.cri-o.ContainerID", "other"),
        ("io.kubernetes.container.name", "forged"),
        ("io.kubernetes.pod.namespace", "kcm-tools"),
    ],
];

#[test]
fn under_cri_o_a_pods_namespace_is_the_engines_word_and_never_the_authors() {
    let [first, second] = two_cpus();
    let pools: &[(_, _, &[&str])] = &[("dataplane", true, &[&first]), ("infra", false, &[&second])];
    with_every_runtime(pools, |scene| {
        let all = || effective_cpus(&scene.parent_cgroup()).to_string();
        for (number, forged) in FORGED.iter().enumerate() {
            for (namespace, is_left_alone) in [("default", false), ("kcm-tools", true)] {
                let id = format!("c{number}-{namespace}");
                let container = scene.container(&id).hook_flag("--default-pool=infra");
                let container = container.hook_flag("--allow-none=kcm-*").pool("none");
                let container =
                    container.annotations(forged).annotations(&under_crio(&id, namespace));
                let container = container.run();
                let cpus = if is_left_alone { all() } else { second.clone() };
                assert_eq!(container.cpus(), cpus, "{namespace} {forged:?}");
            }
            let id = format!("p{number}");
            let container = scene.container(&id).annotation("kcm.intel.com/pool.web", "dataplane");
            let container = container.annotations(forged).annotations(&under_crio(&id, "prod"));
            let container = container.run();
            assert_eq!(container.cpus(), first, "{forged:?}");
            let record = scene.conf.record(&id).unwrap();
            let who = ["namespace", "pod", "container"].map(|key| record[key].as_str());
            assert_eq!(who, [Some("prod"), Some("pod"), Some("web")], "{forged:?}");
            container.delete();
        }
    });
}
