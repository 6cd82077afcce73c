//! Who runs on a CPU besides its owner, and how long a program there is kept from running: what
//! `kcm noise` does.

mod account;
mod attribute;
mod build;
pub(crate) mod compare;
mod events;
mod gauge;
mod histogram;
mod measure;
mod place;
mod report;
mod sample;
pub(crate) mod span;
mod sums;
mod svg;
mod table;
mod target;
mod watch;
mod who;
mod window;

use std::io::{ErrorKind, Write};
use std::time::Duration;

use anyhow::{Context, bail};
use kcm_core::host::child::Inherited;
use kcm_core::host::stop::Stop;
use kcm_core::host::{affinity, counters};
use kcm_core::{CpuSet, Node};

use crate::commands::isolate::aside;
use crate::commands::isolate::hold::Held;
use crate::output::json;
use build::Steal;
use compare::Comparison;
pub(crate) use gauge::run_if_sent;
pub(crate) use measure::Gauging;
use measure::Running;
use report::{OfCpu, Origin, Report};
pub(crate) use target::Subject;
use target::Target;
use watch::{Traced, Watch};
use who::{Holder, Who};
use window::Window;

/// How to print it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Format {
    Table,
    Json,
    Svg,
}

/// What is measured is still looked at for so long when its time is over: it ends a little later than
/// whoever told it to begin.
const AFTER: Duration = Duration::from_millis(100);

/// Whose CPUs are looked at.
struct Scene<'n> {
    node: &'n Node,
    cpus: CpuSet,
    who: Who,
    stop: Stop,
    notices: Vec<String>,
}

/// What was found of them.
struct Seen {
    source: Origin,
    window: Window,
    each_cpu: Vec<OfCpu>,
    traced: Option<Traced>,
}

/// Watches the CPUs of a subject.
pub(crate) fn watch(
    node: &Node,
    online: &CpuSet,
    subject: &Subject,
    duration: Duration,
) -> anyhow::Result<Report> {
    let mut notices = Vec::new();
    let Target { cpus, holders, subject } =
        Target::find(subject, &node.conf, online, &mut notices)?;
    aside::move_off(&cpus, node, online);
    let stop = Stop::new().context("cannot set up the handling of signals")?;
    let who = Who::new(node.procfs.clone(), node.hierarchy.clone(), holders);
    let mut scene = Scene { node, cpus, who, stop, notices };
    log::info!("watching CPUs {} for {duration:?}; SIGINT ends it early", scene.cpus);
    let seen = scene.look(duration, None)?;
    Ok(scene.report(subject, seen))
}

/// Measures free CPUs of a subject, which it takes for that time.
pub(crate) fn measure(
    node: &Node,
    online: &CpuSet,
    subject: &Subject,
    duration: Duration,
    gauging: Gauging,
    inherited: Inherited,
) -> anyhow::Result<Report> {
    let wish = measure::wish(subject, gauging.cores, node)?;
    let stop = Stop::new().context("cannot set up the handling of signals")?;
    let mut held = Held::take(&wish, node, online)?;
    let measured = measure_held(&mut held, node, stop, duration, gauging, inherited);
    // Also where nothing was measured.
    held.give_back();
    measured
}

fn measure_held(
    held: &mut Held<'_>,
    node: &Node,
    stop: Stop,
    duration: Duration,
    gauging: Gauging,
    inherited: Inherited,
) -> anyhow::Result<Report> {
    let cpus = held.cpus().clone();
    let mut running = Running::start(held, inherited, duration, gauging.threshold)?;
    let own = node.procfs.own_pid().context("cannot tell this process's host PID")?;
    let holder = Holder {
        name: held.allocation().owner.to_string(),
        cpus: cpus.clone(),
        cgroup: held.allocation().cgroup_path().map(str::to_owned),
        processes: node.procfs.children(own).into_iter().collect(),
    };
    let who = Who::new(node.procfs.clone(), node.hierarchy.clone(), vec![holder]);
    let subject = format!("pool {}", held.allocation().pool);
    let mut scene = Scene { node, cpus, who, stop, notices: Vec::new() };
    log::info!("measuring CPUs {} for {duration:?}; SIGINT ends it early", scene.cpus);
    let mut seen = scene.look(duration, Some(&mut running))?;
    let threshold = gauging.threshold.as_nanos() as u64;
    let trace = seen.traced.as_ref().map(|traced| (&traced.account, &scene.who));
    for found in running.finish()? {
        let gaps = attribute::gaps(&found, threshold, seen.window, trace);
        let cpu = seen.each_cpu.iter_mut().find(|cpu| cpu.cpu == found.cpu);
        if let Some(cpu) = cpu {
            cpu.gaps = Some(gaps);
        }
    }
    Ok(scene.report(subject, seen))
}

