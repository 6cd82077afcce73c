//! The keys are those that engines really write, cut to what might matter: CRI-O's as received from
//! 1.37 under a kubelet 1.36 and as read in 1.30 to 1.36, containerd's from 2.3.4, podman's from 4.3.1.

use super::*;

const ID: &str = "05e982ecf67cc7cc853fa4d230b2fbf5ca2a51f074068de423c069f0b9cbcccb";
const OTHER: &str = "a022fa80038e29e58dbe864522c558e57adae8ee9a13e73a6704354230777975";

type Pairs = &'static [(&'static str, &'static str)];

const CRIO: Pairs = &[
    ("io.container.manager", "cri-o"),
    ("io.kubernetes.container.hash", "c4b1a2f0"),
    ("io.kubernetes.container.name", "web"),
    ("io.kubernetes.container.restartCount", "0"),
    ("io.kubernetes.cri-o.Annotations", "{}"),
    ("io.kubernetes.cri-o.ContainerID", ID),
    ("io.kubernetes.cri-o.ContainerType", "container"),
    ("io.kubernetes.cri-o.Image", "registry.example/web:1"),
    ("io.kubernetes.cri-o.ImageName", "registry.example/web:1"),
    ("io.kubernetes.cri-o.Labels", "{}"),
    ("io.kubernetes.cri-o.Metadata", "{\"name\":\"web\"}"),
    ("io.kubernetes.cri-o.Name", "k8s_web_pod_prod_6f0e_0"),
    ("io.kubernetes.cri-o.SandboxID", OTHER),
    ("io.kubernetes.cri-o.SandboxName", "k8s_POD_pod_prod_6f0e_0"),
    ("io.kubernetes.pod.name", "pod"),
    ("io.kubernetes.pod.namespace", "prod"),
    ("io.kubernetes.pod.uid", "6f0e"),
];
const CRIO_SANDBOX: Pairs = &[
    ("io.container.manager", "cri-o"),
    ("io.kubernetes.container.name", "POD"),
    ("io.kubernetes.cri-o.ContainerID", ID),
    ("io.kubernetes.cri-o.ContainerType", "sandbox"),
    ("io.kubernetes.cri-o.KubeName", "pod"),
    ("io.kubernetes.cri-o.Namespace", "prod"),
    ("io.kubernetes.pod.name", "pod"),
    ("io.kubernetes.pod.namespace", "prod"),
];
const CONTAINERD: Pairs = &[
    ("io.kubernetes.cri.container-name", "web"),
    ("io.kubernetes.cri.container-type", "container"),
    ("io.kubernetes.cri.image-name", "registry.example/web:1"),
    ("io.kubernetes.cri.podsandbox.image-name", "pause"),
    ("io.kubernetes.cri.sandbox-id", OTHER),
    ("io.kubernetes.cri.sandbox-name", "pod"),
    ("io.kubernetes.cri.sandbox-namespace", "prod"),
    ("io.kubernetes.cri.sandbox-uid", "6f0e"),
];
const CONTAINERD_SANDBOX: Pairs = &[
    ("io.kubernetes.cri.container-type", "sandbox"),
    ("io.kubernetes.cri.sandbox-id", ID),
    ("io.kubernetes.cri.sandbox-name", "pod"),
    ("io.kubernetes.cri.sandbox-namespace", "prod"),
];
const PODMAN: Pairs = &[
    ("io.container.manager", "libpod"),
    ("io.kubernetes.cri-o.Created", "2026-11-27T10:06:02.910996144Z"),
    ("io.kubernetes.cri-o.TTY", "false"),
    ("io.podman.annotations.autoremove", "TRUE"),
    ("org.opencontainers.image.stopSignal", "15"),
];
/// `podman run --pod` and `podman kube play`.
const PODMAN_POD: Pairs = &[
    ("io.container.manager", "libpod"),
    ("io.kubernetes.cri-o.ContainerType", "container"),
    ("io.kubernetes.cri-o.Created", "2026-11-27T10:06:04.060198951Z"),
    ("io.kubernetes.cri-o.SandboxID", OTHER),
    ("io.podman.annotations.autoremove", "FALSE"),
];

/// What an author writes who would like to be somebody else.
const AS_PODMAN: Pairs = &[("io.container.manager", "libpod")];
const AS_SANDBOX: Pairs = &[
    ("io.kubernetes.cri.container-type", "sandbox"),
    ("io.kubernetes.cri-o.ContainerType", "sandbox"),
];
const AS_CONTAINERD: Pairs = &[
    ("io.kubernetes.cri.container-name", "forged"),
    ("io.kubernetes.cri.container-type", "container"),
    ("io.kubernetes.cri.sandbox-name", "forged"),
    ("io.kubernetes.cri.sandbox-namespace", "forged"),
];
const AS_CRIO: Pairs = &[
    ("io.container.manager", "cri-o"),
    ("io.kubernetes.container.name", "forged"),
    ("io.kubernetes.cri-o.ContainerID", OTHER),
    ("io.kubernetes.cri-o.ContainerType", "container"),
    ("io.kubernetes.cri-o.KubeName", "forged"),
    ("io.kubernetes.cri-o.Namespace", "forged"),
    ("io.kubernetes.pod.name", "forged"),
    ("io.kubernetes.pod.namespace", "forged"),
];
const AS_CRIO_WITHOUT_ID: Pairs = &[
    ("io.kubernetes.container.name", "forged"),
    ("io.kubernetes.cri-o.ContainerType", "container"),
    ("io.kubernetes.pod.name", "forged"),
    ("io.kubernetes.pod.namespace", "forged"),
];

