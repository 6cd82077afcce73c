//! Pods that are created, and what the policy on them has to say.

mod partitions;

use kcm_tests::admission::{Review, defaulted};
use serde_json::{Value, json};

/// A request, and its verdict: accepted, or refused with a message that has this part.
pub(crate) struct Case {
    pub(crate) about: &'static str,
    pub(crate) review: Review,
    pub(crate) verdict: Result<(), &'static str>,
}

/// A pod with these annotations below `kcm.intel.com/`. A container is `NAME`, or `NAME CORES`
/// with so many requested and limited, or `NAME REQUESTS/LIMITS`; `init:NAME` and `sidecar:NAME` are
/// init containers. The RuntimeClass is kcm.
pub(crate) fn pod(annotations: &[(&str, &str)], containers: &[&str]) -> Value {
    let mut pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "namespace": "default"},
        "spec": {"runtimeClassName": "kcm", "containers": []},
    });
    for (key, value) in annotations {
        pod["metadata"]["annotations"][format!("kcm.intel.com/{key}")] = json!(value);
    }
    for container in containers {
        let (name, cores) = container.split_once(' ').unwrap_or((container, ""));
        let (kind, name) = name.split_once(':').unwrap_or(("", name));
        let mut spec = json!({"name": name, "image": "x"});
        if !cores.is_empty() {
            let (requests, limits) = cores.split_once('/').unwrap_or((cores, cores));
            let resource = "kcm.intel.com/dataplane-cores";
            spec["resources"] =
                json!({"requests": {resource: requests}, "limits": {resource: limits}});
        }
        if kind == "sidecar" {
            spec["restartPolicy"] = json!("Always");
        }
        let list = if kind.is_empty() { "containers" } else { "initContainers" };
        let specs = &mut pod["spec"][list];
        match specs.as_array_mut() {
            Some(specs) => specs.push(spec),
            None => *specs = json!([spec]),
        }
    }
    pod
}

fn without_runtime_class(mut pod: Value) -> Value {
    pod["spec"].as_object_mut().unwrap().remove("runtimeClassName");
    pod
}

