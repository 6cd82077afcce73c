//! Many hooks on one directory at once.

use std::cell::Cell;
use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::Duration;

use crate::Bench;
use crate::measure::{Cost, Program, compare, cost_of};
use crate::place::{Container, Place, Storage};
use crate::report::Report;

const HOOKS: usize = 64;
const LIMIT: Duration = Duration::from_secs(25);

/// As many containers as CPU lists, all of one pool.
struct Crowd {
    place: Place,
    containers: Vec<Container>,
    rounds: Cell<usize>,
}

/// 64 hooks that get their states at the same time, against one after the other. None fails: so
/// none waits past the lock's timeout.
pub(crate) fn contention(bench: &Bench, report: &mut Report) {
    let containers = (0..HOOKS).map(|n| Container::new(&bench.folder, &format!("crowd-{n}")));
    let containers = containers.collect();
    let place = Place::new(Storage::Memory, HOOKS);
    let crowd = Crowd { place, containers, rounds: Cell::new(0) };
    let mut slowest = 0.0;
    let at_once = || {
        let cost = crowd.allocate(HOOKS);
        slowest = f64::max(slowest, cost.wall * HOOKS as f64);
        cost
    };
    let it = compare(LIMIT, at_once, || crowd.allocate(1));
    report.ratio("an allocation among 64 at once", "64 one after the other, each", 1.3, it);
    let value = format!("{:.0} ms", slowest * 1e3);
    let limit = Some(("≤ 30 s, the lock's timeout", slowest <= 30.0));
    report.fact("the longest that 64 at once took, waiting for the lock included", &value, limit);
    let hold = format!("{:.2} ms", crowd.longest_hold(&bench.folder) * 1e3);
    report.fact("the longest hold of the lock among 64 at once (with strace's part)", &hold, None);
}

impl Crowd {
    /// A CPU list for everybody, so many at once; what each costs.
    fn allocate(&self, at_once: usize) -> Cost {
        let hooks = self.prepare();
        let cost = cost_of(|| hooks.chunks(at_once).for_each(run_at_once));
        Cost { cpu: cost.cpu / HOOKS as f64, wall: cost.wall / HOOKS as f64 }
    }

    fn prepare(&self) -> Vec<Program> {
        self.rounds.set(self.rounds.get() + 1);
        let hooks = self.containers.iter().zip(&self.place.lists).map(|(container, list)| {
            self.place.put(self.rounds.get(), list, "", container.stand_in.id(), None);
            container.unpin();
            self.place.hook("createRuntime", &container.state)
        });
        hooks.collect()
    }

    /// In seconds. Only two system calls are traced: the one that takes the lock, and the last one
    /// before it is dropped.
    fn longest_hold(&self, folder: &Path) -> f64 {
        let traces: Vec<String> =
            (0..HOOKS).map(|n| format!("{}/hold-{n}", folder.display())).collect();
        let traced = self.prepare().into_iter().zip(&traces).map(|(hook, trace)| {
            let strace = "strace -qq -f --seccomp-bpf -ttt -T -e trace=flock,timer_delete -o";
            let words = strace.split(' ').chain([trace.as_str()]).map(Into::into);
            Program { words: words.chain(hook.words).collect(), input: hook.input }
        });
        run_at_once(&traced.collect::<Vec<_>>());
        traces.iter().map(|trace| hold(&fs::read_to_string(trace).unwrap())).fold(0.0, f64::max)
    }
}

/// Starts all, then gives each its input, then waits for all.
fn run_at_once(hooks: &[Program]) {
    let start = |hook: &Program| hook.command().stdin(Stdio::piped()).spawn().unwrap();
    let mut children: Vec<Child> = hooks.iter().map(start).collect();
    for (child, hook) in children.iter_mut().zip(hooks) {
        let input = fs::read(&hook.input).unwrap();
        child.stdin.take().unwrap().write_all(&input).unwrap();
    }
    for mut child in children {
        let status = child.wait().unwrap();
        assert!(status.success(), "one of the hooks: {status}");
    }
}

/// `<pid> <begun> flock(4, LOCK_EX) = 0 <took>`, then `<pid> <begun> timer_delete(0) = 0 <took>`.
fn hold(trace: &str) -> f64 {
    let line = |name: &str| trace.lines().find(|line| line.contains(name)).unwrap();
    let begun = |line: &str| -> f64 { line.split_whitespace().nth(1).unwrap().parse().unwrap() };
    let took = |line: &str| -> f64 {
        line.rsplit_once('<').unwrap().1.trim_end_matches('>').parse().unwrap()
    };
    let taken = line("flock(");
    begun(line("timer_delete(")) - begun(taken) - took(taken)
}
