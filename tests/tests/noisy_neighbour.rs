//! The example that shows the neighbours disappear, in a short form: in a guest with partitions.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods, missing_docs)]

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use kcm_tests::kcm::run;
use kcm_tests::machine::must_be_the_guest;
use kcm_tests::programs::program;

const SCRIPT: &str = include_str!("../../examples/noisy-neighbour/run");

/// Milliseconds of other tasks on a line of the table.
fn others(table: &str, begins: &str) -> f64 {
    let line = table.lines().find(|line| line.starts_with(begins));
    let line = line.unwrap_or_else(|| panic!("no line {begins:?} in\n{table}"));
    line[begins.len()..].split_whitespace().next().unwrap().parse().unwrap()
}

/// What it said, all in all. A line now and then tells whoever watches the guest that it is at work.
fn to_its_end(command: &mut Command, said: &Path) -> String {
    let file = File::create(said).unwrap();
    let errors = file.try_clone().unwrap();
    let mut child = command.stdout(file).stderr(errors).spawn().unwrap();
    let begun = Instant::now();
    let mut told = begun;
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        sleep(Duration::from_millis(200));
        if told.elapsed() < Duration::from_secs(10) {
            continue;
        }
        told = Instant::now();
        // Not by a macro, which the test's harness would keep to itself.
        let line = format!("at work for {} s\n", begun.elapsed().as_secs());
        std::io::stderr().write_all(line.as_bytes()).unwrap();
    };
    let said = fs::read_to_string(said).unwrap();
    assert!(status.success(), "{status}\n{said}");
    said
}

#[test]
fn what_others_ran_on_the_core_goes_with_the_partition_and_the_shield() {
    must_be_the_guest();
    let folder = tempfile::tempdir().unwrap();
    let (script, svg) = (folder.path().join("run"), folder.path().join("noise.svg"));
    fs::write(&script, SCRIPT).unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    // A login's session, in which isolate has a cgroup of its own.
    let mut command = Command::new("systemd-run");
    command.args(["--scope", "--quiet", "--slice=user-0.slice", "--unit=session-kcmnoisy"]);
    command.arg(&script).args(["--seconds=3", "--with-shield"]);
    command.arg(format!("--svg={}", svg.display())).env("KCM", program("kcm"));
    let out = to_its_end(&mut command, &folder.path().join("said"));
    let bound = others(&out, "bound by taskset");
    let alone = others(&out, "a cpuset partition");
    let shielded = others(&out, "the same, with the shield");
    // stress-ng has about a half of the window where it may run, and nothing where not; an emulated CPU
    // may be stopped for most of it.
    assert!(bound > 100.0, "{}", out);
    assert!(alone < bound / 10.0 && shielded < bound / 10.0, "{}", out);
    // What is left are the kernel's own threads of that CPU, each by its name.
    let left = out.lines().find_map(|line| line.strip_prefix("Other tasks there at last: "));
    let left = left.unwrap().split(", ").filter(|name| *name != "none");
    let left = left.filter(|name| !name.starts_with("and "));
    let is_the_cpus = |name: &str| {
        let name = name.split(" (").next().unwrap();
        name.split_once("/0").is_some_and(|(_, rest)| rest.is_empty() || rest.starts_with(':'))
    };
    let others: Vec<&str> = left.filter(|name| !is_the_cpus(name)).collect();
    assert!(others.is_empty(), "{others:?}");
    let picture = fs::read_to_string(&svg).unwrap();
    assert!(picture.starts_with("<svg") && picture.contains("stress-ng"), "{picture}");
    let status = run(Command::new(program("kcm")).args(["shield", "status"])).succeeded();
    assert!(status.out.starts_with("shield: off"), "{status:?}");
}
