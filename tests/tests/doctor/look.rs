//! Looking at one directory, which never changes anything, and following what is said to the letter.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use kcm_tests::conf_dir::ConfDir;
use kcm_tests::kcm::{Outcome, bare, run};
use kcm_tests::programs::program;

use super::findings::{Finding, Findings, doctor};

/// What doctor says of a directory; everything in it stays as it is, to the inode.
#[track_caller]
pub(crate) fn look(conf: &ConfDir) -> Findings {
    let before = whole(conf.path());
    let findings = doctor(&[&format!("--conf-dir={}", conf.path().display())]);
    assert_eq!(whole(conf.path()), before, "doctor changes nothing");
    findings
}

/// All findings of one check.
pub(crate) fn of<'a>(findings: &'a Findings, check: &str) -> Vec<&'a Finding> {
    let of_check = findings.0.iter().filter(|(name, _)| name == check);
    of_check.map(|(_, finding)| finding).collect()
}

/// The one finding of a check whose message has all these parts; its remedy.
#[track_caller]
pub(crate) fn remedy(findings: &Findings, check: &str, status: &str, parts: &[&str]) -> String {
    let all = of(findings, check);
    let has_all = |finding: &&&Finding| parts.iter().all(|part| finding.message.contains(part));
    let found: Vec<_> = all.iter().filter(has_all).collect();
    let [finding] = found[..] else { panic!("{parts:?} is not in one of {all:?}") };
    assert_eq!(finding.status, status, "{finding:?}");
    finding.remedy.clone().unwrap()
}

/// Types a command as it is told, with `kcm` on the path; it must succeed.
#[track_caller]
pub(crate) fn type_in(command: &str) -> Outcome {
    let mut shell = Command::new("sh");
    bare(&mut shell);
    let path = std::env::var("PATH").unwrap_or_default();
    let programs = program("kcm").parent().unwrap().display().to_string();
    run(shell.env("PATH", format!("{programs}:{path}")).args(["-c", command])).succeeded()
}

type File = (u64, u32, u32, i64, Vec<u8>);

/// Every path below a folder: inode, mode, owner, when it was changed last, and content.
fn whole(folder: &Path) -> BTreeMap<PathBuf, File> {
    let mut files = BTreeMap::new();
    collect(folder, &mut files);
    files
}

fn collect(path: &Path, files: &mut BTreeMap<PathBuf, File>) {
    let found = fs::symlink_metadata(path).unwrap();
    let content = if found.is_file() { fs::read(path).unwrap() } else { Vec::new() };
    let stamp = found.ctime() * 1_000_000_000 + found.ctime_nsec();
    files.insert(path.to_owned(), (found.ino(), found.mode(), found.uid(), stamp, content));
    if found.is_dir() {
        fs::read_dir(path).unwrap().for_each(|entry| collect(&entry.unwrap().path(), files));
    }
}
