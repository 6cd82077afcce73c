//! What a container asks for, by its annotations. They are user input: each is validated, and what
//! is wrong is named with its key and value.

use std::num::NonZeroUsize;

use anyhow::Context;
use kcm_core::allocation::Details;
use kcm_core::pool::{NONE, PoolName};
use kcm_core::text::shorten;

use crate::oci::Annotations;

const POOL: &str = "kcm.intel.com/pool";
const CORES: &str = "kcm.intel.com/cores";

/// More cores than any machine has; a number past it is a mistake.
const MOST_CORES: usize = 8192;

/// What is to be done for a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Wish {
    /// It asks for no pool.
    Unspoken,
    /// It asks to be left alone.
    None,
    /// It asks for CPU lists of a pool.
    Pool { pool: PoolName, cores: NonZeroUsize, key: String },
}

/// Who the container is, by what its engine says of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) details: Details,
    /// The pod's sandbox (pause) container, which carries the pod's annotations.
    pub(crate) is_sandbox: bool,
}

/// Whether the container says anything of pools at all.
pub(crate) fn mentions_pool(annotations: &Annotations) -> bool {
    annotations.range(POOL.to_owned()..).next().is_some_and(|(key, _)| key.starts_with(POOL))
}

/// Who the container is. A user can set any annotation, so the engine that called decides which
/// keys count: one that sets its own overwrites what a user wrote there.
pub(crate) fn identity(annotations: &Annotations) -> Identity {
    let get = |key: &str| annotations.get(key).cloned();
    let engine = |runtime: &str, [kind, container, namespace, pod, image]: [&str; 5]| Identity {
        is_sandbox: get(kind).as_deref() == Some("sandbox"),
        details: Details {
            container: get(container),
            pod: get(pod),
            namespace: get(namespace),
            image: get(image),
            runtime: Some(runtime.into()),
            ..Details::default()
        },
    };
    if annotations.contains_key("io.kubernetes.cri-o.ContainerType") {
        engine(
            "cri-o",
            [
                "io.kubernetes.cri-o.ContainerType",
                "io.kubernetes.container.name",
                "io.kubernetes.cri-o.Namespace",
                "io.kubernetes.cri-o.KubeName",
                "io.kubernetes.cri-o.ImageName",
            ],
        )
    } else if annotations.contains_key("io.kubernetes.cri.container-type") {
        engine(
            "containerd",
            [
                "io.kubernetes.cri.container-type",
                "io.kubernetes.cri.container-name",
                "io.kubernetes.cri.sandbox-namespace",
                "io.kubernetes.cri.sandbox-name",
                "io.kubernetes.cri.image-name",
            ],
        )
    } else {
        let podman = annotations.get("io.container.manager").is_some_and(|name| name == "libpod");
        let runtime = podman.then(|| "podman".to_owned());
        Identity { details: Details { runtime, ..Details::default() }, is_sandbox: false }
    }
}

/// What the container asks for: its own entry, else its pod's.
pub(crate) fn wish(annotations: &Annotations, container: Option<&str>) -> anyhow::Result<Wish> {
    let entry = |key: &str| {
        let own = container.map(|name| format!("{key}.{name}"));
        let keys = own.into_iter().chain([key.to_owned()]);
        keys.filter_map(|key| Some((annotations.get(&key)?.as_str(), key))).next()
    };
    let Some((value, key)) = entry(POOL) else {
        return Ok(Wish::Unspoken);
    };
    if value == NONE {
        return Ok(Wish::None);
    }
    let pool = value.parse().with_context(|| is(&key, value))?;
    let cores = match entry(CORES) {
        None => NonZeroUsize::MIN,
        Some((value, key)) => parse_cores(value)
            .with_context(|| format!("{}; give a number of cores, 1 or more", is(&key, value)))?,
    };
    Ok(Wish::Pool { pool, cores, key })
}

/// An annotation in a message, however long its key and value are.
fn is(key: &str, value: &str) -> String {
    format!("annotation {} is {:?}", shorten(key), shorten(value))
}

fn parse_cores(value: &str) -> anyhow::Result<NonZeroUsize> {
    anyhow::ensure!(value.bytes().all(|b| b.is_ascii_digit()), "not a number");
    let cores: usize = value.parse()?;
    anyhow::ensure!(cores <= MOST_CORES, "no machine has that many");
    NonZeroUsize::new(cores).context("0 cores")
}

