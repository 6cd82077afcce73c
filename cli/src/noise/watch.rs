//! Watching by the kernel's trace.

use std::collections::{BTreeMap, HashMap};
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use kcm_core::CpuSet;
use kcm_core::host::affinity;
use kcm_core::host::procfs::Procfs;
use kcm_core::host::stop::{self, Stop};
use kcm_core::host::threads::{self, Thread};
use kcm_core::host::tracefs::{Instance, Tracefs, Unavailable};
use kcm_core::task::Pid;
use nix::time::{ClockId, clock_gettime};

use super::account::{Account, OfCpu};
use super::events::{Event, Reader, What};
use super::who::Who;
use super::window::Window;

/// How often what was traced is read.
const ROUND: Duration = Duration::from_millis(100);

/// KiB of buffer for all CPUs together, for each at the most, and for those that are not watched.
const BUFFERS: usize = 64 << 10;
const BUFFER: usize = 4 << 10;
const OTHERS: usize = 8;

const BEGIN: &str = "kcm noise begin";
const END: &str = "kcm noise end";

/// The events without which nothing can be told, and those that some kernels do not have.
const NEEDED: [&str; 1] = ["sched/sched_switch"];
const WANTED: [&str; 6] = [
    "sched/sched_stat_runtime",
    "sched/sched_process_fork",
    "irq/irq_handler_entry",
    "irq/irq_handler_exit",
    "irq/softirq_entry",
    "irq/softirq_exit",
];
/// Groups of which all that begins and ends is wanted: x86's vectors, ARM's calls of other CPUs.
const GROUPS: [&str; 2] = ["irq_vectors", "ipi"];

/// How the text is to look, whatever somebody has chosen for his own traces.
const OPTIONS: [&str; 12] = [
    "context-info",
    "irq-info",
    "markers",
    "overwrite",
    "record-cmd",
    "norecord-tgid",
    "nolatency-format",
    "noraw",
    "nohex",
    "nobin",
    "nofields",
    "nostacktrace",
];

/// What was traced.
#[derive(Debug)]
pub(super) struct Traced {
    pub(super) window: Window,
    pub(super) cpus: BTreeMap<u32, OfCpu>,
    pub(super) account: Account,
    /// Whether something of it could not be understood, was lost, and the like.
    pub(super) notices: Vec<String>,
}

/// A trace that goes on.
pub(super) struct Watch<'w> {
    cpus: &'w CpuSet,
    instance: Instance,
    procfs: &'w Procfs,
    who: &'w mut Who,
    reader: Reader,
    notices: Vec<String>,
    /// Where this process is when it writes into the trace.
    desk: Option<u32>,
    elsewhere: CpuSet,
    before: Vec<Thread>,
}

/// Now, on the trace's clock.
pub(super) fn now() -> u64 {
    clock_gettime(ClockId::CLOCK_MONOTONIC).map_or(Duration::ZERO, Duration::from).as_nanos() as u64
}

impl<'w> Watch<'w> {
    /// Sets all up; nothing is traced yet. `elsewhere` are the CPUs that this process is on.
    pub(super) fn new(
        cpus: &'w CpuSet,
        elsewhere: CpuSet,
        procfs: &'w Procfs,
        own: Pid,
        who: &'w mut Who,
    ) -> Result<Self, Unavailable> {
        let tracefs = Tracefs::find()?;
        let instance = tracefs.instance(procfs, own)?;
        let desk = elsewhere.first();
        let mut watch = Self {
            cpus,
            instance,
            procfs,
            who,
            reader: Reader::default(),
            notices: Vec::new(),
            desk,
            elsewhere,
            before: Vec::new(),
        };
        watch.set_up().map_err(Unavailable::Denied)?;
        Ok(watch)
    }

