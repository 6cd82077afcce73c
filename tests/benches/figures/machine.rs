//! What the figures were measured on, and with what.

use std::fs;
use std::process::Command;

use kcm_tests::machine::sysfs_cpus;

/// A list of machine, versions and date, in Markdown.
pub(crate) fn description() -> String {
    let cpus = sysfs_cpus("cpu/online").len();
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
    let lines = [
        format!("{}, {cpus} CPUs, {}", cpu_model(), said("uname", &["-sr"])),
        format!("load before the run: {}", load()),
        format!("kcm {}", said("git", &["-C", source, "describe", "--always", "--dirty"])),
        said("runc", &["--version"]),
        said("rustc", &["--version"]),
        said("gcc", &["--version"]),
        said("date", &["-u", "+%Y-%m-%d %H:%M UTC"]),
    ];
    lines.map(|line| format!("- {line}\n")).concat()
}

/// The first line that a command says.
fn said(program: &str, words: &[&str]) -> String {
    let output = Command::new(program).args(words).output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
    let text = text.unwrap_or_default();
    text.lines().next().map_or_else(|| format!("{program}: unknown"), str::to_owned)
}

fn cpu_model() -> String {
    let text = fs::read_to_string("/proc/cpuinfo").unwrap();
    let line = text.lines().find(|line| line.starts_with("model name"));
    line.and_then(|line| line.split_once(": ")).map_or("unknown CPU", |(_, name)| name).to_owned()
}

fn load() -> String {
    let text = fs::read_to_string("/proc/loadavg").unwrap();
    text.split(' ').take(3).collect::<Vec<_>>().join(" ")
}
