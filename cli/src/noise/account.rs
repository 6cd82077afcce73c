//! Events → who had each CPU, how often, how long in all and at the longest.
//!
//! Every nanosecond of the window goes to exactly one: to the innermost interrupt or softirq that is
//! under way, else to the thread that the CPU runs. So an interrupt in an owner's time is not the
//! owner's, and one in a softirq not the softirq's.

use std::collections::{BTreeMap, HashMap};

use super::events::{Context, Event, What};
use super::window::Window;

/// Who can have a CPU.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Source {
    /// A thread; 0 while the CPU is idle.
    Thread(i32),
    /// An interrupt, by its handler's or vector's name, or a softirq.
    Within(Context, String),
    /// Non-maskable interrupts.
    Nmi,
}

/// What a source had of one CPU.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Total {
    /// How often.
    pub(super) count: u64,
    /// Nanoseconds in all.
    pub(super) time: u64,
    /// Of a thread: nanoseconds from each switch to it to that from it, with the interrupts in them.
    pub(super) on_cpu: u64,
    /// Nanoseconds at the longest without a break, what interrupted it left out.
    pub(super) longest: u64,
    /// Nanoseconds in each part of the window in which it had any.
    pub(super) timeline: BTreeMap<u32, u64>,
}

/// A time that a source had a CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stretch {
    pub(super) cpu: u32,
    pub(super) begin: u64,
    pub(super) end: u64,
    /// Which of [`Account::sources`].
    pub(super) source: usize,
}

/// So many are kept for telling whose a gap is.
const STRETCHES: usize = 1 << 20;

/// Sources beyond so many are counted as one: whoever starts a process each millisecond is none to
/// fill the memory.
const SOURCES: usize = 1 << 15;

/// One CPU as it is now.
#[derive(Debug, Default)]
struct Cpu {
    /// Up to when it is accounted for: never outside of the window.
    at: u64,
    /// When the last event was.
    now: u64,
    /// The thread that it runs; none before the first event, and after a loss.
    thread: Option<i32>,
    /// What that has had since it got the CPU.
    run: u64,
    /// With what interrupted it.
    on_cpu: u64,
    /// What is under way, the innermost last.
    frames: Vec<Frame>,
    /// A switch to the thread was not told: since when it may have run, up to when, and from whom.
    untold: Option<(u64, u64, i32)>,
    is_lost: bool,
    lost_events: u64,
    unaccounted: u64,
    totals: HashMap<usize, Total>,
}

#[derive(Debug)]
struct Frame {
    context: Context,
    name: String,
    source: usize,
    own: u64,
}

/// All CPUs that are watched.
#[derive(Debug)]
pub(super) struct Account {
    window: Window,
    cpus: BTreeMap<u32, Cpu>,
    pub(super) sources: Vec<Source>,
    numbers: HashMap<Source, usize>,
    /// The names of threads as they last switched.
    pub(super) names: HashMap<i32, String>,
    /// Who made whom.
    pub(super) parents: HashMap<i32, i32>,
    keep: bool,
    pub(super) stretches: Vec<Stretch>,
}

/// What became of one CPU.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct OfCpu {
    pub(super) totals: BTreeMap<Source, Total>,
    pub(super) lost_events: u64,
    /// Nanoseconds of which nothing is known, since events were lost.
    pub(super) unaccounted: u64,
}

impl Account {
    /// Of these CPUs in this window, whose end may still be unknown. `keep` says whether stretches
    /// are asked for.
    pub(super) fn new(cpus: impl Iterator<Item = u32>, window: Window, keep: bool) -> Self {
        let cpu = |cpu| (cpu, Cpu { at: window.begin, ..Cpu::default() });
        Self {
            window,
            cpus: cpus.map(cpu).collect(),
            sources: Vec::new(),
            numbers: HashMap::new(),
            names: HashMap::new(),
            parents: HashMap::new(),
            keep,
            stretches: Vec::new(),
        }
    }

    /// The window ends here; what comes after is left out.
    pub(super) fn end_at(&mut self, end: u64) {
        self.window.end = end.max(self.window.begin);
    }

