//! What a pod's status says of it: is it done, has it failed, or is there something to wait for?

use k8s_openapi::api::core::v1::{ContainerStatus, Pod, PodStatus};

/// Reasons of waiting that do not pass by themselves, or not soon.
const HOPELESS: [&str; 8] = [
    "CrashLoopBackOff",
    "ImagePullBackOff",
    "ErrImageNeverPull",
    "InvalidImageName",
    "ImageInspectError",
    "CreateContainerConfigError",
    "CreateContainerError",
    "RunContainerError",
];

/// What can be said of a pod.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It has done what it should; or all of it runs, with so many restarts.
    Succeeded,
    /// All of its containers run; how often they were started anew.
    Running(i32),
    /// It is on its way; where it is.
    Waiting(String),
    /// It will not get there.
    Failed(Failure),
}

/// Why a pod failed.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Failure {
    /// In words.
    pub(super) why: String,
    /// The container whose log may say more.
    pub(super) container: Option<String>,
}

/// Judges a pod.
pub(super) fn judge(pod: &Pod) -> Verdict {
    let none = PodStatus::default();
    let status = pod.status.as_ref().unwrap_or(&none);
    if pod.metadata.deletion_timestamp.is_some() {
        return failed("somebody is deleting it", None);
    }
    match status.phase.as_deref() {
        Some("Succeeded") => Verdict::Succeeded,
        Some("Failed") => phase_failed(status),
        phase => unfinished(status, phase == Some("Running")),
    }
}

fn failed(why: impl Into<String>, container: Option<&str>) -> Verdict {
    Verdict::Failed(Failure { why: why.into(), container: container.map(str::to_owned) })
}

/// All containers of a pod, in the order in which they are started.
pub(super) fn containers(status: &PodStatus) -> impl Iterator<Item = &ContainerStatus> {
    let init = status.init_container_statuses.iter().flatten();
    init.chain(status.container_statuses.iter().flatten())
}

fn phase_failed(status: &PodStatus) -> Verdict {
    for container in containers(status) {
        let state = container.state.as_ref().and_then(|state| state.terminated.as_ref());
        if let Some(end) = state.filter(|end| end.exit_code != 0) {
            let reason = end.reason.as_deref().filter(|reason| *reason != "Error");
            let reason = reason.map(|reason| format!(" ({reason})")).unwrap_or_default();
            let message = end.message.as_deref().unwrap_or_default();
            let message = if message.is_empty() { "" } else { &format!(": {message}") };
            let (name, code) = (&container.name, end.exit_code);
            let why = format!("{name} ended with status {code}{reason}{message}");
            return failed(why, Some(&container.name));
        }
    }
    // The kubelet did not admit it, or evicted it.
    let texts = [status.reason.as_deref(), status.message.as_deref()];
    let texts: Vec<&str> = texts.into_iter().flatten().collect();
    match texts.is_empty() {
        true => failed("it failed, and its status does not say why", None),
        false => failed(texts.join(": "), None),
    }
}

fn unfinished(status: &PodStatus, runs: bool) -> Verdict {
    let mut conditions = status.conditions.iter().flatten();
    let unschedulable = conditions.find(|condition| {
        condition.type_ == "PodScheduled" && condition.reason.as_deref() == Some("Unschedulable")
    });
    if let Some(condition) = unschedulable {
        let message = condition.message.as_deref().unwrap_or("no node can have it");
        return failed(format!("Unschedulable: {message}"), None);
    }
    let mut place = None;
    for container in containers(status) {
        let name = container.name.as_str();
        let state = container.state.clone().unwrap_or_default();
        if let Some(waiting) = state.waiting {
            let reason = waiting.reason.unwrap_or_default();
            let message = waiting.message.map(|text| format!(": {text}")).unwrap_or_default();
            if HOPELESS.contains(&reason.as_str()) {
                let before =
                    container.last_state.as_ref().and_then(|last| last.terminated.as_ref());
                let ended = before.map(|end| format!(" (it ended with status {})", end.exit_code));
                let ended = ended.unwrap_or_default();
                return failed(format!("{name}: {reason}{message}{ended}"), Some(name));
            }
            place.get_or_insert(format!("{name}: {reason}"));
        } else if state.running.is_some() {
            if !runs {
                place.get_or_insert(format!("{name} is running"));
            }
        } else if let Some(end) = state.terminated.filter(|end| runs || end.exit_code != 0) {
            place.get_or_insert(format!("{name} ended with status {}", end.exit_code));
        }
    }
    match place {
        Some(place) => Verdict::Waiting(place),
        None if runs => Verdict::Running(containers(status).map(|c| c.restart_count).sum()),
        None => Verdict::Waiting("it is not on its node yet".to_owned()),
    }
}

#[cfg(test)]
mod tests;
