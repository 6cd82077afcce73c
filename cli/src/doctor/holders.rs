//! Those that hold CPU lists: whether each is on its CPUs, and on record.

use kcm_core::node::{Lost, Mismatch, Nameless, Seeming, Survey};
use kcm_core::plan::Slot;
use kcm_core::task::Task;

use super::{Finding, Subject};

const CHECK: &str = "holders";

/// So many of a kind are named.
const NAMED: usize = 10;

pub(super) fn all(subject: &Subject) -> Vec<Finding> {
    let node = subject.machine.node(subject.conf.clone());
    let found = match node.and_then(|node| Ok(node.survey()?)) {
        Ok(found) => found,
        Err(e) => {
            return vec![Finding::fail(CHECK, format!("{e:#}"), "see the checks above")];
        }
    };
    let Survey { crowded, nameless, unwritten, unproven, mismatched, lost, notices } = found;
    let mut findings = Vec::new();
    findings.extend(some(&crowded, |(slot, tasks)| two_holders(subject, slot, tasks)));
    findings.extend(some(&mismatched, |mismatch| elsewhere(subject, mismatch)));
    findings.extend(some(&lost, |lost| not_alone(subject, lost)));
    findings.extend(some(&unwritten, |(slot, task)| not_in_tasks(subject, slot, task)));
    findings.extend(some(&nameless, |process| no_record(subject, process)));
    findings.extend(some(&unproven, |record| {
        let (owner, pid) = (&record.owner, record.process.pid);
        let whose = record.details.display().map(|name| format!(", {name}")).unwrap_or_default();
        Finding::warn(
            CHECK,
            format!(
                "{owner} (process {pid}{whose}) has a record of kcm 0.1, without its cgroup's inode: \
                 kcm reconcile --repair leaves it alone, and a successor in the same cgroup keeps it \
                 alive"
            ),
            "restart the container: the hook of today guards it fully",
        )
    }));
    findings.extend(some(&notices, |notice| {
        // What to do comes last in it.
        let (what, remedy) = notice.text.rsplit_once("; ").unwrap_or((&notice.text, "end it"));
        Finding::warn(CHECK, what, remedy)
    }));
    if findings.is_empty() {
        findings.push(Finding::ok(CHECK, "all that hold CPU lists are on them, and on record"));
    }
    findings
}

/// A finding for each of the first, and one for the rest.
fn some<T>(all: &[T], finding: impl Fn(&T) -> Finding) -> Vec<Finding> {
    let mut findings: Vec<Finding> = all.iter().take(NAMED).map(finding).collect();
    let rest = all.len().saturating_sub(NAMED);
    if rest > 0 {
        let message = format!("{rest} more are like the one before");
        findings.push(Finding::warn(CHECK, message, "mend those above, and run kcm doctor again"));
    }
    findings
}

fn who(task: &Task) -> String {
    match &task.owner {
        Some(owner) => format!("{owner} (process {})", task.pid),
        None => format!("process {}", task.pid),
    }
}

fn two_holders(subject: &Subject, slot: &Slot, tasks: &[Task]) -> Finding {
    let who: Vec<String> = tasks.iter().take(NAMED).map(who).collect();
    Finding::fail(
        CHECK,
        format!("{slot} is exclusive and has {} holders: {}", tasks.len(), who.join(", ")),
        format!("end all but one of them, then {}", subject.command("reconcile")),
    )
}

fn elsewhere(subject: &Subject, mismatch: &Mismatch) -> Finding {
    let Mismatch { pool, list, pid, actual, allocation } = mismatch;
    let cgroup = allocation.as_ref().and_then(|record| record.cgroup.as_ref());
    let cpus = allocation.as_ref().map_or_else(|| list.cpus().clone(), |record| record.cpus());
    let owner = allocation.as_ref().map(|record| format!(" of {}", record.owner));
    let is_isolates = allocation.as_ref().is_some_and(|record| record.is_isolates());
    let remedy = match cgroup {
        Some(cgroup) if cgroup.inode.is_some() => subject.command("reconcile --repair"),
        Some(_) => "restart the container".to_owned(),
        // kcm's own process keeps off the CPUs that it gives away.
        None if is_isolates => {
            format!("end it (kill {pid}), or bind what it has started: taskset -a -c -p {cpus} PID")
        }
        None => format!("end it, or bind it: taskset -a -c -p {cpus} {pid}"),
    };
    Finding::fail(
        CHECK,
        format!(
            "process {pid}{} holds CPUs {cpus} of pool {pool}, and may run on CPUs {actual}",
            owner.unwrap_or_default()
        ),
        remedy,
    )
}

fn not_alone(subject: &Subject, Lost { allocation, state }: &Lost) -> Finding {
    let (owner, pid) = (&allocation.owner, allocation.process.pid);
    Finding::warn(
        CHECK,
        format!(
            "others may run on CPUs {} of {owner} (process {pid}): the kernel says of its cgroup, which \
             should be a cpuset partition: {state}",
            allocation.cpus()
        ),
        format!("{}, which says who is in the way", subject.command("reconcile --repair")),
    )
}

fn not_in_tasks(subject: &Subject, slot: &Slot, task: &Task) -> Finding {
    Finding::warn(
        CHECK,
        format!("{} holds {slot} by its record alone: it is not in its tasks", who(task)),
        format!("{}, which puts it back", subject.command("reconcile")),
    )
}

/// Nothing but its number says that it holds the list, so how it comes to be free depends on what it
/// is.
fn no_record(subject: &Subject, Nameless { slot, pid, what }: &Nameless) -> Finding {
    let says =
        |more: String| format!("process {pid} holds {slot}, and no record says whose: {more}");
    match what {
        Seeming::Lost(owner) => Finding::warn(
            CHECK,
            says(format!("its cgroup is marked as that of {owner}, whose record was lost")),
            format!("{}, which writes it anew", subject.command("reconcile")),
        ),
        Seeming::Bound => Finding::warn(
            CHECK,
            says("it runs there (the original kcm's, or put there by hand)".to_owned()),
            format!(
                "to free the list, end it: kill {pid} (a container: by its engine); nothing else is \
                 needed then"
            ),
        ),
        Seeming::Elsewhere(cpus) => {
            let conf = subject.conf.path();
            let tasks = conf.join("pools").join(slot.pool.as_ref()).join(&slot.list).join("tasks");
            Finding::warn(
                CHECK,
                says(format!(
                    "it may run on CPUs {cpus}, so most likely whoever had this number has ended"
                )),
                format!(
                    r"if it has nothing to do with kcm (see: ps -fp {pid}), take its number out: flock {} sed -i 's/\b{pid}\b,\|,\?\b{pid}\b//' {}",
                    conf.join("lock").display(),
                    tasks.display()
                ),
            )
        }
    }
}