    /// One more event.
    pub(super) fn take(&mut self, event: Event) {
        let Event { cpu: number, thread, at, what } = event;
        if let What::Fork { child } = what
            && self.parents.len() < SOURCES
        {
            self.parents.insert(child, thread);
        }
        let Some(mut cpu) = self.cpus.remove(&number) else { return };
        match what {
            What::Lost(count) => {
                self.settle(number, &mut cpu, None);
                self.close(&mut cpu);
                self.end_run(&mut cpu);
                (cpu.thread, cpu.untold) = (None, None);
                (cpu.is_lost, cpu.lost_events) = (true, cpu.lost_events + count.max(1));
            }
            What::Marker(_) => {}
            what => {
                cpu.now = at;
                self.meet(number, &mut cpu, thread, at);
                self.advance(number, &mut cpu, at);
                self.happen(number, &mut cpu, at, what);
            }
        }
        self.cpus.insert(number, cpu);
    }

    /// Whom an event shows on the CPU.
    fn meet(&mut self, number: u32, cpu: &mut Cpu, thread: i32, at: u64) {
        match cpu.thread {
            Some(known) if known == thread => {}
            None if cpu.is_lost => {
                let at = at.clamp(self.window.begin, self.window.end);
                cpu.unaccounted += at.saturating_sub(cpu.at);
                cpu.at = cpu.at.max(at);
                cpu.is_lost = false;
                cpu.thread = Some(thread);
            }
            // Nothing was told before: it has been there since the window began.
            None => cpu.thread = Some(thread),
            // It came without a word, at some time since the last event: some kernels do not tell of
            // switches out of idle, or away from some threads.
            Some(known) => {
                self.settle(number, cpu, None);
                self.close(cpu);
                let end = at.clamp(self.window.begin, self.window.end);
                cpu.untold = Some((cpu.at, end.max(cpu.at), known));
                cpu.at = cpu.at.max(end);
                self.end_run(cpu);
                cpu.thread = Some(thread);
            }
        }
    }

    /// Says whose the time is in which a switch was not told of: the thread's that is there now, since
    /// `begin` or, where nobody knows, all of it; before that, of whoever was there last.
    fn settle(&mut self, number: u32, cpu: &mut Cpu, begin: Option<u64>) {
        let Some((from, to, previous)) = cpu.untold.take() else { return };
        let begin = begin.unwrap_or(from).clamp(from, to);
        self.add(number, cpu, &Source::Thread(previous), from, begin);
        let source = self.number(&Source::Thread(previous));
        cpu.totals.entry(source).or_default().on_cpu += begin - from;
        if let Some(thread) = cpu.thread {
            self.add(number, cpu, &Source::Thread(thread), begin, to);
            cpu.run += to - begin;
            cpu.on_cpu += to - begin;
        }
    }

    fn happen(&mut self, number: u32, cpu: &mut Cpu, at: u64, what: What) {
        match what {
            What::Switch { from, to } => {
                self.settle(number, cpu, None);
                self.close(cpu);
                self.end_run(cpu);
                cpu.thread = Some(to.0);
                for (thread, name) in [from, to] {
                    if self.names.len() < SOURCES || self.names.contains_key(&thread) {
                        self.names.insert(thread, name);
                    }
                }
            }
            What::Ran { thread, time } if cpu.thread == Some(thread) => {
                self.settle(number, cpu, Some(at.saturating_sub(time)));
            }
            What::Enter(context, name) => {
                let source = self.number(&Source::Within(context, name.clone()));
                cpu.frames.push(Frame { context, name, source, own: 0 });
            }
            What::Leave(context, name) => {
                let is_it = |frame: &Frame| {
                    frame.context == context && (name.is_empty() || frame.name == name)
                };
                // One that began before the window is none.
                if let Some(place) = cpu.frames.iter().rposition(is_it) {
                    while cpu.frames.len() > place {
                        self.leave(cpu);
                    }
                }
            }
            What::Nmi(time) if self.window.contains(at) => {
                let source = self.number(&Source::Nmi);
                let total = cpu.totals.entry(source).or_default();
                (total.count, total.longest) = (total.count + 1, total.longest.max(time));
                total.time += time;
            }
            _ => {}
        }
    }

