//! Pods that say how their containers are to have CPUs for themselves alone.

use serde_json::Value;

use super::pod;

type Verdict = Result<(), &'static str>;

pub(super) fn cases() -> Vec<(&'static str, Value, Verdict)> {
    let dataplane = ("pool", "dataplane");
    let stranger = "names a container that the pod does not have";
    let no_kind = "which is no kind of partition: none, root, isolated or auto";
    vec![
        ("isolated", pod(&[dataplane, ("partition", "isolated")], &["c 1"]), Ok(())),
        ("root", pod(&[dataplane, ("partition", "root")], &["c 1"]), Ok(())),
        ("no partition", pod(&[dataplane, ("partition", "none")], &["c 1"]), Ok(())),
        ("whatever is best", pod(&[dataplane, ("partition.c", "auto")], &["c 1"]), Ok(())),
        (
            "a partition of its own before the pod's, and cores",
            pod(
                &[
                    ("pool.c", "dataplane"),
                    ("partition.c", "isolated"),
                    ("partition", "none"),
                    ("cores.c", "2"),
                ],
                &["c 2", "d"],
            ),
            Ok(()),
        ),
        (
            "the pod's partition, and one of two in a shared pool",
            pod(
                &[("partition", "root"), ("pool.c", "dataplane"), ("pool", "infra")],
                &["c 1", "d"],
            ),
            Ok(()),
        ),
        (
            "the pod's partition, left alone",
            pod(&[("partition", "root"), ("pool", "none")], &["c"]),
            Ok(()),
        ),
        (
            "an init container's partition",
            pod(&[("pool.i", "dataplane"), ("partition.i", "root")], &["c", "init:i 1"]),
            Ok(()),
        ),
        (
            "a partition for one that is not there",
            pod(&[dataplane, ("partition.zz", "root")], &["c 1"]),
            Err("annotation kcm.intel.com/partition.zz names a container"),
        ),
        (
            "a container without a name, its partition",
            pod(&[dataplane, ("partition.", "root")], &["c 1"]),
            Err(stranger),
        ),
        (
            "a partition and no pool",
            pod(&[("partition", "root")], &["c", "d"]),
            Err(
                "annotation kcm.intel.com/partition means nothing in a pod without a pool: name one (kcm.intel.com/pool.<container>), or leave it out",
            ),
        ),
        (
            "a partition of its own and no pool",
            pod(&[("partition.c", "root")], &["c", "d"]),
            Err(
                "annotation kcm.intel.com/partition.c means nothing for a container without an exclusive pool: name its pool (kcm.intel.com/pool.<container>), or leave it out",
            ),
        ),
        (
            "a partition of its own, another's pool",
            pod(&[("partition.d", "none"), ("pool.c", "dataplane")], &["c 1", "d"]),
            Err("kcm.intel.com/partition.d means nothing"),
        ),
        (
            "a partition of its own in a shared pool",
            pod(&[("partition.c", "root"), ("pool", "infra")], &["c"]),
            Err("kcm.intel.com/partition.c means nothing"),
        ),
        (
            "a partition of its own, left alone",
            pod(
                &[("partition.i", "auto"), ("pool", "infra"), ("pool.i", "none")],
                &["c", "init:i"],
            ),
            Err("kcm.intel.com/partition.i means nothing"),
        ),
        (
            "cores and a partition of its own in a shared pool",
            pod(&[("partition.c", "root"), ("cores.c", "2"), ("pool", "infra")], &["c"]),
            Err("kcm.intel.com/cores.c means nothing"),
        ),
        (
            "an empty kind",
            pod(&[dataplane, ("partition", "")], &["c 1"]),
            Err("annotation kcm.intel.com/partition is \"\", which is no kind of partition"),
        ),
        ("a kind in capitals", pod(&[dataplane, ("partition", "Root")], &["c 1"]), Err(no_kind)),
        (
            "the kernel's word for none",
            pod(&[dataplane, ("partition", "member")], &["c 1"]),
            Err(no_kind),
        ),
        ("two words", pod(&[dataplane, ("partition.c", "root required")], &["c 1"]), Err(no_kind)),
        (
            "a kind and a line's end",
            pod(&[dataplane, ("partition", "root\n")], &["c 1"]),
            Err("no kind of partition"),
        ),
        (
            "a bad kind in a shared pool",
            pod(&[("pool", "infra"), ("partition", "x")], &["c"]),
            Err(no_kind),
        ),
        (
            "a very long kind",
            pod(&[dataplane, ("partition", &"x".repeat(6000))], &["c 1"]),
            Err("an annotation is no kind of partition: none, root, isolated or auto"),
        ),
    ]
}
