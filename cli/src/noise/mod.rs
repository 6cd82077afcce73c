//! Who runs on a CPU besides its owner, and how long a program there is kept from running: what
//! `kcm noise` does.

mod account;
mod build;
mod events;
mod place;
mod report;
pub(crate) mod span;
mod table;
mod target;
mod watch;
mod who;
mod window;

use std::io::{ErrorKind, Write};
use std::time::Duration;

use anyhow::{Context, bail};
use kcm_core::host::stop::Stop;
use kcm_core::host::{affinity, counters};
use kcm_core::{CpuSet, Node};

use crate::logging;
use report::{Origin, Report};
pub(crate) use target::Subject;
use target::Target;
use watch::Watch;
use who::Who;

/// How to print it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Format {
    Table,
    Json,
}

/// Watches the CPUs of a subject.
pub(crate) fn watch(
    node: &Node,
    online: &CpuSet,
    subject: &Subject,
    duration: Duration,
) -> anyhow::Result<Report> {
    let mut notices = Vec::new();
    let target = Target::find(subject, &node.conf, online, &mut notices)?;
    let elsewhere = move_away(&target.cpus, online, &mut notices)?;
    let mut who = Who::new(node.procfs.clone(), node.hierarchy.clone(), target.holders.clone());
    let own = node.procfs.own_pid().context("cannot tell this process's host PID")?;
    let stop = Stop::new().context("cannot set up the handling of signals")?;
    let steal = counters::steal(&node.procfs)?;
    let watch = Watch::new(&target.cpus, elsewhere, &node.procfs, own, &mut who)?;
    log::info!("watching CPUs {} for {duration:?}; SIGINT ends it early", target.cpus);
    let traced = watch.run(duration, false, &stop, || Ok(false))?;
    who.look_again();
    let steal_now = counters::steal(&node.procfs)?;
    notices.extend(traced.notices);
    let each = traced.cpus.iter().map(|(&number, found)| {
        let mut cpu = build::cpu(number, found, &traced.account, &who);
        let [before, after] = [&steal, &steal_now].map(|all| all.get(&number).copied());
        cpu.steal_ns = after.unwrap_or_default().saturating_sub(before.unwrap_or_default());
        cpu
    });
    let report = Report {
        cpus: target.cpus.to_string(),
        each_cpu: each.collect(),
        notices,
        subject: target.subject,
        source: Origin::Tracefs,
        window: traced.window,
    };
    Ok(report)
}

/// Moves this process off the CPUs that it is to watch. Where it is then; nowhere else where it can
/// use none but them.
fn move_away(cpus: &CpuSet, online: &CpuSet, notices: &mut Vec<String>) -> anyhow::Result<CpuSet> {
    let reachable = affinity::reachable(online).context("cannot tell which CPUs may be used")?;
    let elsewhere = reachable.difference(cpus);
    if elsewhere.is_empty() {
        notices.push(format!(
            "kcm itself may use none but CPUs {cpus}, so what it does there is in the numbers"
        ));
        return Ok(elsewhere);
    }
    affinity::bind_self(&elsewhere).context("cannot move to other CPUs")?;
    Ok(elsewhere)
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

/// Prints a report.
pub(crate) fn print(report: &Report, format: Format) -> anyhow::Result<()> {
    for notice in &report.notices {
        log::warn!("{}", logging::one_line(notice));
    }
    let text = match format {
        Format::Json => return crate::output::json::print(report),
        Format::Table => table::render(report),
    };
    match std::io::stdout().write_all(text.as_bytes()) {
        Err(e) if e.kind() == ErrorKind::BrokenPipe => Ok(()),
        written => written.context("cannot write to standard output"),
    }
}