    /// Gives the time up to here to whoever had it.
    fn advance(&mut self, number: u32, cpu: &mut Cpu, at: u64) {
        let end = at.clamp(self.window.begin, self.window.end).max(cpu.at);
        let (begin, length) = (cpu.at, end - cpu.at);
        cpu.at = end;
        if length == 0 {
            return;
        }
        if cpu.thread.is_some() {
            cpu.on_cpu += length;
        }
        let source = match (cpu.frames.last_mut(), cpu.thread) {
            (Some(frame), _) => {
                frame.own += length;
                self.sources[frame.source].clone()
            }
            (None, Some(thread)) => {
                cpu.run += length;
                Source::Thread(thread)
            }
            (None, None) => {
                cpu.unaccounted += length;
                return;
            }
        };
        self.add(number, cpu, &source, begin, end);
    }

    fn add(&mut self, number: u32, cpu: &mut Cpu, source: &Source, begin: u64, end: u64) {
        if end <= begin {
            return;
        }
        let source = self.number(source);
        let total = cpu.totals.entry(source).or_default();
        total.time += end - begin;
        for (bucket, time) in self.window.buckets(begin, end) {
            *total.timeline.entry(bucket).or_default() += time;
        }
        if self.keep && self.stretches.len() < STRETCHES {
            self.stretches.push(Stretch { cpu: number, begin, end, source });
        }
    }

    /// Ends all that is under way.
    fn close(&mut self, cpu: &mut Cpu) {
        while !cpu.frames.is_empty() {
            self.leave(cpu);
        }
    }

    fn leave(&mut self, cpu: &mut Cpu) {
        let Some(frame) = cpu.frames.pop() else { return };
        // One that was outside of the window is none of it.
        if frame.own > 0 || self.window.contains(cpu.now) {
            let total = cpu.totals.entry(frame.source).or_default();
            (total.count, total.longest) = (total.count + 1, total.longest.max(frame.own));
        }
    }

    fn end_run(&mut self, cpu: &mut Cpu) {
        let (run, on_cpu) = (std::mem::take(&mut cpu.run), std::mem::take(&mut cpu.on_cpu));
        let Some(thread) = cpu.thread else { return };
        if on_cpu > 0 || self.window.contains(cpu.now) {
            let source = self.number(&Source::Thread(thread));
            let total = cpu.totals.entry(source).or_default();
            (total.count, total.longest) = (total.count + 1, total.longest.max(run));
            total.on_cpu += on_cpu;
        }
    }

    fn number(&mut self, source: &Source) -> usize {
        if let Some(&number) = self.numbers.get(source) {
            return number;
        }
        let source =
            if self.sources.len() < SOURCES { source.clone() } else { Source::Thread(MANY) };
        let next = self.sources.len();
        let number = *self.numbers.entry(source.clone()).or_insert(next);
        if number == next {
            self.sources.push(source);
        }
        number
    }

    /// The CPUs of which nothing was told: whoever runs there has run all the time.
    pub(super) fn silent(&self) -> Vec<u32> {
        let silent = self.cpus.iter().filter(|(_, cpu)| cpu.thread.is_none() && !cpu.is_lost);
        silent.map(|(&number, _)| number).collect()
    }

    /// Closes the account: `residents` are those that have run all the time where nothing was told.
    pub(super) fn close_all(&mut self, residents: &HashMap<u32, i32>) -> BTreeMap<u32, OfCpu> {
        let mut closed = BTreeMap::new();
        for (number, mut cpu) in std::mem::take(&mut self.cpus) {
            if cpu.thread.is_none() && !cpu.is_lost {
                cpu.thread = residents.get(&number).copied();
            }
            self.settle(number, &mut cpu, None);
            let end = self.window.end;
            self.advance(number, &mut cpu, end);
            self.close(&mut cpu);
            self.end_run(&mut cpu);
            let Cpu { totals, lost_events, unaccounted, .. } = cpu;
            let totals = totals.into_iter().map(|(n, total)| (self.sources[n].clone(), total));
            let totals = totals.collect();
            closed.insert(number, OfCpu { totals, lost_events, unaccounted });
        }
        closed
    }
}

/// Stands for threads beyond [`SOURCES`].
pub(super) const MANY: i32 = i32::MAX;

#[cfg(test)]
#[path = "account_tests.rs"]
mod tests;
