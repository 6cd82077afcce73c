//! `make bench`: what kcm costs, measured against what does nothing. Prints the figures and writes
//! them into docs/benchmarks.md.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods, missing_docs)]

mod contention;
mod describe;
mod hook;
mod hostile;
mod isolate;
mod machine;
mod measure;
mod memory;
mod place;
mod report;
mod runtime;
mod size;
mod syscalls;

use std::fs;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use report::Report;

/// What the figures share.
struct Bench {
    /// Temporary files.
    folder: PathBuf,
    /// A program that does nothing.
    noop: PathBuf,
}

fn main() {
    let started = Instant::now();
    let temporary = tempfile::tempdir().unwrap();
    let folder = temporary.path().to_owned();
    let dev_log = folder.join("log");
    drain(UnixDatagram::bind(&dev_log).unwrap());
    kcm_tests::machine::private_view(&folder, &dev_log);
    let noop = build_noop(&folder);
    let bench = Bench { folder, noop };
    let mut report = Report::new(machine::description());
    if std::env::args().any(|word| word == "hostile") {
        hostile::allocate(&bench, &mut report);
        hostile::allocate_shared(&bench, &mut report);
        return println!("docs/benchmarks.md is left as it is");
    }
    hook::without_annotation(&bench, &mut report);
    hook::allocate(&bench, &mut report);
    hook::release(&bench, &mut report);
    hook::large_pool(&bench, &mut report);
    hostile::allocate(&bench, &mut report);
    hostile::allocate_shared(&bench, &mut report);
    runtime::run(&bench, &mut report);
    describe::describe(&bench, &mut report);
    isolate::run(&bench, &mut report);
    contention::contention(&bench, &mut report);
    size::sizes(&mut report);
    memory::peak(&bench, &mut report);
    isolate::peak(&bench, &mut report);
    syscalls::count(&bench, &mut report);
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/benchmarks.md");
    fs::write(&path, report.to_markdown()).unwrap();
    println!("docs/benchmarks.md is written; {} s", started.elapsed().as_secs());
}

/// A log daemon that keeps nothing, so that the hook logs as it does on a node.
fn drain(socket: UnixDatagram) {
    std::thread::spawn(move || while socket.recv(&mut [0; 4096]).is_ok() {});
}

/// The least that a runtime can start: what the hook costs is told as a multiple of it.
fn build_noop(folder: &Path) -> PathBuf {
    let (source, program) = (folder.join("noop.c"), folder.join("noop"));
    fs::write(&source, "int main(void){return 0;}\n").unwrap();
    let built =
        Command::new("gcc").args(["-O2", "-static", "-o"]).arg(&program).arg(&source).status();
    assert!(built.unwrap().success(), "gcc could not build a program that does nothing");
    program
}
