//! CRIU at work: a container that is being restored from a checkpoint.
//!
//! runc (`criuApplyCgroups`, `criuSwrk` and `criuNotifications` in libcontainer, the same in 1.1.5 and
//! 1.5.1) makes the container's cgroup, puts CRIU into it, and has it fork init as a child of runc's
//! own (`rst_sibling`). The hooks are called when init is in its namespaces ("setup-namespaces"):
//! init is still CRIU's program then, and nothing of the container has run. CRIU and its helper
//! processes leave the cgroup as they end, before the restore does.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::procfs::Procfs;
use super::{Error, list, regular};
use crate::cpu_set::CpuSet;
use crate::task::Pid;

/// Bytes of a checkpoint's `cgroup.img`; of a container it has a few thousand.
const LIMIT_OF_IMAGE: u64 = 1 << 20;

/// The processes in a container's cgroup beside its init that are not CRIU restoring it for
/// `runtime`. CRIU is who descends from the runtime by processes of this cgroup alone, is in the
/// runtime's PID namespace, and runs the same program as init, a child of the runtime. No author can
/// have that of a process: nothing of the container has run yet, and no process that another
/// started is the runtime's descendant.
pub fn strangers(
    procfs: &Procfs,
    runtime: Pid,
    init: Pid,
    processes: &[Pid],
) -> Result<Vec<Pid>, Error> {
    let others: Vec<Pid> = processes.iter().copied().filter(|&pid| pid != init).collect();
    let Some(program) = procfs.program(init)? else { return Ok(others) };
    if procfs.parent(init)? != Some(runtime) {
        return Ok(others);
    }
    let namespace = procfs.pid_namespace(runtime)?;
    let is_criu = |pid: Pid| -> Result<bool, Error> {
        Ok(descends(procfs, pid, runtime, &others)?
            && procfs.program(pid)? == Some(program)
            && procfs.pid_namespace(pid)? == namespace)
    };
    let mut strangers = Vec::new();
    for &pid in &others {
        if !is_criu(pid)? {
            strangers.push(pid);
        }
    }
    Ok(strangers)
}

/// Whether a process descends from the runtime by some of these processes alone.
fn descends(procfs: &Procfs, pid: Pid, runtime: Pid, through: &[Pid]) -> Result<bool, Error> {
    let mut at = pid;
    // Not more often than there are processes: whoever ends meanwhile could close a circle.
    for _ in through {
        match procfs.parent(at)? {
            Some(parent) if parent == runtime => return Ok(true),
            Some(parent) if through.contains(&parent) => at = parent,
            _ => return Ok(false),
        }
    }
    Ok(false)
}

/// The CPUs that the cgroup had when the checkpoint was made that these processes restore, as
/// CRIU's `cgroup.img` says; none where that cannot be told. A wish, and no proof of anything.
pub fn cpus_of_checkpoint(procfs: &Procfs, processes: &[Pid]) -> Option<CpuSet> {
    let images = processes.iter().flat_map(|pid| {
        // The folder of images is open in CRIU.
        let open = list(&procfs.root().join(format!("{pid}/fd"))).unwrap_or_default();
        open.into_iter().map(|entry| entry.path())
    });
    images.filter_map(|at| std::fs::read_link(at).ok()).filter(|at| at.is_dir()).find_map(|at| {
        let bytes = regular::read(&at.join("cgroup.img"), LIMIT_OF_IMAGE).ok()?;
        cpus_in_image(&bytes)
    })
}

/// The first value of `cpuset.cpus` in a checkpoint's `cgroup.img` (`cgroup_prop_entry` in CRIU's
/// images/cgroup.proto: field 1 is the name, field 2 the value).
fn cpus_in_image(image: &[u8]) -> Option<CpuSet> {
    const NAME: &[u8] = b"\x0a\x0bcpuset.cpus\x12";
    image.windows(NAME.len()).enumerate().filter(|(_, window)| *window == NAME).find_map(
        |(at, _)| {
            let (&length, rest) = image[at + NAME.len()..].split_first()?;
            // A longer one is no CPU list that kcm would have given.
            let value = rest.get(..usize::from(length)).filter(|_| length < 0x80)?;
            std::str::from_utf8(value).ok()?.trim().parse().ok()
        },
    )
}

/// What tells programs apart: device and inode of the file.
pub(super) fn identity(path: &Path) -> std::io::Result<(u64, u64)> {
    std::fs::metadata(path).map(|found| (found.dev(), found.ino()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cpus_of_a_checkpoint_are_in_its_image() {
        // From a checkpoint by CRIU 4.1.1 on cgroup v1.
        let real = b"\x1a\x1c\n\x0bcpuset.cpus\x12\x030-1\x1a\x08\x08\xa4\x83\x02\x10\x00";
        assert_eq!(cpus_in_image(real), Some("0-1".parse().unwrap()));
        // Empty, as a cgroup of v2 without a wish has it, cut, too long, and no list.
        for value in ["\0", "\x03", "\x070-1", "\u{80}\x010-1", "\x03a-b", ""] {
            let image = [b"\x0a\x0bcpuset.cpus\x12", value.as_bytes()].concat();
            assert_eq!(cpus_in_image(&image), None, "{value:?}");
        }
        assert_eq!(cpus_in_image(b""), None);
    }

    #[test]
    fn whoever_is_not_the_runtimes_is_a_stranger() {
        let procfs = Procfs::new("/proc");
        let us = Pid::try_from(std::process::id() as i32).unwrap();
        let mut children: Vec<_> = (0..2)
            .map(|_| std::process::Command::new("sleep").arg("60").spawn().unwrap())
            .collect();
        let pids: Vec<Pid> =
            children.iter().map(|child| Pid::try_from(child.id() as i32).unwrap()).collect();
        let [init, criu] = pids[..] else { panic!() };
        let of = |runtime| strangers(&procfs, runtime, init, &[init, criu]).unwrap();
        assert_eq!(of(us), []);
        assert_eq!(of(Pid::INIT), [criu], "another's");
        let ours = strangers(&procfs, us, init, &[init, us]).unwrap();
        assert_eq!(ours, [us], "another program, and not a child");
        for child in &mut children {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }
}
