//! The way of a pod's containers to what becomes of them, one state after the other, as recorded.

use serde_json::Value;

use super::kubelet::Outcome;
use super::pod_status::{Container, State};

/// One state of all containers on the way to the outcome.
#[derive(Debug)]
pub(super) struct Stage {
    pub(super) containers: Vec<Container>,
    /// Whether the pod's sandbox is there.
    pub(super) sandbox: bool,
    /// Whether it comes only after the back-off.
    pub(super) backs_off: bool,
}

/// The stages of a pod: created, made ready, and what its containers do then.
pub(super) fn stages(pod: &Value, outcome: &Outcome) -> Vec<Stage> {
    let all = Container::all_of(pod);
    let stage = |sandbox: bool, f: &dyn Fn(&Container) -> State| Stage {
        containers: all.iter().map(|c| c.in_state(f(c))).collect(),
        sandbox,
        backs_off: false,
    };
    let has_init = all.iter().any(|container| container.init);
    let reason = if has_init { "PodInitializing" } else { "ContainerCreating" };
    let waiting = |_: &Container| State::waiting(reason);
    let running = |c: &Container| if c.init { State::ended(0) } else { State::Running };
    let mut stages = vec![stage(false, &waiting), stage(true, &waiting)];
    // Init containers run one after the other, until one of them is what the pod fails by.
    for (at, init) in all.iter().enumerate().filter(|(_, c)| c.init).take(outcome.init_run(&all)) {
        let ended = all[..at].iter().map(|before| before.in_state(State::ended(0)));
        let later = all[at + 1..].iter().map(|later| later.in_state(waiting(later)));
        let containers = ended.chain([init.in_state(State::Running)]).chain(later).collect();
        stages.push(Stage { containers, sandbox: true, backs_off: false });
    }
    match outcome {
        Outcome::Hangs | Outcome::Unschedulable(_) => {}
        Outcome::Runs | Outcome::Vanishes => stages.push(stage(true, &running)),
        Outcome::Succeeds => {
            let ended = |_: &Container| State::ended(0);
            stages.extend([stage(true, &running), stage(true, &ended), stage(false, &ended)]);
        }
        Outcome::Fails { container, code, log } if pod["spec"]["restartPolicy"] == "Always" => {
            stages.extend(crashes(&all, &|c| c.name == *container, (*code, log), &waiting));
        }
        Outcome::Fails { container, code, log } => {
            let mut ends = failure(&all, container, &State::ended(*code), &waiting);
            for failed in ends.iter_mut().filter(|c| c.name == *container) {
                failed.log = log.clone();
            }
            if all.iter().any(|c| c.name == *container && !c.init) {
                stages.push(stage(true, &running));
            }
            for sandbox in [true, false] {
                stages.push(Stage { containers: ends.clone(), sandbox, backs_off: false });
            }
        }
        Outcome::StartFails { container, message } => {
            let refused =
                State::Ended { code: 128, reason: "StartError", message: message.clone() };
            let ends = failure(&all, container, &refused, &waiting);
            for sandbox in [true, false] {
                stages.push(Stage { containers: ends.clone(), sandbox, backs_off: false });
            }
        }
        Outcome::CrashLoops { code, log } => {
            stages.extend(crashes(&all, &|c| !c.init, (*code, log), &waiting));
        }
        Outcome::ImageMissing => stages.extend(missing_image(&all, &waiting)),
    }
    stages
}

impl Outcome {
    /// How many of the init containers get to run.
    fn init_run(&self, all: &[Container]) -> usize {
        let place = |name: &str| all.iter().position(|container| container.name == name);
        match self {
            Self::Succeeds | Self::Runs | Self::Vanishes | Self::CrashLoops { .. } => all.len(),
            Self::Fails { container, .. } => place(container).map_or(0, |at| at + 1),
            Self::StartFails { container, .. } => place(container).unwrap_or(0),
            Self::ImageMissing | Self::Unschedulable(_) | Self::Hangs => 0,
        }
    }
}

/// The containers when one of them has failed: those before it have ended well.
fn failure(
    all: &[Container],
    failing: &str,
    how: &State,
    waiting: &dyn Fn(&Container) -> State,
) -> Vec<Container> {
    let at = all.iter().position(|container| container.name == failing);
    let at = at.unwrap_or_else(|| panic!("the pod has no container {failing} that could fail"));
    let state = |(index, container): (usize, &Container)| {
        container.in_state(match () {
            () if index == at => how.clone(),
            () if index < at || !all[at].init => State::ended(0),
            () => waiting(container),
        })
    };
    all.iter().enumerate().map(state).collect()
}

/// What loops runs, ends, runs again, ends, and waits to be restarted; the others do their part.
fn crashes(
    all: &[Container],
    loops: &dyn Fn(&Container) -> bool,
    (code, log): (i64, &str),
    waiting: &dyn Fn(&Container) -> State,
) -> Vec<Stage> {
    let at = all.iter().position(loops).expect("a container that crashes");
    let other = |(index, container): (usize, &Container)| match (container.init, all[at].init) {
        (true, _) if index < at => State::ended(0),
        (false, false) => State::Running,
        _ => waiting(container),
    };
    let stage = |state: State, restarts: u64| {
        let last = (restarts > 0).then(|| State::ended(code));
        let containers = all.iter().enumerate().map(|(index, container)| match loops(container) {
            true => container.in_state(state.clone()).restarted(restarts, last.clone(), log),
            false => container.in_state(other((index, container))),
        });
        Stage { containers: containers.collect(), sandbox: true, backs_off: false }
    };
    let message = "back-off 10s restarting failed container";
    let waits = State::Waiting { reason: "CrashLoopBackOff".into(), message: message.into() };
    vec![
        stage(State::Running, 0),
        stage(State::ended(code), 0),
        stage(State::Running, 1),
        stage(State::ended(code), 1),
        Stage { backs_off: true, ..stage(waits, 1) },
    ]
}

/// The first container that is to run has no image.
fn missing_image(all: &[Container], waiting: &dyn Fn(&Container) -> State) -> Vec<Stage> {
    let never = all[0].pull_policy == "Never";
    let image = &all[0].image;
    let reasons: Vec<(&str, String)> = match never {
        true => {
            let message =
                format!("Container image {image:?} is not present with pull policy of Never");
            vec![("ErrImageNeverPull", message)]
        }
        false => vec![
            ("ErrImagePull", format!("failed to pull and unpack image {image:?}: not found")),
            ("ImagePullBackOff", format!("Back-off pulling image {image:?}")),
        ],
    };
    let stage = |(reason, message): (&str, String)| {
        let state = |(index, container): (usize, &Container)| {
            container.in_state(match index == 0 || (!all[0].init && container.image == *image) {
                true => State::Waiting { reason: reason.into(), message: message.clone() },
                false => waiting(container),
            })
        };
        let containers = all.iter().enumerate().map(state).collect();
        Stage { containers, sandbox: true, backs_off: false }
    };
    reasons.into_iter().map(stage).collect()
}
