//! What is to be done on each node, checked before anything is.

use anyhow::{bail, ensure};

use super::pods::{Pod, long_running, one_shot};
use crate::engines::Engine;

/// One of kcm's commands, by the name that the list of commands has for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Makes the pools.
    Init,
    /// Copies the programs to the node, and has its engine call the hook.
    Install,
    /// Shows the cluster the pools.
    Discover,
    /// Finds and mends, for ever.
    Reconcile,
    /// Reports, for ever.
    NodeReport,
}

const STEPS: [Step; 5] =
    [Step::Init, Step::Discover, Step::Install, Step::Reconcile, Step::NodeReport];

impl Step {
    /// Its name in lists, in names of pods, and as a container.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Init => "init",
            Self::Install => "install",
            Self::Discover => "discover",
            Self::Reconcile => "reconcile",
            Self::NodeReport => "nodereport",
        }
    }

    /// Whether it goes on for ever.
    fn is_long(self) -> bool {
        matches!(self, Self::Reconcile | Self::NodeReport)
    }
}

/// How many cores `init` is to give which pool.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Counts {
    /// To dataplane.
    pub(crate) dataplane: i64,
    /// To controlplane.
    pub(crate) controlplane: i64,
}

/// What to do on each node.
#[derive(Debug)]
pub(crate) struct Plan {
    /// The commands, in order.
    pub(crate) steps: Vec<Step>,
    /// The image that has them.
    pub(crate) image: String,
    /// When to pull it.
    pub(crate) pull_policy: String,
    /// The configuration directory on the node.
    pub(crate) conf_dir: String,
    /// Where kcm is to be on the node.
    pub(crate) install_dir: String,
    /// For `init`.
    pub(crate) counts: Counts,
    /// Where the pods are.
    pub(crate) namespace: String,
    /// The engines for `install` to configure.
    pub(crate) engines: Vec<Engine>,
}

impl Plan {
    /// The commands of such a list.
    pub(crate) fn steps(list: &[String]) -> anyhow::Result<Vec<Step>> {
        let mut steps: Vec<Step> = Vec::new();
        for name in list {
            let Some(step) = STEPS.into_iter().find(|step| step.name() == name) else {
                let known = STEPS.map(Step::name).join(", ");
                bail!("KCM command should be one of [{known}], not {name:?} (--kcm-cmd-list)");
            };
            ensure!(!steps.contains(&step), "{name} is twice in --kcm-cmd-list");
            steps.push(step);
        }
        ensure!(!steps.is_empty(), "there is no command in --kcm-cmd-list");
        let at = steps.iter().position(|step| *step == Step::Init);
        ensure!(at.is_none_or(|at| at == 0), "init command should be run and listed first.");
        Ok(steps)
    }

    /// Whether it can be carried out, as far as that can be told without a cluster.
    pub(crate) fn check_itself(&self) -> anyhow::Result<()> {
        const POLICIES: [&str; 3] = ["Never", "IfNotPresent", "Always"];
        ensure!(
            POLICIES.contains(&self.pull_policy.as_str()),
            "Image pull policy should be one of [{}], not {:?} (--kcm-img-pol)",
            POLICIES.join(", "),
            self.pull_policy
        );
        ensure!(
            !self.image.is_empty() && !self.image.contains(char::is_whitespace),
            "{:?} is no image (--kcm-img)",
            self.image
        );
        for (name, count) in
            [("num_dp_cores", self.counts.dataplane), ("num_cp_cores", self.counts.controlplane)]
        {
            ensure!(count > 0, "{name} cores should be a positive integer, not {count}.");
        }
        for (flag, path) in [("conf-dir", &self.conf_dir), ("install-dir", &self.install_dir)] {
            let is_plain = path.starts_with('/') && !path.split('/').any(|part| part == "..");
            ensure!(is_plain, "--{flag}={path} is no absolute path");
        }
        ensure!(
            is_label(&self.namespace),
            "--namespace={} is no name of a namespace",
            self.namespace
        );
        Ok(())
    }

    /// Whether it can be carried out on these nodes.
    pub(super) fn check(&self, hosts: &[String]) -> anyhow::Result<()> {
        for pod in hosts.iter().flat_map(|host| self.pods(host)) {
            ensure!(
                pod.name.len() <= 253,
                "the pod {} would have a name of over 253 characters: give --kcm-cmd-list in parts",
                pod.name
            );
        }
        Ok(())
    }

    /// The pods of a node, in the order in which they are made.
    pub(super) fn pods(&self, host: &str) -> Vec<Pod> {
        let (long, once): (Vec<Step>, Vec<Step>) =
            self.steps.iter().copied().partition(|step| step.is_long());
        let once = (!once.is_empty()).then(|| one_shot(self, &once, host));
        let long = (!long.is_empty()).then(|| long_running(self, &long, host));
        once.into_iter().chain(long).collect()
    }
}

/// A label of RFC 1123, as a namespace's name is one.
fn is_label(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let ends = [text.bytes().next(), text.bytes().last()];
    text.len() <= 63
        && ends.into_iter().all(|end| end.is_some_and(plain))
        && text.bytes().all(|byte| plain(byte) || byte == b'-')
}
