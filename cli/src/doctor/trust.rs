//! Who, beside root on the host, decides in the configuration directory.

use std::path::PathBuf;

use kcm_core::host::mounted::{Writer, writers};
use kcm_core::host::procfs::Procfs;
use kcm_core::host::trust::{Place, Unfit, of_itself};

use super::pools::pools;
use super::{Finding, Subject};

/// So many are named.
const NAMED: usize = 5;

/// Whether the directory is root's alone, and all that decides in it.
pub(super) fn owner(subject: &Subject) -> Finding {
    let (check, path) = ("owner", subject.conf.path());
    match first_unfit(subject) {
        Err(e) => Finding::fail(check, e.to_string(), "run it as root"),
        Ok(None) => Finding::ok(check, format!("{} is root's alone", path.display())),
        Ok(Some(unfit)) => Finding::fail(
            check,
            format!("others than root decide who holds CPUs, by {}: {unfit}", path.display()),
            format!("{}; then run kcm doctor again", unfit.remedy()),
        ),
    }
}

fn first_unfit(subject: &Subject) -> Result<Option<Unfit>, kcm_core::host::Error> {
    let path = subject.conf.path();
    let place = Place::find(path)?;
    if let Some(unfit) = place.writable() {
        return Ok(Some(unfit));
    }
    let (pools, records) = pools(subject);
    let mut inside: Vec<PathBuf> = ["lock", "pools", "allocations"].map(PathBuf::from).into();
    for pool in &pools {
        let folder = PathBuf::from("pools").join(pool.name.as_ref());
        let lists = pool.lists.iter().map(|list| folder.join(list.name.as_str()));
        inside.extend(lists.flat_map(|list| [list.join("tasks"), list]));
        inside.extend([folder.join("exclusive"), folder]);
    }
    let records = records.iter().map(|record| format!("allocations/{}.json", record.owner));
    inside.extend(records.map(PathBuf::from));
    for name in inside {
        if let Some(unfit) = of_itself(&place.real().join(name))? {
            return Ok(Some(unfit));
        }
    }
    Ok(None)
}

/// Whether a container could write there: by that it could give CPUs to itself, and take others' away.
pub(super) fn mounts(subject: &Subject) -> Finding {
    let (check, path) = ("mounts", subject.conf.path().display());
    let found = subject
        .machine
        .procfs()
        .and_then(|procfs| Ok((writers(&procfs, subject.conf.path())?, procfs)));
    let (found, procfs) = match found {
        Ok(found) => found,
        Err(e) => return Finding::fail(check, format!("{e:#}"), "see procfs above"),
    };
    let count = found.found.len();
    if count == 0 && found.hidden > 0 {
        let message = format!("the mounts of {} processes were not looked at", found.hidden);
        return Finding::warn(check, message, "run it as root");
    }
    if count == 0 {
        return Finding::ok(check, format!("no container has {path} mounted writable"));
    }
    let named: Vec<String> =
        found.found.iter().take(NAMED).map(|writer| name(subject, &procfs, writer)).collect();
    Finding::warn(
        check,
        format!(
            "{count} containers have {path} mounted writable, by which they decide who holds CPUs \
             (SECURITY.md): {}{}",
            named.join("; "),
            if count > NAMED { "; …" } else { "" }
        ),
        "expected of kcm's own pods (its DaemonSet, kcm isolate); mount it readOnly into any other, or \
         not at all",
    )
}

fn name(subject: &Subject, procfs: &Procfs, Writer { pid, name, at }: &Writer) -> String {
    let hierarchy = subject.machine.hierarchy().ok();
    let shown = procfs.cgroup(*pid).ok().flatten();
    let cgroup = hierarchy.zip(shown).and_then(|(all, shown)| all.cgroup_of(&shown));
    let cgroup = cgroup.filter(|cgroup| !cgroup.is_root());
    let cgroup = cgroup.map(|cgroup| format!(", cgroup {}", cgroup.path())).unwrap_or_default();
    format!("process {pid} ({name}{cgroup}) at {}", at.display())
}
