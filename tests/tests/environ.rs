//! Looking for marks in the environments of processes, some of which will not be read.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods, missing_docs)]

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use kcm_core::host::environ::{Found, Mark, digest, search_by};
use kcm_core::host::procfs::Procfs;
use kcm_core::task::Pid;
use kcm_tests::machine::start_time;
use kcm_tests::programs::program;
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;

/// A made-up process: the fields of stat from the third on, as far as they matter (a captured line,
/// with another start time in field 22).
fn process(procfs: &Path, pid: u32, start_time: u64) -> std::path::PathBuf {
    let folder = procfs.join(pid.to_string());
    fs::create_dir(&folder).unwrap();
    let stat = format!(
        "{pid} (x) S 1 1 1 0 -1 4194560 100 0 0 0 1 2 0 0 20 0 1 0 {start_time} 2129920 200 \
         18446744073709551615 1 1 0 0 0 0 0 0 0 0 0 0 17 1 0 0 0 0 0 1 1 1 1 1 1 1 0\n"
    );
    fs::write(folder.join("stat"), stat).unwrap();
    folder.join("environ")
}

fn mark(value: &str, since: u64) -> Mark {
    Mark { digest: digest(value.as_bytes()), owner: "isolate-1".into(), since: Some(since) }
}

fn pids(pids: &[i32]) -> Vec<Pid> {
    pids.iter().map(|&pid| Pid::try_from(pid).unwrap()).collect()
}

#[test]
fn what_cannot_be_read_in_time_is_named_and_stops_nobody_else_from_being_found() {
    let folder = tempfile::tempdir().unwrap();
    let procfs = folder.path();
    // Whoever opens such a one waits for ever, as behind a memory that its owner serves.
    for (pid, start_time) in [(10, 100), (20, 100), (5, 1)] {
        mkfifo(&process(procfs, pid, start_time), Mode::S_IRUSR).unwrap();
    }
    fs::create_dir(process(procfs, 13, 100)).unwrap();
    fs::write(process(procfs, 30, 100), "HOME=/\0KCM_OWNER=here\0A=\0").unwrap();
    fs::write(process(procfs, 31, 100), "KCM_OWNER=hereafter\0XKCM_OWNER=absent\0KCM_OWNER")
        .unwrap();
    fs::write(process(procfs, 32, 10), "KCM_OWNER=absent\0").unwrap();
    let marks = [mark("here", 50), mark("absent", 50), mark("late", 200)];
    let begun = Instant::now();
    let limit = Duration::from_secs(2);
    let found = search_by(&program("kcm"), &Procfs::new(procfs), &marks, limit).unwrap();
    assert!(begun.elapsed() < limit * 4, "took {:?}", begun.elapsed());
    let expected = [Found::In(pids(&[30])[0]), Found::Unknown(pids(&[10, 13, 20])), Found::Nowhere];
    assert_eq!(found, expected);
}

#[test]
fn where_all_of_them_hang_it_ends_in_time_and_nobody_is_free() {
    let folder = tempfile::tempdir().unwrap();
    for pid in 10..60 {
        mkfifo(&process(folder.path(), pid, 100), Mode::S_IRUSR).unwrap();
    }
    let limit = Duration::from_millis(500);
    let begun = Instant::now();
    let procfs = Procfs::new(folder.path());
    let found = search_by(&program("kcm-hook"), &procfs, &[mark("x", 50)], limit).unwrap();
    assert!(begun.elapsed() < Duration::from_secs(20), "took {:?}", begun.elapsed());
    assert_eq!(found, [Found::Unknown(pids(&(10..60).collect::<Vec<_>>()))]);
}

#[test]
fn a_real_process_is_found_by_its_mark_until_it_has_ended() {
    let value = format!("isolate-{}-of-a-test", std::process::id());
    let mut child = Command::new("sleep")
        .arg("600")
        .env("KCM_OWNER", &value)
        .stdin(Stdio::null())
        .spawn()
        .unwrap();
    let procfs = Procfs::new("/proc");
    let pid = Pid::try_from(child.id() as i32).unwrap();
    let since = start_time(std::process::id() as i32);
    let marks = [mark(&value, since), mark(&format!("{value}s"), since)];
    // Both programs can look.
    for by in ["kcm", "kcm-hook"] {
        let found = search_by(&program(by), &procfs, &marks, Duration::from_secs(20)).unwrap();
        assert_eq!(found, [Found::In(pid), Found::Nowhere], "by {by}");
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let found = search_by(&program("kcm"), &procfs, &marks, Duration::from_secs(20)).unwrap();
    assert_eq!(found, [Found::Nowhere, Found::Nowhere]);
}

#[test]
fn where_nobody_can_look_nobody_is_free() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(process(folder.path(), 30, 100), "A=\0").unwrap();
    let procfs = Procfs::new(folder.path());
    for cannot in ["/nonexistent", "/bin/true"] {
        let limit = Duration::from_secs(1);
        let found = search_by(Path::new(cannot), &procfs, &[mark("x", 50)], limit).unwrap();
        assert_eq!(found, [Found::Unknown(pids(&[30]))], "{cannot}");
    }
}
