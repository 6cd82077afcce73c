//! The machine that a test runs on: what it has, and a view of it that is the test's own.

use std::fs;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use kcm_core::CpuSet;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use nix::sys::stat::{Mode, SFlag, mknod, stat};
use nix::sys::statvfs::{FsFlags, statvfs};

/// A guest may be emulated, on a machine that is busy.
const PATIENCE: Duration = Duration::from_secs(60);

/// Which guest of `tests/guest` this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Guest {
    /// A script is PID 1.
    Plain,
    /// systemd is PID 1.
    Systemd,
}

/// The guest that this is; none where it is the host. The kernel says so, which `tests/guest/boot`
/// has booted: nobody's environment makes a guest of a machine.
pub fn guest() -> Option<Guest> {
    guest_booted_with(&fs::read_to_string("/proc/cmdline").unwrap())
}

/// The guest that a kernel with this command line is.
pub fn guest_booted_with(cmdline: &str) -> Option<Guest> {
    let word = cmdline.split_whitespace().find_map(|word| word.strip_prefix("kcm.guest="));
    match word? {
        "plain" => Some(Guest::Plain),
        "systemd" => Some(Guest::Systemd),
        other => panic!("kcm.guest={other}: plain or systemd"),
    }
}

/// Stops a test that changes the machine as a whole, before it does, unless the machine is a guest.
/// Whatever does so calls this first.
#[track_caller]
pub fn must_be_the_guest() -> Guest {
    guest().expect("this changes the whole machine, and is for the guest alone: tests/guest/run")
}

/// Stops a test that is about to mount things, unless it is apart from the machine: run by
/// `tests/apart`, which cargo does, or in a guest.
#[track_caller]
pub fn must_be_apart() {
    let is_read_only =
        |path| statvfs(path).is_ok_and(|of_it| of_it.flags().contains(FsFlags::ST_RDONLY));
    let is_apart = guest().is_some() || ["/sys", "/usr"].into_iter().all(is_read_only);
    assert!(is_apart, "this test needs a view of its own: run it by cargo test, or by tests/apart");
}

/// A CPU of the guest that is taken offline until this is dropped. On cgroup v1 the kernel takes
/// such a CPU out of every cpuset for good.
#[derive(Debug)]
pub struct Offline(PathBuf);

impl Offline {
    /// Takes a CPU offline.
    #[track_caller]
    pub fn take(cpu: &str) -> Self {
        must_be_the_guest();
        let file = format!("/sys/devices/system/cpu/cpu{cpu}/online");
        fs::write(&file, "0").unwrap();
        Self(file.into())
    }
}

impl Drop for Offline {
    fn drop(&mut self) {
        let _ = fs::write(&self.0, "1");
    }
}

/// Has systemd, where it runs, write all cgroups anew.
pub fn reload_systemd() {
    if guest() == Some(Guest::Systemd) {
        let reloaded = std::process::Command::new("systemctl").arg("daemon-reload").status();
        assert!(reloaded.unwrap().success());
    }
}

/// Says that something cannot be tested here. On CI's machine that is a failure.
pub fn skip(reason: &str) {
    println!("skipped: {reason}");
    assert!(std::env::var_os("CI").is_none(), "skipped on CI's machine: {reason}");
}

