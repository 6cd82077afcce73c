//! What is told of a shield, for programs and, by [`super::table`], for people.

use kcm_core::host::shield::{Done, Host};
use kcm_core::host::shield_state::State;
use kcm_core::plan::shield::boot::gaps;
use kcm_core::plan::shield::{Item, Kind, Left, Plan, Step, Wish};
use kcm_core::task::Pid;
use serde::Serialize;

/// The shield and all that it is about.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    /// The CPUs that are shielded.
    pub(crate) cpus: String,
    /// What no write moves while the kernel runs.
    pub(crate) gaps: Vec<Gap>,
    /// What was changed, or is to be.
    pub(crate) items: Vec<Row>,
    /// What stays as it is, and why.
    pub(crate) left: Vec<Stays>,
    /// What to write on the kernel's command line, so that what can be moved by that is moved.
    pub(crate) parameters: String,
    pub(crate) shield: Mode,
    /// Units whose cpuset holds every CPU though nobody has said so: the kernel takes no empty list back.
    pub(crate) whole: Vec<String>,
}

/// Whether it is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Mode {
    On,
    /// Something is not as it should be, and could be.
    Partly,
    Off,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Row {
    pub(crate) before: String,
    pub(crate) kind: &'static str,
    pub(crate) name: String,
    pub(crate) now: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) pid: Option<Pid>,
    pub(crate) set: String,
    pub(crate) state: Standing,
}

/// What has become of an item.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Standing {
    /// It has what the shield set.
    Set,
    /// It has what it had before.
    GivenBack,
    /// It would be set.
    Open,
    /// The same, of a kernel thread that was made since: the kernel gives each new one every CPU.
    New,
    /// Its process, interrupt or device is gone.
    Gone,
}

#[derive(Debug, Serialize)]
pub(crate) struct Stays {
    pub(crate) kind: &'static str,
    pub(crate) name: String,
    pub(crate) now: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) pid: Option<Pid>,
    pub(crate) why: String,
}

#[derive(Debug, Serialize)]
pub(crate) struct Gap {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) parameter: Option<String>,
    pub(crate) what: String,
    pub(crate) why: String,
}

impl Report {
    pub(crate) fn new(host: &mut Host, wish: &Wish) -> anyhow::Result<Self> {
        let mut report =
            Self { cpus: wish.shield.to_string(), shield: Mode::On, ..Self::off(host) };
        report.left.extend(missing(host));
        Ok(report)
    }

    /// One of no shield.
    pub(crate) fn off(host: &mut Host) -> Self {
        Self {
            cpus: String::new(),
            gaps: Vec::new(),
            items: Vec::new(),
            left: Vec::new(),
            parameters: String::new(),
            shield: Mode::Off,
            whole: host.whole_units(),
        }
    }

    /// What would be done.
    pub(crate) fn planned(&mut self, host: &Host, plan: Plan) {
        let steps = plan.steps.iter().filter(|step| step.now != step.wanted);
        self.items.extend(steps.map(|step| row(host, step, &step.now, Standing::Open)));
        self.left(host, plan.left);
    }

    /// What was done; what has failed stays.
    pub(crate) fn done(&mut self, host: &Host, done: &[Done], standing: Standing) {
        for Done { step, now, failure } in done.iter().filter(|done| !done.step.is_mark()) {
            let value = now.as_ref().unwrap_or(&step.now);
            match (failure, now) {
                (Some(why), _) => self.left.push(stays(host, &step.item, value, why)),
                (None, None) => self.items.push(row(host, step, value, Standing::Gone)),
                (None, Some(_)) if step.wanted == step.before => {
                    self.items.push(row(host, step, value, Standing::GivenBack));
                }
                (None, Some(_)) => self.items.push(row(host, step, value, standing)),
            }
        }
    }

    pub(crate) fn left(&mut self, host: &Host, left: Vec<Left>) {
        self.left.extend(left.iter().map(|it| stays(host, &it.item, &it.now, &it.why)));
    }

