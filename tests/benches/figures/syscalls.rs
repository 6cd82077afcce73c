//! The system calls of an allocation.

use std::collections::BTreeMap;
use std::fs;

use crate::Bench;
use crate::hook::Allocation;
use crate::measure::Program;
use crate::place::Storage;
use crate::report::Report;

/// Counts them, and which files are read more than once.
pub(crate) fn count(bench: &Bench, report: &mut Report) {
    for lists in [16, 64] {
        let mut allocation = Allocation::new(bench, Storage::Memory, lists, "syscalls");
        allocation.run(); // the first one makes folders
        let trace = trace(bench, &allocation.prepare());
        let what = format!("system calls of an allocation, {lists} CPU lists");
        report.fact(&what, &trace.len().to_string(), None);
        if lists == 64 {
            let again = read_again(&trace);
            let list = again.iter().map(|path| format!("`{path}`")).collect::<Vec<_>>().join(", ");
            let value = if again.is_empty() { "none".to_owned() } else { list };
            let limit = Some(("none", again.is_empty()));
            report.fact("files that an allocation reads twice", &value, limit);
        }
    }
}

fn trace(bench: &Bench, hook: &Program) -> Vec<String> {
    let file = bench.folder.join("trace");
    let strace = ["strace", "-qq", "-y", "-s", "0", "-o", file.to_str().unwrap()];
    let words = strace.map(Into::into).into_iter().chain(hook.words.clone());
    Program::new(words).reading(&hook.input).run();
    let text = fs::read_to_string(&file).unwrap();
    text.lines().map(str::to_owned).collect()
}

/// The files that were opened twice and read both times: `openat(...) = 3</path>`, then
/// `read(3</path>, ""..., 9) = 4`.
fn read_again(trace: &[String]) -> Vec<String> {
    let mut reads: BTreeMap<&str, usize> = BTreeMap::new();
    let mut fresh = "";
    for line in trace {
        let path = |text: &'_ str| -> Option<(usize, usize)> {
            let start = text.find('<')? + 1;
            Some((start, start + text[start..].find('>')?))
        };
        if let Some((_, result)) = line.split_once(" = ")
            && line.starts_with("open")
            && let Some((start, end)) = path(result)
        {
            fresh = &result[start..end];
        } else if line.starts_with("read(")
            && let Some((start, end)) = path(line)
            && !fresh.is_empty()
            && line[start..end] == *fresh
        {
            *reads.entry(fresh).or_default() += 1;
            fresh = "";
        }
    }
    reads.into_iter().filter(|&(_, times)| times > 1).map(|(path, _)| path.to_owned()).collect()
}
