//! Who a container is, by what its engine says of it.
//!
//! Engine and author write into one map, so a key counts only where an author cannot have written
//! what is in it. Read in the sources of CRI-O 1.30 to 1.36 (`SpecAddAnnotations`), containerd
//! 1.6.20, 2.0 and main (`container_create`) and podman 4.3.1 to 6 (`generateSpec`), and measured
//! with podman 4.3.1; in the order of their writes:
//!
//! - CRI-O: all annotations of the pod; `io.kubernetes.cri-o.ContainerID`, `.ContainerType` and
//!   `io.container.manager=cri-o`; the kubelet's annotations of the container; last the kubelet's
//!   four labels, `io.kubernetes.container.name` and `io.kubernetes.pod.{name,namespace,uid}`.
//!   `.Namespace` and `.KubeName` it writes for sandboxes alone. For a container that is restored
//!   from a checkpoint, the last but one come from the image, which its author made: with them he
//!   can overwrite all but the labels (before 1.32 these, too: docs/hook.md).
//! - containerd: what the handler's `pod_annotations` lets pass; last `io.kubernetes.cri.*`.
//! - podman: what its user or the pod's YAML says; `io.container.manager=libpod` where that is
//!   not there yet; in a pod `io.kubernetes.cri-o.ContainerType` and `.SandboxID`. No name.
//!
//! So an author under CRI-O can write what containerd writes, one under podman what both write, and
//! one under containerd with `pod_annotations = ["*"]` what CRI-O or podman write. He cannot know
//! the id that his container will have, remove the manager under CRI-O and podman, or containerd's
//! keys under containerd. That decides who called; who called decides which keys count.

use kcm_core::allocation::Details;

use crate::oci::Annotations;

/// Who the container is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) details: Details,
    /// The pod's sandbox (pause) container, which carries the pod's annotations.
    pub(crate) is_sandbox: bool,
    pub(crate) caller: Caller,
}

/// The engine that started the container.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Caller {
    Crio,
    Containerd,
    Podman,
    /// The marks of several, none of which only its engine can have written.
    Unclear,
    /// None: a runtime that was called by hand, or by an engine that says nothing.
    #[default]
    Bare,
}

const MANAGER: &str = "io.container.manager";
const CRIO_ID: &str = "io.kubernetes.cri-o.ContainerID";
const CRIO_TYPE: &str = "io.kubernetes.cri-o.ContainerType";
const CONTAINERD_TYPE: &str = "io.kubernetes.cri.container-type";

/// The name of a sandbox's container under CRI-O; a pod's own cannot have capitals.
const CRIO_SANDBOX: &str = "POD";

impl Caller {
    /// Who called for the container of this id.
    fn find(annotations: &Annotations, id: &str) -> Self {
        let get = |key: &str| annotations.get(key).map(String::as_str);
        let (told_id, has_crio_type) = (get(CRIO_ID), get(CRIO_TYPE).is_some());
        if told_id == Some(id) {
            return Self::Crio;
        }
        let is_crio = told_id.is_some() || has_crio_type;
        match (get(MANAGER), get(CONTAINERD_TYPE).is_some(), is_crio) {
            (Some("libpod"), false, _) => Self::Podman,
            (None, true, false) => Self::Containerd,
            // CRI-O itself says more. What has no manager no engine started, and whoever calls a
            // runtime himself writes the whole bundle.
            (None, false, true) if told_id.is_none() => Self::Crio,
            (None, false, false) => Self::Bare,
            _ => Self::Unclear,
        }
    }

    fn name(self) -> Option<&'static str> {
        match self {
            Self::Crio => Some("cri-o"),
            Self::Containerd => Some("containerd"),
            Self::Podman => Some("podman"),
            Self::Unclear | Self::Bare => None,
        }
    }

    /// Why a container's name is not known, and what to do.
    pub(crate) fn why_nameless(self) -> &'static str {
        match self {
            Self::Podman => "podman does not tell a hook how its containers are named",
            Self::Unclear => {
                "annotations of several engines contradict each other (leave out io.container.manager \
                 and those that begin with io.kubernetes.cri)"
            }
            Self::Crio | Self::Containerd | Self::Bare => {
                "no engine has told how this container is named"
            }
        }
    }
}

/// Who the container of this id is.
pub(crate) fn identity(annotations: &Annotations, id: &str) -> Identity {
    let get = |key: &str| annotations.get(key).cloned();
    let caller = Caller::find(annotations, id);
    let [container, namespace, pod, image] = match caller {
        Caller::Crio => [
            get("io.kubernetes.container.name"),
            get("io.kubernetes.pod.namespace"),
            get("io.kubernetes.pod.name"),
            get("io.kubernetes.cri-o.ImageName"),
        ],
        Caller::Containerd => [
            get("io.kubernetes.cri.container-name"),
            get("io.kubernetes.cri.sandbox-namespace"),
            get("io.kubernetes.cri.sandbox-name"),
            get("io.kubernetes.cri.image-name"),
        ],
        Caller::Podman | Caller::Unclear | Caller::Bare => Default::default(),
    };
    let says_sandbox = |key: &str| annotations.get(key).is_some_and(|kind| kind == "sandbox");
    let is_sandbox = match caller {
        // A restored container's author can write the type, and not the name.
        Caller::Crio if annotations.contains_key(CRIO_ID) => {
            says_sandbox(CRIO_TYPE) && container.as_deref().is_none_or(|name| name == CRIO_SANDBOX)
        }
        Caller::Crio => says_sandbox(CRIO_TYPE),
        Caller::Containerd => says_sandbox(CONTAINERD_TYPE),
        Caller::Podman | Caller::Unclear | Caller::Bare => false,
    };
    let runtime = caller.name().map(str::to_owned);
    let details = Details { container, pod, namespace, image, runtime, ..Details::default() };
    Identity { details, is_sandbox, caller }
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
mod tests;