/// Looks until there is something to see, for a minute at the most.
pub fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(seen) = look() {
            return seen;
        }
        assert!(begun.elapsed() < PATIENCE, "waited for a minute: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Starts something as a process with this very PID, which must be free. Others start processes, too,
/// so it may take some tries, one caller at a time. Whoever starts processes meanwhile may come to
/// have PIDs that were made free of late, so tests of that are in a program of their own.
pub fn start_as<T>(pid: i32, mut start: impl FnMut() -> T, pid_of: impl Fn(&T) -> i32) -> T {
    static ALONE: Mutex<()> = Mutex::new(());
    let _alone = ALONE.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let last = "/proc/sys/kernel/ns_last_pid";
    let before = fs::read_to_string(last).unwrap();
    for _ in 0..500 {
        fs::write(last, (pid - 1).to_string()).unwrap();
        let started = start();
        fs::write(last, before.trim()).unwrap();
        if pid_of(&started) == pid {
            return started;
        }
    }
    panic!("no process came to have PID {pid}");
}

/// A CPU list of sysfs, as `cpu/online`; empty where the file is.
pub fn sysfs_cpus(file: &str) -> CpuSet {
    let text = fs::read_to_string(Path::new("/sys/devices/system").join(file)).unwrap();
    CpuSet::parse_possibly_empty(&text).unwrap()
}

/// Two CPUs to give to containers: isolated ones where the machine has any.
pub fn two_cpus() -> [String; 2] {
    let isolated = sysfs_cpus("cpu/isolated");
    let from = if isolated.len() >= 2 { isolated } else { sysfs_cpus("cpu/online") };
    let mut cpus = from.iter().map(|cpu| cpu.to_string());
    [cpus.next().unwrap(), cpus.next().expect("the tests need two CPUs")]
}

/// CPU lists as one, in the kernel's form.
pub fn together(lists: [&str; 2]) -> String {
    lists.join(",").parse::<CpuSet>().unwrap().to_string()
}

/// Where the cgroup hierarchy with the cpuset controller is mounted.
pub fn cpuset_mount() -> PathBuf {
    let v1 = Path::new("/sys/fs/cgroup/cpuset");
    if v1.exists() { v1.into() } else { "/sys/fs/cgroup".into() }
}

/// Whether the cpuset controller is cgroup v2's.
pub fn is_cgroup_v2() -> bool {
    cpuset_mount().join("cgroup.controllers").exists()
}

/// A control file of a cgroup, given by its path below the mount.
pub fn cgroup_file(cgroup: &str, name: &str) -> PathBuf {
    cpuset_mount().join(cgroup.trim_start_matches('/')).join(name)
}

/// The CPUs that a cgroup's processes may use.
pub fn effective_cpus(cgroup: &str) -> CpuSet {
    let name = if is_cgroup_v2() { "cpuset.cpus.effective" } else { "cpuset.effective_cpus" };
    let text = fs::read_to_string(cgroup_file(cgroup, name)).unwrap();
    CpuSet::parse_possibly_empty(&text).unwrap()
}

/// Makes a cgroup folder in the cpuset hierarchy, limited to CPUs.
pub fn make_cgroup(cgroup: &str, cpus: &str) {
    fs::create_dir_all(cgroup_file(cgroup, "")).unwrap();
    if is_cgroup_v2() {
        fs::write("/sys/fs/cgroup/cgroup.subtree_control", "+cpuset").unwrap();
    } else {
        fs::copy(cgroup_file("/", "cpuset.mems"), cgroup_file(cgroup, "cpuset.mems")).unwrap();
    }
    fs::write(cgroup_file(cgroup, "cpuset.cpus"), cpus).unwrap();
}

/// Ends what is in a cgroup folder of the test's own and removes it, in every hierarchy.
pub fn remove_cgroup(cgroup: &str) {
    let name = cgroup.trim_start_matches('/');
    assert!(name.starts_with("kcm"), "{cgroup} is not a test's");
    for folder in cgroup_folders(name) {
        until("a cgroup folder to be removed", || remove_folder(&folder).then_some(()));
    }
}

/// The folders of a cgroup in all hierarchies.
pub fn cgroup_folders(name: &str) -> Vec<PathBuf> {
    let root = Path::new("/sys/fs/cgroup");
    let hierarchies = fs::read_dir(root).unwrap().map(|entry| entry.unwrap().path());
    let is_cgroup = |mount: &PathBuf| mount.join("cgroup.procs").exists();
    let mounts = hierarchies.chain([root.to_owned()]).filter(is_cgroup);
    mounts.map(|mount| mount.join(name)).filter(|folder| folder.is_dir()).collect()
}

fn remove_folder(folder: &Path) -> bool {
    let Ok(entries) = fs::read_dir(folder) else { return true };
    for entry in entries.flatten().filter(|entry| entry.file_type().is_ok_and(|t| t.is_dir())) {
        remove_folder(&entry.path());
    }
    for pid in fs::read_to_string(folder.join("cgroup.procs")).unwrap_or_default().lines() {
        kill(pid.parse().unwrap());
    }
    fs::remove_dir(folder).is_ok() || !folder.exists()
}

/// Sends SIGKILL to one process.
pub fn kill(pid: i32) {
    assert!(pid > 1);
    let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::SIGKILL);
}

/// Sends SIGKILL to one process and waits until it is dead: gone or a zombie.
pub fn kill_and_wait(pid: i32) {
    kill(pid);
    until("a killed process to be dead", || (!is_running(pid)).then_some(()));
}

/// Whether a process exists and is no zombie.
pub fn is_running(pid: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(')').is_some_and(|(_, rest)| !matches!(rest.trim().as_bytes()[0], b'Z' | b'X'))
}

/// The start time of a process: field 22 of its `stat`, in clock ticks.
pub fn start_time(pid: i32) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    stat.rsplit_once(')').unwrap().1.split_whitespace().nth(19).unwrap().parse().unwrap()
}