/// Whether a name matches a glob of `*` (any characters) and `?` (one).
pub(crate) fn matches_glob(glob: &str, name: &str) -> bool {
    match glob.chars().next() {
        None => name.is_empty(),
        Some('*') => {
            let rest = &glob[1..];
            matches_glob(rest, name)
                || name.chars().next().is_some_and(|c| matches_glob(glob, &name[c.len_utf8()..]))
        }
        Some(g) => name.chars().next().is_some_and(|c| {
            (g == '?' || g == c) && matches_glob(&glob[g.len_utf8()..], &name[c.len_utf8()..])
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn annotations(pairs: &[(&str, &str)]) -> Annotations {
        pairs.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect()
    }

    fn asked(pairs: &[(&str, &str)], container: Option<&str>) -> String {
        match wish(&annotations(pairs), container) {
            Ok(Wish::Pool { pool, cores, key }) => format!("{pool} {cores} by {key}"),
            Ok(other) => format!("{other:?}"),
            Err(error) => format!("{error:#}"),
        }
    }

    #[test]
    fn a_containers_own_entry_goes_before_its_pods() {
        let pod = ("kcm.intel.com/pool", "shared");
        let own = ("kcm.intel.com/pool.web", "dataplane");
        let web = Some("web");
        for (pairs, container, expected) in [
            (vec![], web, "Unspoken"),
            (vec![pod], web, "shared 1 by kcm.intel.com/pool"),
            (vec![pod, own], web, "dataplane 1 by kcm.intel.com/pool.web"),
            (vec![pod, own], Some("db"), "shared 1 by kcm.intel.com/pool"),
            (vec![own], Some("db"), "Unspoken"),
            (vec![own], None, "Unspoken"),
            (vec![pod, ("kcm.intel.com/pool.web", "none")], web, "None"),
            (vec![pod, ("kcm.intel.com/cores", "3")], web, "shared 3 by kcm.intel.com/pool"),
            (
                vec![own, ("kcm.intel.com/cores", "3"), ("kcm.intel.com/cores.web", "2")],
                web,
                "dataplane 2 by kcm.intel.com/pool.web",
            ),
        ] {
            assert_eq!(asked(&pairs, container), expected, "{pairs:?}");
        }
    }

    #[test]
    fn malformed_values_are_refused_with_key_and_value() {
        for value in ["", "../x", "a b", "a\nb", "NONE/"] {
            let text = asked(&[("kcm.intel.com/pool", value)], None);
            assert!(
                text.starts_with(&format!("annotation kcm.intel.com/pool is {value:?}")),
                "{text}"
            );
        }
        for value in ["0", "-1", "1.5", "", "x", "+2", "99999999999999999999", "8193"] {
            let pairs = [("kcm.intel.com/pool", "p"), ("kcm.intel.com/cores", value)];
            let text = asked(&pairs, None);
            assert!(
                text.starts_with(&format!("annotation kcm.intel.com/cores is {value:?}")),
                "{text}"
            );
        }
    }

    #[test]
    fn the_engine_that_called_decides_who_the_container_is() {
        let containerd = [
            ("io.kubernetes.cri.container-type", "container"),
            ("io.kubernetes.cri.container-name", "web"),
            ("io.kubernetes.cri.sandbox-namespace", "prod"),
            ("io.kubernetes.cri.sandbox-name", "pod1"),
        ];
        let found = identity(&annotations(&containerd));
        assert_eq!(found.details.display().as_deref(), Some("prod/pod1/web"));
        assert_eq!(found.details.runtime.as_deref(), Some("containerd"));
        // CRI-O's keys are CRI-O's: a user's containerd keys beside them do not count.
        let mut crio = annotations(&containerd);
        crio.extend(annotations(&[
            ("io.kubernetes.cri-o.ContainerType", "container"),
            ("io.kubernetes.cri.container-type", "sandbox"),
            ("io.kubernetes.container.name", "db"),
            ("io.kubernetes.cri-o.Namespace", "ns"),
            ("io.kubernetes.cri-o.KubeName", "pod2"),
        ]));
        let found = identity(&crio);
        assert!(!found.is_sandbox);
        assert_eq!(found.details.display().as_deref(), Some("ns/pod2/db"));
        let pause = [("io.kubernetes.cri.container-type", "sandbox")];
        assert!(identity(&annotations(&pause)).is_sandbox);
        let podman = identity(&annotations(&[("io.container.manager", "libpod")]));
        assert_eq!(podman.details.runtime.as_deref(), Some("podman"));
    }

    #[test]
    fn any_pool_key_is_a_mention() {
        for (key, expected) in [
            ("kcm.intel.com/pool", true),
            ("kcm.intel.com/pool.web", true),
            ("kcm.intel.com/cores", false),
            ("zzz", false),
        ] {
            assert_eq!(mentions_pool(&annotations(&[("a", "b"), (key, "x")])), expected, "{key}");
        }
    }

    #[test]
    fn globs() {
        for (glob, name, expected) in [
            ("kube-*", "kube-system", true),
            ("kube-*", "my-kube-x", false),
            ("*", "", true),
            ("a?c", "abc", true),
            ("a?c", "ac", false),
            ("*-prod", "a-prod", true),
        ] {
            assert_eq!(matches_glob(glob, name), expected, "{glob} {name}");
        }
    }

    proptest! {
        #[test]
        fn any_annotations_are_read_or_refused_without_a_panic(
            pool in ".{0,70}", cores in ".{0,30}", container in ".{0,70}",
        ) {
            let own = format!("kcm.intel.com/pool.{container}");
            let pairs = [(own.as_str(), pool.as_str()), ("kcm.intel.com/cores", cores.as_str())];
            let _ = wish(&annotations(&pairs), Some(&container));
            let _ = identity(&annotations(&pairs));
        }
    }
}
