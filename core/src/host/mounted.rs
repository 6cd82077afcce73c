//! Who has a folder of the host's mounted, and may write to it: containers, by their mounts
//! (proc_pid_mountinfo(5)).
//!
//! A mount shows a part of a file system: its device, and the path in it that is the mount's root. So
//! a container has a folder if one of its mounts shows the same device, from a path at, above or
//! below the folder's. Each mount namespace is looked at once for each root in it, whatever lives there.
//! One whose root is the host's own is a service's of the host (`PrivateTmp=`), and no container's.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use super::mounts::unescape;
use super::procfs::Procfs;
use super::trust::Place;
use super::{Error, read};
use crate::task::Pid;

/// So many mount namespaces are looked at: more than there are containers on a node.
const NAMESPACES: usize = 4096;

/// A process of another mount namespace that has the folder, or a part of it, mounted writable.
#[derive(Clone, Debug)]
pub struct Writer {
    /// It; others of its namespace have the same.
    pub pid: Pid,
    /// Its name (`comm`).
    pub name: String,
    /// Where it has it.
    pub at: PathBuf,
}

/// What was found.
#[derive(Debug, Default)]
pub struct Writers {
    /// One process of each mount namespace that has it, by process id.
    pub found: Vec<Writer>,
    /// How many processes were not looked at: they are another user's, or are too many.
    pub hidden: usize,
}

/// Those that have a folder mounted writable, outside of this process's mounts and the host's.
pub fn writers(procfs: &Procfs, folder: &Path) -> Result<Writers, Error> {
    let mut writers = Writers::default();
    let real = Place::find(folder)?.real().to_owned();
    // This process's own view has the folder; the procfs that is given may be another.
    let ours = mounts(Path::new("/proc/self/mountinfo"))?.unwrap_or_default();
    let Some(place) = source(&ours, &real) else { return Ok(writers) };
    let hosts_root = match mounts(&of(procfs, Pid::INIT, "mountinfo")) {
        Ok(mounts) => source(&mounts.unwrap_or_default(), Path::new("/")),
        Err(_) => source(&ours, Path::new("/")),
    };
    let mut seen: HashSet<(PathBuf, PathBuf)> = view(Path::new("/proc/self")).into_iter().collect();
    let mut pids: Vec<Pid> = procfs.pids()?.into_iter().collect();
    pids.sort();
    for pid in pids {
        match view(&of(procfs, pid, "")) {
            Ok(view) if seen.contains(&view) => continue,
            Ok(_) if seen.len() > NAMESPACES => {
                writers.hidden += 1;
                continue;
            }
            Ok(view) => drop(seen.insert(view)),
            Err(e) if e.kind() == std::io::ErrorKind::PermissionDenied => {
                writers.hidden += 1;
                continue;
            }
            // It has ended, or is a zombie.
            Err(_) => continue,
        }
        let Ok(Some(mounts)) = mounts(&of(procfs, pid, "mountinfo")) else { continue };
        if hosts_root.is_some() && source(&mounts, Path::new("/")) == hosts_root {
            continue;
        }
        if let Some(at) = writable(&mounts, &place) {
            let name = read(&of(procfs, pid, "comm"))?.unwrap_or_default().trim().to_owned();
            writers.found.push(Writer { pid, name, at });
        }
    }
    Ok(writers)
}

/// A process's mount namespace, and the root that it has in it (chroot(2)).
fn view(process: &Path) -> std::io::Result<(PathBuf, PathBuf)> {
    Ok((std::fs::read_link(process.join("ns/mnt"))?, std::fs::read_link(process.join("root"))?))
}

fn of(procfs: &Procfs, pid: Pid, name: &str) -> PathBuf {
    procfs.root().join(format!("{pid}/{name}"))
}

/// A line of mountinfo.
#[derive(Clone, Debug)]
struct Mount {
    device: String,
    root: PathBuf,
    point: PathBuf,
    is_writable: bool,
}

/// A path in a file system: its device, and the path from its root.
type Source = (String, PathBuf);

fn mounts(path: &Path) -> Result<Option<Vec<Mount>>, Error> {
    Ok(read(path)?.map(|text| text.lines().filter_map(parse).collect()))
}

/// `36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue`
fn parse(line: &str) -> Option<Mount> {
    let (mount, file_system) = line.split_once(" - ")?;
    let words: Vec<&str> = mount.split(' ').collect();
    let [_, _, device, root, point, options, ..] = words[..] else { return None };
    let of_file_system = file_system.split(' ').nth(2).unwrap_or_default();
    let is_read_only = |options: &str| options.split(',').any(|option| option == "ro");
    Some(Mount {
        device: device.to_owned(),
        root: unescape(root),
        point: unescape(point),
        is_writable: !is_read_only(options) && !is_read_only(of_file_system),
    })
}