/// The processes with this word among their arguments.
pub fn processes_with_argument(word: &str) -> Vec<i32> {
    let entries = fs::read_dir("/proc").unwrap().flatten();
    let pids = entries.filter_map(|entry| i32::from_str(entry.file_name().to_str()?).ok());
    let has = |pid: &i32| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        line.split(|&byte| byte == 0).any(|argument| argument == word.as_bytes())
    };
    pids.filter(has).collect()
}

/// Whether a process waits for a lock of a file (`/proc/locks` marks it so).
pub fn waits_for_a_lock(pid: i32) -> bool {
    let locks = fs::read_to_string("/proc/locks").unwrap();
    let waits = |line: &str| {
        let mut words = line.split_whitespace().skip(1);
        words.next() == Some("->") && words.nth(3) == Some(&pid.to_string())
    };
    locks.lines().any(waits)
}

/// Gives this thread, and what it starts, mounts of their own: `/dev/log` is a socket of the
/// test's, and nothing but it and what programs usually need is in `/dev`.
pub fn private_view(folder: &Path, dev_log: &Path) {
    must_be_apart();
    unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_FS).unwrap();
    let nothing = None::<&str>;
    mount(nothing, "/", nothing, MsFlags::MS_REC | MsFlags::MS_PRIVATE, nothing).unwrap();
    let dev = folder.join("dev");
    fs::create_dir(&dev).unwrap();
    mount(Some("dev"), &dev, Some("tmpfs"), MsFlags::empty(), Some("mode=755")).unwrap();
    for name in ["null", "zero", "full", "random", "urandom", "tty"] {
        let device = stat(&Path::new("/dev").join(name)).unwrap().st_rdev;
        mknod(&dev.join(name), SFlag::S_IFCHR, Mode::from_bits_truncate(0o666), device).unwrap();
    }
    ["pts", "shm"].iter().for_each(|name| fs::create_dir(dev.join(name)).unwrap());
    mount(Some("/dev/pts"), &dev.join("pts"), nothing, MsFlags::MS_BIND, nothing).unwrap();
    // podman's locks: one with a storage of its own frees those of all others.
    let mode = Some("mode=1777");
    mount(Some("shm"), &dev.join("shm"), Some("tmpfs"), MsFlags::empty(), mode).unwrap();
    std::os::unix::fs::symlink(dev_log, dev.join("log")).unwrap();
    mount(Some(&dev), "/dev", nothing, MsFlags::MS_MOVE, nothing).unwrap();
}

/// Runs this in a thread with mounts of its own.
pub fn with_own_mounts(play: impl FnOnce() + Send) {
    must_be_apart();
    let play = || {
        unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_FS).unwrap();
        let nothing = None::<&str>;
        mount(nothing, "/", nothing, MsFlags::MS_REC | MsFlags::MS_PRIVATE, nothing).unwrap();
        play();
    };
    let played = std::thread::scope(|threads| threads.spawn(play).join());
    played.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
}

/// Has the guest's cpuset controller be cgroup v1's, in mounts of this thread's own.
pub fn with_cgroup_v1() {
    must_be_the_guest();
    let flags = MsFlags::empty();
    // A controller that cgroup v2 uses nowhere can be had.
    fs::write("/sys/fs/cgroup/cgroup.subtree_control", "-cpuset").unwrap();
    mount(Some("cgroups"), "/sys/fs/cgroup", Some("tmpfs"), flags, Some("mode=755")).unwrap();
    let folder = Path::new("/sys/fs/cgroup/cpuset");
    fs::create_dir(folder).unwrap();
    mount(Some("cpuset"), folder, Some("cgroup"), flags, Some("cpuset")).unwrap();
}

/// Lets what this thread starts write to `/proc/sys`, in mounts of the thread's own: CRIU sets the
/// host name and the like of the namespaces that it makes.
pub fn uncover_sysctls() {
    must_be_apart();
    if guest().is_none() {
        umount2("/proc/sys", MntFlags::MNT_DETACH).unwrap();
    }
}

/// Takes the empty cgroup v2 hierarchy of a hybrid machine out of this thread's view: crun 1.8.1
/// refuses to work beside it.
pub fn hide_hybrid_hierarchy() {
    let unified = Path::new("/sys/fs/cgroup/unified");
    if unified.join("cgroup.procs").exists() {
        // Covered, not unmounted: crun makes its folders there, hierarchy or not.
        let (flags, nothing) = (MsFlags::empty(), None::<&str>);
        mount(Some("nothing"), unified, Some("tmpfs"), flags, nothing).unwrap();
    }
}
