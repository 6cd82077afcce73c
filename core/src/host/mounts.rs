//! The mounts that this process sees, as proc_pid_mountinfo(5) has them.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

/// Where the kernel lists them.
const MOUNTINFO: &str = "/proc/self/mountinfo";

/// A mount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mount {
    /// Where, as seen from this process's root.
    pub(crate) point: PathBuf,
    /// The user, if not root, whose program is the file system (FUSE): who may show whatever owner
    /// and permissions he likes.
    pub(crate) served_by: Option<u32>,
}

impl Mount {
    /// The mount that a path without links is on; none where the kernel does not tell.
    pub(crate) fn of(path: &Path) -> Option<Self> {
        on(&all(), path)
    }

    /// The mount whose root this path is.
    pub(crate) fn at(path: &Path) -> Option<Self> {
        Self::of(path).filter(|mount| mount.point == path)
    }
}

/// Where a controller of cgroup v1 is mounted, as far as this process sees it.
pub(crate) fn of_controller(name: &str) -> Vec<PathBuf> {
    let text = super::read(Path::new(MOUNTINFO)).ok().flatten().unwrap_or_default();
    text.lines().filter_map(|line| controller_mount(line, name)).collect()
}

/// `33 25 0:28 / /sys/fs/cgroup/cpuset rw,relatime - cgroup cgroup rw,cpuset`
fn controller_mount(line: &str, name: &str) -> Option<PathBuf> {
    let (mount, file_system) = line.split_once(" - ")?;
    let mut words = file_system.split(' ');
    let is_v1 = words.next() == Some("cgroup");
    let has_it = words.nth(1)?.split(',').any(|option| option == name);
    (is_v1 && has_it).then(|| mount.split(' ').nth(4).map(unescape))?
}

fn all() -> Vec<Mount> {
    let text = super::read(Path::new(MOUNTINFO)).ok().flatten().unwrap_or_default();
    text.lines().filter_map(parse).collect()
}

/// The deepest; of several on one point the last hides the others.
fn on(mounts: &[Mount], path: &Path) -> Option<Mount> {
    let below = mounts.iter().filter(|mount| path.starts_with(&mount.point));
    below.max_by_key(|mount| mount.point.components().count()).cloned()
}

/// `36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue`
fn parse(line: &str) -> Option<Mount> {
    let (mount, file_system) = line.split_once(" - ")?;
    let point = unescape(mount.split(' ').nth(4)?);
    let options = file_system.split(' ').nth(2).unwrap_or_default();
    let user = options.split(',').find_map(|option| option.strip_prefix("user_id="));
    let served_by = user.and_then(|uid| uid.parse().ok()).filter(|&uid| uid != 0);
    Some(Mount { point, served_by })
}

/// Blanks and backslashes are there as `\040`.
pub(super) fn unescape(text: &str) -> PathBuf {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let octal = tail.get(..3).and_then(|digits| std::str::from_utf8(digits).ok());
        let code = octal.and_then(|digits| u8::from_str_radix(digits, 8).ok());
        match (first, code) {
            (b'\\', Some(code)) => {
                bytes.push(code);
                rest = &tail[3..];
            }
            _ => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    OsString::from_vec(bytes).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_deepest_mount_counts_and_of_two_on_one_point_the_last() {
        let lines = [
            "21 1 254:0 / / rw,relatime - ext4 /dev/vda rw",
            "22 21 0:20 / /opt rw - tmpfs tmpfs rw",
            "23 21 0:21 / /opt rw - fuse.x x rw,user_id=1000,group_id=1000",
            r"24 21 0:22 / /a\040b rw shared:1 - fuse.x x rw,user_id=0,group_id=0",
        ];
        let mounts: Vec<Mount> = lines.iter().filter_map(|line| parse(line)).collect();
        let on = |path: &str| on(&mounts, Path::new(path)).unwrap();
        assert_eq!(on("/opt/kcm"), Mount { point: "/opt".into(), served_by: Some(1000) });
        assert_eq!(on("/option"), Mount { point: "/".into(), served_by: None });
        assert_eq!(on("/a b/c"), Mount { point: "/a b".into(), served_by: None });
    }

    #[test]
    fn where_a_controller_of_cgroup_v1_is_mounted_is_told() {
        let line = r"33 25 0:28 / /mnt/my\040sets rw,relatime - cgroup cgroup rw,cpuset,cpu";
        let at = |line| controller_mount(line, "cpuset");
        assert_eq!(at(line), Some("/mnt/my sets".into()));
        let others = [line.replace("cgroup cgroup", "cgroup2 cgroup"), line.replace("cpuset", "x")];
        assert!(others.iter().chain([&String::new()]).all(|line| at(line).is_none()));
    }

    #[test]
    fn what_is_mounted_here_is_found() {
        let proc = Mount { point: "/proc".into(), served_by: None };
        assert_eq!(Mount::of(Path::new("/proc/self")), Some(proc.clone()));
        assert_eq!(
            (Mount::at(Path::new("/proc")), Mount::at(Path::new("/proc/1"))),
            (Some(proc), None)
        );
    }
}
