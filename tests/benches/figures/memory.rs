//! Peak memory. (`getrusage(2)` is no help: `ru_maxrss` begins at what the parent had.)

use std::fs;

use kcm_tests::machine::processes_with_argument;

use crate::Bench;
use crate::hook::Allocation;
use crate::measure::Program;
use crate::place::Storage;
use crate::report::Report;

/// `VmHWM` of an allocation: read while strace delays the hook's last system call.
pub(crate) fn peak(bench: &Bench, report: &mut Report) {
    let mut allocation = Allocation::new(bench, Storage::Memory, 64, "memory");
    let hook = allocation.prepare();
    let strace = "strace -qq -e trace=exit_group -e inject=exit_group:delay_enter=300000";
    let words = strace.split(' ').map(Into::into).chain(hook.words.clone());
    let mut child = Program::new(words).reading(&hook.input).command().spawn().unwrap();
    let mut peak = 0;
    let status = loop {
        let pids = processes_with_argument(hook.words[1].to_str().unwrap());
        peak = pids.into_iter().filter_map(|pid| peak_of("kcm-hook", pid)).fold(peak, u64::max);
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        std::thread::sleep(std::time::Duration::from_millis(5));
    };
    assert!(status.success() && peak > 0, "{status}, {peak} KiB");
    let value = format!("{:.2} MiB", peak as f64 / 1024.0);
    let limit = Some(("≤ 3 MiB", peak <= 3 * 1024));
    report.fact("peak memory (`VmHWM`) of an allocation", &value, limit);
}

/// In KiB; none of another program (strace's own, before it executes the hook).
pub(crate) fn peak_of(name: &str, pid: i32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    status.strip_prefix(&format!("Name:\t{name}\n"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix(" kB")?.parse().ok()
}