/// How an engine puts what an author wrote together with what it writes itself.
struct Engine {
    writes: Pairs,
    /// What it leaves to the author where he writes it.
    yields: &'static [&'static str],
}

const ENGINES: [(&str, Engine, &str); 4] = [
    ("cri-o", Engine { writes: CRIO, yields: &[] }, "prod/pod/web"),
    // With `pod_annotations = ["*"]`.
    ("containerd", Engine { writes: CONTAINERD, yields: &[] }, "prod/pod/web"),
    ("podman", Engine { writes: PODMAN, yields: &["io.container.manager"] }, ""),
    ("podman", Engine { writes: PODMAN_POD, yields: &["io.container.manager"] }, ""),
];

fn together(engine: &Engine, author: &[Pairs]) -> Annotations {
    let owned = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
    let mut all: Annotations = author.iter().copied().flatten().map(owned).collect();
    for pair in engine.writes {
        if !(engine.yields.contains(&pair.0) && all.contains_key(pair.0)) {
            all.extend([owned(pair)]);
        }
    }
    all
}

fn shown(annotations: &Annotations) -> (Option<String>, String, bool) {
    let who = identity(annotations, ID);
    (who.details.runtime.clone(), who.details.display().unwrap_or_default(), who.is_sandbox)
}

#[test]
fn each_engines_own_keys_say_who_a_container_is() {
    for (name, engine, who) in ENGINES {
        let expected = (Some(name.to_owned()), who.to_owned(), false);
        assert_eq!(shown(&together(&engine, &[])), expected);
    }
    for sandbox in [CRIO_SANDBOX, CONTAINERD_SANDBOX] {
        assert!(shown(&together(&Engine { writes: sandbox, yields: &[] }, &[])).2, "{sandbox:?}");
    }
    assert_eq!(shown(&Annotations::new()), (None, String::new(), false));
}

#[test]
fn whatever_an_author_writes_under_an_engine_he_is_nobody_else_and_no_sandbox() {
    let forged = [AS_PODMAN, AS_SANDBOX, AS_CONTAINERD, AS_CRIO, AS_CRIO_WITHOUT_ID];
    let mut tried = 0;
    // All that he could write together, in every order of overwriting that matters.
    for (name, engine, truth) in ENGINES {
        for which in 1_u32..1 << forged.len() {
            for reversed in [false, true] {
                let chosen = (0..forged.len()).filter(|&bit| which & (1 << bit) != 0);
                let mut author: Vec<Pairs> = chosen.map(|bit| forged[bit]).collect();
                if reversed {
                    author.reverse();
                }
                let (runtime, who, is_sandbox) = shown(&together(&engine, &author));
                // Nobody at all is what he may make of himself: it opens nothing.
                assert!(who == truth || who.is_empty(), "{name} {author:?}: {who}");
                assert!(runtime.is_none() || runtime.as_deref() == Some(name), "{name} {author:?}");
                assert!(!is_sandbox, "{name} {author:?}");
                if name == "cri-o" {
                    assert_eq!(who, truth, "honest namespaces work whatever else is there");
                }
                tried += 1;
            }
        }
    }
    assert_eq!(tried, 4 * 31 * 2);
}

/// CRI-O writes the annotations of the checkpoint's image over its own, and the kubelet's labels
/// over those.
#[test]
fn the_author_of_a_checkpoint_is_nobody_else_under_cri_o() {
    let labels = |(key, _): &&(&str, &str)| {
        *key == "io.kubernetes.container.name" || key.starts_with("io.kubernetes.pod.")
    };
    let real = |pair: &(&str, &str)| (pair.0.to_owned(), pair.1.to_owned());
    for image in [AS_PODMAN, AS_SANDBOX, AS_CONTAINERD, AS_CRIO, AS_CRIO_WITHOUT_ID] {
        for second in [AS_PODMAN, AS_SANDBOX, AS_CONTAINERD, AS_CRIO] {
            let mut all: Annotations = CRIO.iter().map(real).collect();
            all.extend(image.iter().chain(second).map(real));
            all.extend(CRIO.iter().filter(labels).map(real));
            let (_, who, is_sandbox) = shown(&all);
            assert!(who == "prod/pod/web" || who.is_empty(), "{image:?} {second:?}: {who}");
            assert!(!is_sandbox, "{image:?} {second:?}");
        }
    }
}

#[test]
fn who_calls_a_runtime_himself_is_believed() {
    let all = together(&Engine { writes: AS_CRIO_WITHOUT_ID, yields: &[] }, &[]);
    assert_eq!(shown(&all), (Some("cri-o".into()), "forged/forged/forged".into(), false));
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