/// The mount that a path is on: the deepest; of several on one point the last hides the others.
fn on<'a>(mounts: &'a [Mount], path: &Path) -> Option<&'a Mount> {
    let above = mounts.iter().filter(|mount| path.starts_with(&mount.point));
    above.max_by_key(|mount| mount.point.components().count())
}

/// What a path leads to.
fn source(mounts: &[Mount], path: &Path) -> Option<Source> {
    let mount = on(mounts, path)?;
    let below = path.strip_prefix(&mount.point).ok()?;
    Some((mount.device.clone(), mount.root.join(below)))
}

/// Where a place, or something in it, can be written.
fn writable(mounts: &[Mount], (device, path): &Source) -> Option<PathBuf> {
    let shown = mounts.iter().filter(|mount| mount.is_writable && mount.device == *device);
    let mut at = shown.filter_map(|mount| {
        let at = match path.strip_prefix(&mount.root) {
            Ok(below) => mount.point.join(below),
            Err(_) if mount.root.starts_with(path) => mount.point.clone(),
            Err(_) => return None,
        };
        // What another mount covers is out of reach.
        on(mounts, &at).is_some_and(|on| std::ptr::eq(on, mount)).then_some(at)
    });
    // No final slash, which joining nothing leaves.
    at.next().map(|at| at.components().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const FOLDER: &str = "/etc/kcm";

    /// Where a container with these mounts can write the host's `/etc/kcm`, which is on 8:1.
    fn at(lines: &[&str]) -> Option<String> {
        let mounts: Vec<Mount> = lines.iter().filter_map(|line| parse(line)).collect();
        assert_eq!(mounts.len(), lines.len());
        let place = ("8:1".to_owned(), PathBuf::from(FOLDER));
        writable(&mounts, &place).map(|at| at.display().to_string())
    }

    const ROOT: &str = "500 400 0:50 / / rw,relatime - overlay overlay rw,lowerdir=a";

    #[test]
    fn a_mount_of_it_of_what_is_above_it_or_of_a_part_of_it_is_found_where_it_can_be_written() {
        for (mount, expected) in [
            ("501 500 8:1 /etc/kcm /etc/kcm rw - ext4 /dev/sda1 rw", Some("/etc/kcm")),
            ("501 500 8:1 /etc/kcm /etc/kcm ro - ext4 /dev/sda1 rw", None),
            ("501 500 8:1 /etc/kcm /etc/kcm rw - ext4 /dev/sda1 ro", None),
            (r"501 500 8:1 /etc/kcm /a\040b rw - ext4 /dev/sda1 rw,errors=continue", Some("/a b")),
            ("501 500 8:1 / /host rw shared:1 - ext4 /dev/sda1 rw", Some("/host/etc/kcm")),
            ("501 500 8:1 /etc /x rw - ext4 /dev/sda1 rw", Some("/x/kcm")),
            ("501 500 8:1 /etc/kcm/pools /p rw - ext4 /dev/sda1 rw", Some("/p")),
            ("501 500 8:1 /etc/kcmd /etc/kcm rw - ext4 /dev/sda1 rw", None),
            ("501 500 8:2 /etc/kcm /etc/kcm rw - ext4 /dev/sdb1 rw", None),
        ] {
            assert_eq!(at(&[ROOT, mount]).as_deref(), expected, "{mount}");
        }
    }

    #[test]
    fn what_another_mount_covers_cannot_be_written() {
        let host = "501 500 8:1 / /host rw - ext4 /dev/sda1 rw";
        for (cover, expected) in [
            ("502 501 8:1 /etc/kcm /host/etc/kcm ro - ext4 /dev/sda1 rw", None),
            ("502 501 0:60 / /host/etc rw - tmpfs tmpfs rw", None),
            ("502 501 0:60 / /host/etc/kcm/pools ro - tmpfs tmpfs rw", Some("/host/etc/kcm")),
        ] {
            assert_eq!(at(&[ROOT, host, cover]).as_deref(), expected, "{cover}");
        }
    }

    #[test]
    fn this_process_and_the_host_are_no_containers() {
        let own = Pid::try_from(std::process::id() as i32).unwrap();
        let writers = writers(&Procfs::new("/proc"), Path::new("/etc")).unwrap();
        assert!(writers.found.iter().all(|writer| writer.pid != own && writer.pid != Pid::INIT));
    }
}
