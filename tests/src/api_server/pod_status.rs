//! The status of a pod, worked out from the states of its containers as a kubelet does.

use serde_json::{Map, Value, json};

use super::clock;

/// What a container does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum State {
    Waiting { reason: String, message: String },
    Running,
    Ended { code: i64, reason: &'static str, message: String },
}

/// One container of a pod.
#[derive(Clone, Debug)]
pub(super) struct Container {
    pub(super) name: String,
    pub(super) image: String,
    pub(super) pull_policy: String,
    pub(super) init: bool,
    pub(super) restarts: u64,
    pub(super) last: Option<State>,
    pub(super) log: String,
    state: State,
    resources: Value,
    mounts: Value,
}

impl State {
    pub(super) fn waiting(reason: &str) -> Self {
        Self::Waiting { reason: reason.into(), message: String::new() }
    }

    pub(super) fn ended(code: i64) -> Self {
        let reason = if code == 0 { "Completed" } else { "Error" };
        Self::Ended { code, reason, message: String::new() }
    }

    fn is_over(&self) -> bool {
        matches!(self, Self::Ended { .. })
    }

    fn is_failure(&self) -> bool {
        matches!(self, Self::Ended { code, .. } if *code != 0)
    }

    fn shown(&self) -> Value {
        let now = clock::now();
        let (name, mut shown, message) = match self {
            Self::Waiting { reason, message } => {
                ("waiting", json!({"reason": reason}), message.as_str())
            }
            Self::Running => ("running", json!({"startedAt": now}), ""),
            Self::Ended { code, reason, message } => {
                let shown = json!({"exitCode": code, "reason": reason, "startedAt": now,
                    "finishedAt": now, "containerID": ID});
                ("terminated", shown, message.as_str())
            }
        };
        if !message.is_empty() {
            shown["message"] = message.into();
        }
        json!({name: shown})
    }
}

const ID: &str = "containerd://7892d6f90b6f6d43f7cb080c4d885ee14c2aa754c308cd9397f84a13cd8762c9";
const IMAGE_ID: &str = "sha256:17f23018a13ed50a63dcbe6be347be99bc900d4062164060b5de270a90b55f69";

impl Container {
    /// The containers of a pod in the order in which they are started.
    pub(super) fn all_of(pod: &Value) -> Vec<Self> {
        let list = |name: &str| pod["spec"][name].as_array().cloned().unwrap_or_default();
        let of = |init: bool| {
            move |container: Value| {
                let text = |field: &str| container[field].as_str().unwrap_or_default().to_owned();
                let mut mounts = container["volumeMounts"].clone();
                for mount in mounts.as_array_mut().into_iter().flatten() {
                    if mount["readOnly"] == true {
                        mount["recursiveReadOnly"] = "Disabled".into();
                    }
                }
                Self {
                    name: text("name"),
                    image: text("image"),
                    pull_policy: text("imagePullPolicy"),
                    init,
                    restarts: 0,
                    last: None,
                    log: String::new(),
                    state: State::waiting("ContainerCreating"),
                    resources: container["resources"].clone(),
                    mounts,
                }
            }
        };
        let init = list("initContainers").into_iter().map(of(true));
        init.chain(list("containers").into_iter().map(of(false))).collect()
    }

    pub(super) fn in_state(&self, state: State) -> Self {
        Self { state, ..self.clone() }
    }

    /// The same after so many restarts, with how it ended before, and what it has written.
    pub(super) fn restarted(self, restarts: u64, last: Option<State>, log: &str) -> Self {
        Self { restarts, last, log: log.into(), ..self }
    }

    /// What the runtime could not start has not run.
    fn has_run(&self) -> bool {
        let runs = match &self.state {
            State::Waiting { .. } => false,
            State::Running => true,
            State::Ended { reason, .. } => *reason != "StartError",
        };
        runs || self.last.is_some()
    }

    fn is_ready(&self) -> bool {
        match self.init {
            true => self.state == State::ended(0),
            false => self.state == State::Running,
        }
    }

    fn shown(&self) -> Value {
        let started = !matches!(self.state, State::Waiting { .. }) || self.last.is_some();
        let mut shown = json!({
            "name": self.name, "state": self.state.shown(), "ready": self.is_ready(),
            "lastState": self.last.as_ref().map_or_else(|| json!({}), State::shown),
            "restartCount": self.restarts, "image": self.image,
            "imageID": if started { IMAGE_ID } else { "" }, "started": self.state == State::Running,
        });
        if !self.mounts.is_null() {
            shown["volumeMounts"] = self.mounts.clone();
        }
        if started {
            shown["containerID"] = ID.into();
            shown["resources"] = self.resources.clone();
            shown["user"] = json!({"linux": {"uid": 0, "gid": 0, "supplementalGroups": [0]}});
            if self.resources["requests"].is_object() && !self.state.is_over() {
                shown["allocatedResources"] = self.resources["requests"].clone();
            }
        }
        shown
    }
}