impl Scene<'_> {
    /// Looks at them for so long, by the trace or what there is. Whoever measures begins when that
    /// does, and ends before.
    fn look(
        &mut self,
        duration: Duration,
        mut running: Option<&mut Running>,
    ) -> anyhow::Result<Seen> {
        let Self { node, cpus, who, stop, notices } = self;
        let elsewhere =
            affinity::own().context("cannot tell which CPUs are used")?.difference(cpus);
        if elsewhere.is_empty() {
            notices.push(format!(
                "kcm itself may use none but CPUs {cpus}, so what it does there is in the numbers"
            ));
        } else {
            affinity::bind_self(&elsewhere).context("cannot move to other CPUs")?;
        }
        let own = node.procfs.own_pid().context("cannot tell this process's host PID")?;
        let keep = running.is_some();
        let duration = if keep { duration + AFTER } else { duration };
        let mut begin = || running.take().map_or(Ok(()), Running::begin);
        match Watch::new(cpus, elsewhere, &node.procfs, own, who) {
            Ok(watch) => {
                let before = counters::times(&node.procfs)?;
                let mut traced = watch.run(duration, keep, stop, begin)?;
                let steal = Steal { before, after: counters::times(&node.procfs)? };
                who.look_again();
                let each_cpu = build::cpus(&traced, who, &steal);
                notices.append(&mut traced.notices);
                let (source, window) = (Origin::Tracefs, traced.window);
                Ok(Seen { source, window, each_cpu, traced: Some(traced) })
            }
            Err(why) => {
                notices.push(format!(
                    "nothing can be traced: {why}; so there are counters and run times alone, and \
                     threads that change their CPU are told in part"
                ));
                begin()?;
                let sampled = sample::run(cpus, &node.procfs, who, duration, stop)?;
                let (source, window, each_cpu) = (Origin::Procfs, sampled.window, sampled.cpus);
                Ok(Seen { source, window, each_cpu, traced: None })
            }
        }
    }

    fn report(self, subject: String, seen: Seen) -> Report {
        let Seen { source, window, each_cpu, .. } = seen;
        let (cpus, notices) = (self.cpus.to_string(), self.notices);
        Report { cpus, each_cpu, notices, subject, source, window }
    }
}

/// Makes sure that nothing has changed meanwhile that would make the numbers wrong.
pub(crate) fn confirm(report: &Report, online: &CpuSet) -> anyhow::Result<()> {
    let cpus: CpuSet = report.each_cpu.iter().map(|cpu| cpu.cpu).collect();
    let gone = cpus.difference(online);
    if !gone.is_empty() {
        bail!("CPUs {gone} went offline meanwhile; run it again without them");
    }
    Ok(())
}

/// Prints a report, beside an earlier one where there is one.
pub(crate) fn print(report: Report, before: Option<Report>, format: Format) -> anyhow::Result<()> {
    for notice in &report.notices {
        log::warn!("{notice}");
    }
    let text = match before.map(|before| Comparison { before, now: report.clone() }) {
        None => match format {
            Format::Json => return json::print(&report),
            Format::Table => table::render(&report),
            Format::Svg => svg::render(&report),
        },
        Some(both) => match format {
            Format::Json => return json::print(&both),
            Format::Table => compare::render(&both),
            Format::Svg => svg::render_both(&both),
        },
    };
    match std::io::stdout().write_all(text.as_bytes()) {
        Err(e) if e.kind() == ErrorKind::BrokenPipe => Ok(()),
        written => written.context("cannot write to standard output"),
    }
}