    /// How it is, by what would be done and what was refused.
    pub(crate) fn is(&mut self, host: &Host, plan: Plan, state: &State) {
        for step in plan.steps.iter().filter(|step| !step.is_mark()) {
            let refused = state.refused.iter().find(|it| it.item.key() == step.item.key());
            match refused.filter(|_| step.now != step.wanted) {
                Some(refused) => {
                    self.left.push(stays(host, &step.item, &step.now, &refused.why));
                }
                None if step.now == step.wanted => {
                    self.items.push(row(host, step, &step.now, Standing::Set));
                }
                None => {
                    let is_known = state.items.iter().any(|it| it.item.key() == step.item.key());
                    let standing = match step.item.kind == Kind::KernelThread && !is_known {
                        true => Standing::New,
                        false => Standing::Open,
                    };
                    if standing == Standing::Open {
                        self.shield = Mode::Partly;
                    }
                    self.items.push(row(host, step, &step.now, standing));
                }
            }
        }
        self.left(host, plan.left);
    }

    /// Adds what no write moves.
    pub(crate) fn finish(&mut self, host: &Host, wish: &Wish) -> anyhow::Result<()> {
        let is_managed = |it: &&Stays| it.kind == Kind::Interrupt.word();
        let managed = self.left.iter().filter(is_managed).map(|it| it.name.clone()).collect();
        let found = gaps(&host.booted(managed)?, &wish.shield, &wish.online);
        let parameters: Vec<&str> =
            found.iter().filter_map(|gap| gap.parameter.as_deref()).collect();
        self.parameters = parameters.join(" ");
        self.gaps = found
            .into_iter()
            .map(|gap| Gap { parameter: gap.parameter, what: gap.what, why: gap.why })
            .collect();
        Ok(())
    }
}

/// What is done nowhere on this node.
fn missing(host: &Host) -> Vec<Stays> {
    let stays = |kind: Kind, name: &str, why: &str| Stays {
        kind: kind.word(),
        name: name.to_owned(),
        now: String::new(),
        pid: None,
        why: why.to_owned(),
    };
    let mut missing = Vec::new();
    if !host.has_slices() {
        missing.push(stays(
            Kind::Slice,
            "init.scope, system.slice, user.slice",
            "systemd is not PID 1 here, or has no cpuset controller (cgroup v1), and kcm moves no \
             process by itself: boot with systemd on cgroup v2, or with isolcpus",
        ));
    }
    if !host.sees_processes() {
        missing.push(stays(
            Kind::KernelThread,
            "all",
            "the host's processes cannot be seen: run it on the host, or set KCM_PROC_FS to its procfs",
        ));
    }
    missing
}

/// The name for people: of an interrupt also who serves it.
fn name(host: &Host, item: &Item) -> String {
    match item.kind {
        Kind::Interrupt => match host.served_by(&item.name).as_str() {
            "" => item.name.clone(),
            who => format!("{} ({who})", item.name),
        },
        _ => item.name.clone(),
    }
}

fn row(host: &Host, step: &Step, now: &str, state: Standing) -> Row {
    Row {
        before: step.before.clone(),
        kind: step.item.kind.word(),
        name: name(host, &step.item),
        now: now.to_owned(),
        pid: step.item.thread.map(|thread| thread.pid),
        set: step.wanted.clone(),
        state,
    }
}

fn stays(host: &Host, item: &Item, now: &str, why: &str) -> Stays {
    let why = match item.kind {
        Kind::Interrupt if why.contains("Input/output error") || why.contains("not permitted") => {
            "the kernel places it (managed), and refuses to move it"
        }
        _ => why,
    };
    Stays {
        kind: item.kind.word(),
        name: name(host, item),
        now: now.to_owned(),
        pid: item.thread.map(|thread| thread.pid),
        why: why.to_owned(),
    }
}