/// A condition of a pod.
pub(super) fn condition(kind: &str, holds: bool, reason: &str, message: &str) -> Value {
    let status = if holds { "True" } else { "False" };
    let mut condition = json!({"type": kind, "status": status, "lastProbeTime": null,
        "lastTransitionTime": clock::now()});
    for (field, text) in [("reason", reason), ("message", message)] {
        if !text.is_empty() {
            condition[field] = text.into();
        }
    }
    condition
}

/// Writes the status of a pod whose containers are in these states, with its sandbox there or not.
pub(super) fn show(pod: &mut Value, containers: &[Container], sandbox: bool) {
    let (init, main) = containers.iter().partition(|container| container.init);
    let restarts = pod["spec"]["restartPolicy"] == "Always";
    let picture = Picture { init, main, restarts, sandbox };
    let old = pod["status"].take();
    let started_at = old.get("startTime").cloned().unwrap_or_else(|| clock::now().into());
    let mut status = json!({
        "observedGeneration": 1, "phase": picture.phase(), "conditions": picture.conditions(),
        "startTime": started_at, "hostIP": "127.0.0.1", "hostIPs": [{"ip": "127.0.0.1"}],
        "qosClass": old["qosClass"], "resources": picture.resources(),
        "containerStatuses": shown(&picture.main),
    });
    if !picture.init.is_empty() {
        status["initContainerStatuses"] = shown(&picture.init);
    }
    let allocated = picture.allocated();
    if !allocated.is_empty() {
        status["allocatedResources"] = allocated.into();
    }
    if picture.has_started() {
        status["podIP"] = "10.88.77.4".into();
        status["podIPs"] = json!([{"ip": "10.88.77.4"}]);
    }
    pod["status"] = status;
}

fn shown(containers: &[&Container]) -> Value {
    containers.iter().map(|container| container.shown()).collect()
}

/// A pod's containers together.
struct Picture<'a> {
    init: Vec<&'a Container>,
    main: Vec<&'a Container>,
    restarts: bool,
    sandbox: bool,
}

impl Picture<'_> {
    fn has_failed(&self) -> bool {
        !self.restarts && self.init.iter().chain(&self.main).any(|c| c.state.is_failure())
    }

    /// Whether no container will run any more.
    fn is_over(&self) -> bool {
        self.has_failed() || (!self.restarts && self.main.iter().all(|c| c.state.is_over()))
    }

    /// Whether a container that is not for the start has ever run.
    fn has_started(&self) -> bool {
        self.main.iter().any(|container| container.has_run())
    }

    /// A pod whose containers are over is told to run until its sandbox is gone.
    fn phase(&self) -> &'static str {
        match (self.is_over() && !self.sandbox, self.has_failed()) {
            (true, true) => "Failed",
            (true, false) => "Succeeded",
            (false, _) if self.has_started() => "Running",
            (false, _) => "Pending",
        }
    }

    fn conditions(&self) -> Vec<Value> {
        let incomplete = unready(&self.init);
        let unready = unready(&self.main);
        let completed = self.is_over() && !self.has_failed();
        let initialized = match incomplete.as_str() {
            "" if completed => condition("Initialized", true, "PodCompleted", ""),
            "" => condition("Initialized", true, "", ""),
            names => {
                let message = format!("containers with incomplete status: [{names}]");
                condition("Initialized", false, "ContainersNotInitialized", &message)
            }
        };
        let ready = |kind: &str| match unready.as_str() {
            "" => condition(kind, true, "", ""),
            _ if completed => condition(kind, false, "PodCompleted", ""),
            _ if self.is_over() => condition(kind, false, "PodFailed", ""),
            names => {
                let message = format!("containers with unready status: [{names}]");
                condition(kind, false, "ContainersNotReady", &message)
            }
        };
        let mut conditions = vec![
            condition("PodReadyToStartContainers", self.sandbox, "", ""),
            initialized,
            ready("Ready"),
            ready("ContainersReady"),
            condition("PodScheduled", true, "", ""),
        ];
        for condition in &mut conditions {
            condition["observedGeneration"] = json!(1);
        }
        conditions
    }

    /// The resources of a pod of one container are that container's.
    fn resources(&self) -> Value {
        match self.main.as_slice() {
            [only] if !only.state.is_over() => only.resources.clone(),
            _ => json!({}),
        }
    }

    fn allocated(&self) -> Map<String, Value> {
        let running = self.main.iter().filter(|container| container.state == State::Running);
        let requests = running.filter_map(|container| container.resources["requests"].as_object());
        requests.flatten().map(|(name, amount)| (name.clone(), amount.clone())).collect()
    }
}

/// The names of the containers that are not ready.
fn unready(containers: &[&Container]) -> String {
    let names = containers.iter().filter(|c| !c.is_ready()).map(|c| c.name.as_str());
    names.collect::<Vec<_>>().join(" ")
}
