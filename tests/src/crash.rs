//! Killing a program at, and failing it by, every system call that changes anything: no sampling.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::conf_dir::ConfDir;
use crate::hook::Ran;
use crate::strace::{Program, SystemCall, Trace};

/// A moment before a program is run that is to be disturbed, made anew for each way to disturb it.
pub trait Moment: Sized {
    /// What is run.
    type Program: Program;

    /// The program.
    fn program(&self) -> &Self::Program;

    /// Its configuration directory.
    fn conf_dir(&self) -> &ConfDir;

    /// What the kernel has for the containers in it.
    fn kernel(&self) -> String;

    /// A fault that it meets anyway, as strace's `inject` has it.
    fn fault(&self) -> Option<&'static str> {
        None
    }

    /// How the undisturbed run ends.
    fn status(&self) -> i32;

    /// Fails the test unless the program has ended as it may where a system call failed. Whether it
    /// has given up: it must then have said which file, or what else, stood in its way.
    fn has_given_up(&self, ran: &Ran) -> bool;

    /// Whether what was said names what stood in its way, beside a file of the directory.
    fn is_named(&self, said: &str) -> bool;

    /// What must hold after any disturbance: no list has two holders, and none is lost.
    fn must_recover(self);
}

/// The changes that an undisturbed run makes.
fn changes(moment: impl Moment) -> Vec<SystemCall> {
    let injections: Vec<&str> = moment.fault().into_iter().collect();
    let trace = Trace::of(moment.program(), &injections);
    assert_eq!(trace.ran.status.code(), Some(moment.status()), "{}", trace.ran.stderr);
    trace.changes()
}

/// Runs the program with something done to it at one point, beside what it meets anyway.
fn disturbed(moment: &impl Moment, point: &SystemCall, what: &str) -> Trace {
    let injection = format!("{}:{what}:when={}", point.name, point.nth);
    // strace takes one injection a name; the later one of a name replaces the fault.
    let fault = moment.fault().filter(|fault| !fault.starts_with(&point.name));
    let injections: Vec<&str> = fault.into_iter().chain([injection.as_str()]).collect();
    Trace::of_injected(moment.program(), &injections)
}

/// Kills the program at every point. The signal comes before the system call is made, so the points
/// are every moment between two changes, before the first and after the last.
pub fn recovers_from_a_kill_at_every_point<M: Moment>(name: &str, moment: fn() -> M) {
    let points = changes(moment());
    let mut tried = 0;
    for point in &points {
        let moment = moment();
        let trace = disturbed(&moment, point, "signal=SIGKILL");
        assert!(trace.ran.was_killed(), "{point:?}: {}", trace.ran.status);
        assert_eq!(trace.count(&point.name), point.nth, "killed elsewhere than at {point:?}");
        println!("killed at {}", point.line);
        moment.must_recover();
        tried += 1;
    }
    assert!(tried == points.len() && tried > 10);
    println!("{name}: killed at {tried} of {} points", points.len());
}

/// Has every change fail, one at a time. Before the first rename nothing has changed and the error
/// names the file; after it the next runs make good what was left half done.
pub fn survives_an_error_at_every_point<M: Moment>(name: &str, moment: fn() -> M) {
    let points = changes(moment());
    let in_place = |call: &SystemCall| matches!(call.name.as_str(), "renameat" | "unlinkat");
    let first_in_place = points.iter().position(in_place).unwrap();
    let mut tried = 0;
    for (number, point) in points.iter().enumerate() {
        let Some(error) = error_for(point) else { continue };
        let moment = moment();
        let before = contents(&moment);
        let leftovers = before.0.keys().any(|path| is_staged(path));
        let trace = disturbed(&moment, point, &format!("error={error}"));
        let said = &trace.ran.stderr;
        tried += 1;
        println!("{error} at {}: {}", point.line, said.lines().last().unwrap_or_default());
        if moment.has_given_up(&trace.ran) {
            let file = said.contains(moment.conf_dir().path().to_str().unwrap());
            let is_named = file || moment.is_named(said) || is_output(point);
            assert!(is_named, "{point:?}: what failed is not named: {said}");
            // Where it met the fault that it meets anyway, it has survived this one.
            let fault = moment.fault().and_then(|fault| fault.split(':').next());
            let went_on = fault.is_some_and(|name| name != point.name && trace.count(name) > 0);
            if number < first_in_place && !went_on {
                let after = contents(&moment);
                assert_eq!(without_staged(&after), without_staged(&before), "{point:?}");
                assert!(leftovers || !after.0.keys().any(|path| is_staged(path)), "{after:?}");
            }
        }
        moment.must_recover();
    }
    println!("{name}: failed at {tried} of {} points", points.len());
}

/// The error that this system call is given; none where it cannot fail, or only tries whether the
/// log is there.
fn error_for(point: &SystemCall) -> Option<&'static str> {
    Some(match point.name.as_str() {
        "exit_group" => return None,
        "write" | "openat2" | "mkdirat" => "ENOSPC",
        "flock" => "ENOLCK",
        "fchmod" | "chmod" | "sched_setaffinity" => "EPERM",
        "connect" | "clone" | "clone3" => "EAGAIN",
        _ => "EIO",
    })
}

/// Whether it is about what the program prints.
fn is_output(point: &SystemCall) -> bool {
    point.line.starts_with("write(1,") || point.line.starts_with("write(2,")
}

fn is_staged(path: &Path) -> bool {
    path.file_name().unwrap().to_str().unwrap().starts_with(".tmp-")
}

type Contents = (BTreeMap<PathBuf, Vec<u8>>, String);

fn without_staged((files, kernel): &Contents) -> Contents {
    let files = files.iter().filter(|(path, _)| !is_staged(path));
    (files.map(|(path, content)| (path.clone(), content.clone())).collect(), kernel.clone())
}

/// Every file with its content, and what the kernel has. A new empty `allocations/` is no change:
/// the original's directory has none.
fn contents(moment: &impl Moment) -> Contents {
    let conf_dir = moment.conf_dir();
    let mut files = conf_dir.snapshot();
    if conf_dir.allocations().is_empty() {
        files.remove(&conf_dir.path().join("allocations").join(""));
    }
    (files, moment.kernel())
}