/// The cases of the policy kcm-pools as the overlay containerd has it.
pub(crate) fn created() -> Vec<Case> {
    let counted = "must both have kcm.intel.com/dataplane-cores: ";
    let everyone =
        "for every container of the pod: name the container, kcm.intel.com/pool.<container>";
    let no_pool = "which is no name of a pool: ";
    let no_number = "which is no number of cores: ";
    let stranger = "names a container that the pod does not have";
    let long = "x".repeat(58);
    let longest = "x".repeat(57);
    // Too long for a message that quotes it.
    let novel = "x".repeat(6000);
    let dataplane = ("pool", "dataplane");
    let mut cases = vec![
        ("one core", pod(&[dataplane], &["c 1"]), Ok(())),
        ("two cores", pod(&[dataplane, ("cores", "2")], &["c 2"]), Ok(())),
        ("many cores", pod(&[dataplane, ("cores", "9999")], &["c 9999"]), Ok(())),
        ("by container", pod(&[("pool.c", "dataplane")], &["c 1", "d"]), Ok(())),
        (
            "both by container",
            pod(&[("pool.c", "dataplane"), ("pool.d", "dataplane")], &["c 1", "d 1"]),
            Ok(()),
        ),
        (
            "own cores before the pod's",
            pod(&[("pool.c", "dataplane"), ("cores.c", "3"), ("cores", "2")], &["c 3", "d"]),
            Ok(()),
        ),
        ("no annotation", pod(&[], &["c"]), Ok(())),
        ("the resource alone, as `kcm isolate` needs it", pod(&[], &["c 1"]), Ok(())),
        ("a shared pool for all", pod(&[("pool", "infra")], &["c", "d", "init:i"]), Ok(())),
        ("a shared pool with cores", pod(&[("pool", "infra"), ("cores", "2")], &["c"]), Ok(())),
        ("none", pod(&[("pool", "none")], &["c"]), Ok(())),
        ("none, with the resource", pod(&[("pool", "none")], &["c 1"]), Ok(())),
        (
            "none without the RuntimeClass",
            without_runtime_class(pod(&[("pool", "none"), ("pool.c", "none")], &["c"])),
            Ok(()),
        ),
        ("one opts out", pod(&[("pool", "infra"), ("pool.d", "none")], &["c", "d"]), Ok(())),
        (
            "an init container of its own",
            pod(&[("pool.i", "dataplane")], &["c", "init:i 1"]),
            Ok(()),
        ),
        ("a sidecar of its own", pod(&[("pool.s", "dataplane")], &["c", "sidecar:s 1"]), Ok(())),
        ("the longest name", pod(&[("pool", &longest)], &["c"]), Ok(())),
        // Cores that the scheduler does not count.
        (
            "no resource",
            pod(&[dataplane], &["c"]),
            Err(
                "container c asks for the exclusive pool dataplane: its requests and limits must both have kcm.intel.com/dataplane-cores: \"1\"",
            ),
        ),
        ("fewer", pod(&[dataplane, ("cores", "2")], &["c 1"]), Err(counted)),
        ("more", pod(&[dataplane], &["c 2"]), Err(counted)),
        ("fewer requested", pod(&[dataplane, ("cores", "2")], &["c 1/2"]), Err(counted)),
        ("fewer limited", pod(&[dataplane, ("cores", "2")], &["c 2/1"]), Err(counted)),
        (
            "the second of two",
            pod(&[("pool.d", "dataplane"), ("pool.c", "dataplane")], &["c 1", "d"]),
            Err("container d asks"),
        ),
        (
            "own cores before the pod's, uncounted",
            pod(&[("pool.c", "dataplane"), ("cores.c", "3"), ("cores", "2")], &["c 2", "d"]),
            Err("\"3\""),
        ),
        (
            "an init container, uncounted",
            pod(&[("pool.i", "dataplane")], &["c 1", "init:i"]),
            Err("container i asks"),
        ),
        (
            "a sidecar, uncounted",
            pod(&[("pool.s", "dataplane")], &["c 1", "sidecar:s"]),
            Err("container s asks"),
        ),
        // Pod-wide.
        ("for two", pod(&[dataplane], &["c 1", "d 1"]), Err(everyone)),
        ("for an init container, too", pod(&[dataplane], &["c 1", "init:i 1"]), Err(everyone)),
        (
            "for a sidecar, too",
            pod(&[dataplane], &["c 1", "sidecar:s 1"]),
            Err("kcm.intel.com/pool asks for the exclusive pool dataplane for every container"),
        ),
        // Where the hook would not run.
        (
            "no RuntimeClass",
            without_runtime_class(pod(&[dataplane], &["c 1"])),
            Err(
                "kcm annotations need runtimeClassName: kcm on this cluster, or the pod would run unpinned",
            ),
        ),
        (
            "no RuntimeClass, a shared pool",
            without_runtime_class(pod(&[("pool", "infra")], &["c"])),
            Err("need runtimeClassName: kcm"),
        ),
        (
            "no RuntimeClass, one of two",
            without_runtime_class(pod(&[("pool", "none"), ("pool.c", "infra")], &["c", "d"])),
            Err("need runtimeClassName: kcm"),
        ),
        // Keys.
        (
            "a key in the plural",
            pod(&[("pools", "dataplane")], &["c"]),
            Err(
                "unknown annotation kcm.intel.com/pools: kcm knows kcm.intel.com/pool, cores and partition, each also with .<container> after it",
            ),
        ),
        (
            "a key of nothing",
            pod(&[("core", "2"), ("pool", "infra")], &["c"]),
            Err("unknown annotation kcm.intel.com/core:"),
        ),
        (
            "a key in capitals",
            pod(&[("Pool", "infra")], &["c"]),
            Err("unknown annotation kcm.intel.com/Pool:"),
        ),
        (
            "a container that is not there",
            pod(&[("pool.zz", "infra")], &["c"]),
            Err("annotation kcm.intel.com/pool.zz names a container that the pod does not have"),
        ),
        (
            "cores for one that is not there",
            pod(&[("pool", "infra"), ("cores.zz", "2")], &["c"]),
            Err(stranger),
        ),
        ("a container without a name", pod(&[("pool.", "infra")], &["c"]), Err(stranger)),
        ("the beginning of a name", pod(&[("pool.c", "infra")], &["cc"]), Err(stranger)),
        ("a key of tomorrow", pod(&[("pool", "infra"), ("numa", "0")], &["c"]), Err("unknown")),
        (
            "another",
            pod(&[("partitions.c", "root"), dataplane], &["c 1"]),
            Err("unknown annotation"),
        ),
        // Cores of nothing.
        (
            "cores and no pool",
            pod(&[("cores", "2")], &["c", "d"]),
            Err(
                "annotation kcm.intel.com/cores means nothing in a pod without a pool: name one (kcm.intel.com/pool.<container>), or leave it out",
            ),
        ),
        (
            "cores of its own and no pool",
            pod(&[("cores.c", "2")], &["c", "d"]),
            Err(
                "annotation kcm.intel.com/cores.c means nothing for a container without an exclusive pool: name its pool (kcm.intel.com/pool.<container>), or leave it out",
            ),
        ),
        (
            "cores of its own, another's pool",
            pod(&[("cores.d", "2"), ("pool.c", "dataplane")], &["c 1", "d"]),
            Err("kcm.intel.com/cores.d means nothing"),
        ),
        (
            "cores of its own in a shared pool",
            pod(&[("cores.c", "2"), ("pool", "infra")], &["c"]),
            Err("kcm.intel.com/cores.c means nothing"),
        ),
        (
            "cores of its own, left alone",
            pod(&[("cores.i", "2"), ("pool", "infra"), ("pool.i", "none")], &["c", "init:i"]),
            Err("kcm.intel.com/cores.i means nothing"),
        ),
        (
            "the pod's cores, and one of two in a pool",
            pod(&[("cores", "2"), ("pool.c", "dataplane")], &["c 2", "d"]),
            Ok(()),
        ),
        (
            "the pod's cores, and one of two in a shared pool",
            pod(&[("cores", "2"), ("pool.c", "dataplane"), ("pool", "infra")], &["c 2", "d"]),
            Ok(()),
        ),
        (
            "the pod's cores of one left alone",
            pod(&[("cores", "2"), ("pool", "none")], &["c"]),
            Ok(()),
        ),
        // Values.
        (
            "an empty pool",
            pod(&[("pool", "")], &["c"]),
            Err("annotation kcm.intel.com/pool is \"\", which is no name of a pool"),
        ),
        ("a blank before", pod(&[("pool", " infra")], &["c"]), Err(no_pool)),
        ("a blank after", pod(&[("pool", "infra ")], &["c"]), Err(no_pool)),
        ("a path", pod(&[("pool.c", "../infra")], &["c"]), Err(no_pool)),
        ("a dash at the end", pod(&[("pool", "infra-")], &["c"]), Err(no_pool)),
        ("two lines", pod(&[("pool", "infra\n")], &["c"]), Err("no name of a pool")),
        ("a pool too long", pod(&[("pool", &long)], &["c"]), Err(no_pool)),
        (
            "a very long pool",
            pod(&[("pool", &novel)], &["c"]),
            Err("an annotation is no name of a pool"),
        ),
        (
            "no cores",
            pod(&[dataplane, ("cores", "")], &["c 1"]),
            Err("annotation kcm.intel.com/cores is \"\", which is no number of cores"),
        ),
        ("blank cores", pod(&[dataplane, ("cores", " 1")], &["c 1"]), Err(no_number)),
        ("less than none", pod(&[dataplane, ("cores", "-1")], &["c 1"]), Err(no_number)),
        ("0", pod(&[dataplane, ("cores", "0")], &["c"]), Err(no_number)),
        ("half a core", pod(&[dataplane, ("cores", "1.5")], &["c 1"]), Err(no_number)),
        ("a 0 in front", pod(&[dataplane, ("cores", "01")], &["c 1"]), Err(no_number)),
        ("a sign", pod(&[dataplane, ("cores.c", "+1")], &["c 1"]), Err(no_number)),
        ("hexadecimal", pod(&[dataplane, ("cores", "0x1")], &["c 1"]), Err(no_number)),
        ("too many cores", pod(&[dataplane, ("cores", "10000")], &["c 10000"]), Err(no_number)),
        (
            "a very long number",
            pod(&[dataplane, ("cores", &"1".repeat(6000))], &["c 1"]),
            Err("an annotation is no number of cores"),
        ),
        (
            "bad cores of a shared pool",
            pod(&[("pool", "infra"), ("cores", "x")], &["c"]),
            Err(no_number),
        ),
    ];
    cases.extend(partitions::cases());
    let case = |(about, pod, verdict): (&'static str, Value, _)| Case {
        about,
        review: Review::create("pods", defaulted(&pod)),
        verdict,
    };
    cases.into_iter().map(case).collect()
}
