//! A file system on a loop device whose power is cut: what comes back is what the device had been
//! given by then, and what was in the machine's memory is gone.

use std::fs::{self, File};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::unistd::fsync;
use tempfile::TempDir;

use crate::machine::must_be_apart;

/// The smallest block of the file systems here: a device writes each whole, in any order.
const BLOCK: usize = 1024;

/// A way to make and to mount a file system.
#[derive(Clone, Copy, Debug)]
pub struct Kind {
    /// What it is called here.
    pub name: &'static str,
    /// The type, for mkfs and mount(2).
    pub type_name: &'static str,
    /// Further words for mkfs.
    pub mkfs: &'static [&'static str],
    /// Mount options.
    pub options: &'static str,
    /// The least that mkfs takes, in MiB.
    pub mebibytes: u64,
    /// Whether a journal keeps an order among writes.
    pub journal: bool,
}

/// ext2, as the kernel's ext4 driver reads it.
pub const EXT2: Kind = Kind {
    name: "ext2",
    type_name: "ext2",
    mkfs: &["-b", "1024"],
    options: "",
    mebibytes: 8,
    journal: false,
};

/// ext4 that journals nothing.
pub const EXT4_WITHOUT_JOURNAL: Kind = Kind {
    name: "ext4 without a journal",
    type_name: "ext4",
    mkfs: &["-b", "1024", "-O", "^has_journal"],
    options: "",
    mebibytes: 8,
    journal: false,
};

/// ext4 that neither delays allocation nor orders data before metadata.
pub const EXT4_WRITEBACK: Kind = Kind {
    name: "ext4 with nodelalloc and data=writeback",
    type_name: "ext4",
    mkfs: &["-b", "1024"],
    options: "nodelalloc,data=writeback",
    mebibytes: 16,
    journal: true,
};

/// ext4 as it is made and mounted by default.
pub const EXT4: Kind = Kind { name: "ext4", options: "", ..EXT4_WRITEBACK };

/// xfs; the options let a copy be mounted beside its original.
pub const XFS: Kind = Kind {
    name: "xfs",
    type_name: "xfs",
    mkfs: &[],
    options: "nouuid",
    mebibytes: 300,
    journal: true,
};

/// A mounted file system of the test's own.
#[derive(Debug)]
pub struct Disk {
    kind: Kind,
    folder: TempDir,
    device: PathBuf,
}

/// The content of a whole device.
#[derive(Clone, Debug)]
pub struct Image(std::sync::Arc<tempfile::NamedTempFile>);

impl Kind {
    /// Why it cannot be had here; none where it can.
    pub fn is_missing(&self) -> Option<String> {
        let program = format!("mkfs.{}", self.type_name);
        let found = ["/usr/sbin", "/sbin"].iter().any(|dir| Path::new(dir).join(&program).exists());
        let known = fs::read_to_string("/proc/filesystems").unwrap();
        let is_known =
            known.lines().any(|line| line.split_whitespace().last() == Some(self.type_name));
        match (found, is_known, Path::new("/dev/loop-control").exists()) {
            (false, _, _) => Some(format!("there is no {program}")),
            (_, false, _) => Some(format!("this kernel has no {}", self.type_name)),
            (_, _, false) => Some("this machine has no loop devices".into()),
            _ => None,
        }
    }
}

impl Disk {
    /// A new one, empty.
    pub fn new(kind: Kind) -> Self {
        let image = new_image();
        image.file().set_len(kind.mebibytes << 20).unwrap();
        must(
            Command::new(format!("mkfs.{}", kind.type_name))
                .args(kind.mkfs)
                .arg("-q")
                .arg(image.path()),
        );
        Self::mount(kind, &image)
    }

    /// Mounts a copy, after the check that a boot begins with.
    pub fn mount(kind: Kind, image: &Image) -> Self {
        must_be_apart();
        let folder = tempfile::tempdir().unwrap();
        let copy = folder.path().join("image");
        must(Command::new("cp").arg("--sparse=always").arg(image.path()).arg(&copy));
        if kind.type_name != "xfs" {
            let checked = Command::new("e2fsck")
                .arg("-fy")
                .arg(&copy)
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .status();
            // 1 and 2: errors were corrected (e2fsck(8)).
            assert!(
                matches!(checked.unwrap().code(), Some(0..=2)),
                "{} cannot be mended",
                kind.name
            );
        }
        let device = run(Command::new("losetup").args(["--find", "--show"]).arg(&copy));
        let device = PathBuf::from(device.trim());
        let disk = Self { kind, folder, device };
        fs::create_dir(disk.path()).unwrap();
        let options = Some(kind.options);
        let mounted = mount(
            Some(&disk.device),
            &disk.path(),
            Some(kind.type_name),
            MsFlags::empty(),
            options,
        );
        // It goes with its last user: the mount.
        must(Command::new("losetup").arg("--detach").arg(&disk.device));
        mounted.unwrap_or_else(|e| panic!("cannot mount {}: {e}", kind.name));
        disk
    }

    /// Where it is mounted.
    pub fn path(&self) -> PathBuf {
        self.folder.path().join("mount")
    }

    /// Writes all that is in memory to the device.
    pub fn sync(&self) {
        let root = File::open(self.path()).unwrap();
        nix::unistd::syncfs(root).unwrap();
        fsync(File::open(&self.device).unwrap()).unwrap();
    }

    /// Writes what tells of files, and not what is in them: as a kernel may when it comes to write
    /// what is in memory.
    pub fn sync_metadata(&self) {
        if self.kind.journal {
            // Whoever needs a file of its own on the disk has all metadata committed.
            let file = File::create(self.path().join("another")).unwrap();
            file.sync_all().unwrap();
        } else {
            fsync(File::open(&self.device).unwrap()).unwrap();
        }
    }

    /// What the device has been given: the power is cut now.
    pub fn cut(&self) -> Image {
        let device = self.folder.path().join("image");
        let image = new_image();
        let written = || {
            let metadata = fs::metadata(&device).unwrap();
            (metadata.mtime(), metadata.mtime_nsec())
        };
        crate::machine::until("a device to be left alone for as long as a copy takes", || {
            let before = written();
            must(Command::new("cp").arg("--sparse=always").arg(&device).arg(image.path()));
            (written() == before).then_some(())
        });
        image
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = umount2(&self.path(), MntFlags::MNT_DETACH);
    }
}

impl Image {
    fn path(&self) -> &Path {
        self.0.path()
    }

    fn file(&self) -> &File {
        self.0.as_file()
    }

    /// Of the blocks in which a later image differs, some are as they are there: what a device with
    /// a cache has come to write when nothing made it keep an order. `is_written` is asked for each.
    pub fn with_some_of(&self, later: &Self, mut is_written: impl FnMut() -> bool) -> Self {
        let image = new_image();
        let (mut now, then) = (fs::read(self.path()).unwrap(), fs::read(later.path()).unwrap());
        for (now, then) in now.chunks_mut(BLOCK).zip(then.chunks(BLOCK)) {
            if now != then && is_written() {
                now.copy_from_slice(then);
            }
        }
        image.file().write_all_at(&now, 0).unwrap();
        image
    }
}

fn new_image() -> Image {
    Image(tempfile::NamedTempFile::new().unwrap().into())
}

fn run(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|e| panic!("{command:?}: {e}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn must(command: &mut Command) {
    run(command);
}