    fn set_up(&mut self) -> Result<(), kcm_core::host::Error> {
        let instance = &self.instance;
        instance.write("tracing_on", "0")?;
        instance.write("tracing_cpumask", &self.cpus.to_mask())?;
        instance.write("trace_clock", "mono")?;
        for option in OPTIONS {
            // Not every kernel knows every one.
            let _ = instance.write("trace_options", option);
        }
        // First for all, or the kernel would give each CPU of the machine its default.
        instance.write("buffer_size_kb", &OTHERS.to_string())?;
        let size = (BUFFERS / self.cpus.len().max(1)).clamp(64, BUFFER).to_string();
        for cpu in self.cpus.iter() {
            instance.write(&format!("per_cpu/cpu{cpu}/buffer_size_kb"), &size)?;
        }
        for event in NEEDED {
            instance.write(&format!("events/{event}/enable"), "1")?;
        }
        let mut missing = Vec::new();
        for event in WANTED {
            if instance.write(&format!("events/{event}/enable"), "1").is_err() {
                missing.push(event);
            }
        }
        for group in GROUPS {
            for event in instance.events(group) {
                if event.ends_with("_entry") || event.ends_with("_exit") {
                    let _ = instance.write(&format!("events/{group}/{event}/enable"), "1");
                }
            }
        }
        let _ = instance.write("events/nmi/nmi_handler/enable", "1");
        if !missing.is_empty() {
            let missing = missing.join(", ");
            self.notices.push(format!("this kernel does not tell of {missing}"));
        }
        Ok(())
    }

    /// Watches for so long, or until this process is asked to end. `begin_with` begins with it.
    pub(super) fn run(
        mut self,
        duration: Duration,
        keep: bool,
        stop: &Stop,
        mut begin_with: impl FnMut() -> anyhow::Result<()>,
    ) -> anyhow::Result<Traced> {
        self.instance.write("tracing_on", "1")?;
        // From here on it is told who makes whom; who is there already is looked at.
        self.before = threads::on(self.procfs, self.cpus)?;
        self.before.iter().for_each(|thread| self.who.look(thread.id.as_raw()));
        let mut events = self.events(Some(Instant::now() + ROUND))?;
        let begun = self.mark(BEGIN)?;
        events.append(&mut self.events(Some(Instant::now() + ROUND))?);
        let begin = at_marker(&events, BEGIN).unwrap_or(begun);
        let window = Window::open(begin, duration.as_nanos() as u64);
        let mut account = Account::new(self.cpus.iter(), window, keep);
        begin_with()?;
        let deadline = Instant::now() + duration;
        loop {
            events.drain(..).for_each(|event| account.take(event));
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() || stop::is_asked() {
                break;
            }
            stop.within(left.min(ROUND), &[]).context("cannot wait")?;
            events = self.events(Some(deadline))?;
        }
        let ended = self.mark(END)?;
        self.instance.write("tracing_on", "0")?;
        let after = threads::on(self.procfs, self.cpus)?;
        events = self.events(None)?;
        let end = at_marker(&events, END).unwrap_or(ended);
        account.end_at(end);
        events.into_iter().for_each(|event| account.take(event));
        let residents = residents(&account.silent(), &self.before, &after);
        residents.values().for_each(|&thread| self.who.look(thread));
        let mut cpus = account.close_all(&residents);
        self.count_losses(&mut cpus)?;
        if self.reader.not_understood > 0 {
            let count = self.reader.not_understood;
            self.notices.push(format!("{count} lines of the trace were not understood"));
        }
        let window = Window { end, ..window };
        Ok(Traced { window, cpus, account, notices: self.notices })
    }

    /// Writes a word into the trace, and when. What is written on a CPU that is not traced is not
    /// kept, so for that moment this one is.
    fn mark(&self, word: &str) -> anyhow::Result<u64> {
        let Some(desk) = self.desk else {
            self.instance.write("trace_marker", word)?;
            return Ok(now());
        };
        affinity::bind_self(&CpuSet::from_iter([desk])).context("cannot move to another CPU")?;
        let with_desk = self.cpus.union(&CpuSet::from_iter([desk]));
        self.instance.write("tracing_cpumask", &with_desk.to_mask())?;
        self.instance.write("trace_marker", word)?;
        let at = now();
        self.instance.write("tracing_cpumask", &self.cpus.to_mask())?;
        affinity::bind_self(&self.elsewhere).context("cannot move to other CPUs")?;
        Ok(at)
    }

    /// What was traced since. Who ran is looked at while it is still there.
    fn events(&mut self, until: Option<Instant>) -> anyhow::Result<Vec<Event>> {
        let mut events = Vec::new();
        let (reader, who, cpus) = (&mut self.reader, &mut *self.who, self.cpus);
        let mut give = |event: Event| {
            if let What::Switch { to, .. } = &event.what
                && cpus.contains(event.cpu)
            {
                who.look(to.0);
            }
            if cpus.contains(event.cpu) {
                who.look(event.thread);
            }
            events.push(event);
        };
        self.instance.drain(|bytes| {
            reader.take(bytes, &mut give);
            match until {
                Some(until) if Instant::now() >= until => ControlFlow::Break(()),
                _ => ControlFlow::Continue(()),
            }
        })?;
        reader.flush(&mut give);
        Ok(events)
    }

    /// What the kernel says that it had no room for, where the trace itself did not.
    fn count_losses(&mut self, cpus: &mut BTreeMap<u32, OfCpu>) -> anyhow::Result<()> {
        for (cpu, found) in cpus {
            let stats = self.instance.read(&format!("per_cpu/cpu{cpu}/stats"))?;
            let count = |name: &str| {
                let line = stats.lines().find_map(|line| line.strip_prefix(name));
                line.and_then(|count| count.trim().parse::<u64>().ok()).unwrap_or_default()
            };
            let lost = count("overrun:") + count("dropped events:") + count("commit overrun:");
            found.lost_events = found.lost_events.max(lost);
            if found.lost_events > 0 {
                self.notices.push(format!(
                    "{} events of CPU {cpu} were lost: the kernel had no room for them",
                    found.lost_events
                ));
            }
        }
        Ok(())
    }
}

fn at_marker(events: &[Event], word: &str) -> Option<u64> {
    let is_it = |event: &&Event| matches!(&event.what, What::Marker(text) if text == word);
    events.iter().find(is_it).map(|event| event.at)
}

/// Who has run all the time on CPUs of which nothing was told: whose run time has grown most, or who
/// was runnable there all along. Nobody: it was idle.
fn residents(silent: &[u32], before: &[Thread], after: &[Thread]) -> HashMap<u32, i32> {
    let then: HashMap<Pid, &Thread> = before.iter().map(|thread| (thread.id, thread)).collect();
    let resident = |cpu: u32| {
        let grown = after.iter().filter(|thread| thread.cpu == cpu).filter_map(|thread| {
            let earlier = then.get(&thread.id)?;
            let ran = thread.run_time.saturating_sub(earlier.run_time);
            let stayed = thread.is_runnable && earlier.is_runnable && earlier.cpu == cpu;
            (ran > 0 || stayed).then_some((ran, thread.id.as_raw()))
        });
        grown.max().map_or(0, |(_, id)| id)
    };
    silent.iter().map(|&cpu| (cpu, resident(cpu))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn on_a_silent_cpu_is_whoever_has_run_there() {
        let thread = |id: i32, cpu, is_runnable, run_time| Thread {
            id: id.try_into().unwrap(),
            cpu,
            is_runnable,
            run_time,
            runs: 1,
        };
        let before = [thread(7, 1, true, 100), thread(8, 1, false, 50), thread(9, 2, true, 5)];
        let after = [thread(7, 1, true, 900), thread(8, 1, false, 50), thread(9, 2, true, 5)];
        let found = residents(&[1, 2, 3], &before, &after);
        assert_eq!(found, HashMap::from([(1, 7), (2, 9), (3, 0)]));
    }
}
