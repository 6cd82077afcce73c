//! Stand-ins for containers: a real process alone in a real cpuset cgroup of its own, which is all
//! that the hook sees of a container. They start in milliseconds, so crashes and races can be
//! tried by the hundred; containers of real runtimes have tests of their own.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::isolate::descendants;
use crate::machine::until;

const ROOT: &str = "/sys/fs/cgroup";
const CPUSET_FILES: [&str; 2] = ["cpuset.cpus", "cpuset.mems"];

/// How many cgroups are in this test's folder: the last one to go removes it.
static CGROUPS: Mutex<usize> = Mutex::new(0);

/// A process alone in its cgroup; both are gone when it is dropped.
#[derive(Debug)]
pub struct StandIn {
    id: String,
    child: Child,
    pid: i32,
    cgroup: Cgroup,
}

/// A cgroup below this test's folder (`/kcm-test-<pid>`) of the cpuset hierarchy.
#[derive(Debug)]
pub struct Cgroup {
    folder: PathBuf,
}

/// An id that no other container of this test has: they share a folder of cgroups.
pub fn new_id(role: &str) -> String {
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    format!("{role}-{}", COUNT.fetch_add(1, Ordering::Relaxed))
}

impl StandIn {
    /// A container of this id that does nothing.
    pub fn new(id: &str) -> Self {
        // It ends by itself, should the test be killed.
        Self::running(id, Command::new("sleep").arg("600"))
    }

    /// A container of this id whose init is this command.
    pub fn running(id: &str, command: &mut Command) -> Self {
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn().unwrap();
        let pid = child.id() as i32;
        Self::of(id, child, pid)
    }

    /// One that does nothing either, with so many cgroups above its own, below the root: at least one.
    pub fn below(above: usize, id: &str) -> Self {
        let child = Command::new("sleep").arg("600").stdin(Stdio::null()).spawn().unwrap();
        let pid = child.id() as i32;
        Self::in_cgroup(id, &format!("{}{id}", "above/".repeat(above - 1)), child, pid)
    }

    /// A container of this id in namespaces of its own, as those of real runtimes are.
    pub fn in_own_namespaces(id: &str, program: &Command) -> Self {
        let mut command = Command::new("unshare");
        command.args(["--pid", "--fork", "--kill-child", "--mount"]);
        command.arg(program.get_program()).args(program.get_args());
        command.envs(program.get_envs().filter_map(|(name, value)| Some((name, value?))));
        // At the end of its child Debian 12's unshare says that it cannot unblock signal 0.
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().unwrap();
        let pid = until("a container's init to be executed", || {
            let init = *descendants(child.id() as i32).first()?;
            let name = fs::read_to_string(format!("/proc/{init}/comm")).ok()?;
            (name != "unshare\n").then_some(init)
        });
        Self::of(id, child, pid)
    }

    /// A container of this id whose init is `pid`, a descendant of `child`.
    pub fn of(id: &str, child: Child, pid: i32) -> Self {
        Self::in_cgroup(id, id, child, pid)
    }

    fn in_cgroup(id: &str, cgroup: &str, child: Child, pid: i32) -> Self {
        let cgroup = Cgroup::new(cgroup);
        cgroup.enter(pid);
        Self { id: id.to_owned(), child, pid, cgroup }
    }

    /// The container's id.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Its init, as the host sees it.
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// Its cgroup.
    pub fn cgroup(&self) -> &Cgroup {
        &self.cgroup
    }

    /// The OCI state that a runtime gives to a createRuntime hook.
    pub fn state(&self, annotations: &[(&str, &str)]) -> String {
        let annotations: serde_json::Map<String, serde_json::Value> =
            annotations.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect();
        serde_json::json!({
            "ociVersion": "1.0.2", "id": self.id, "status": "creating", "pid": self.pid,
            "bundle": "", "annotations": annotations,
        })
        .to_string()
    }

    /// The CPUs that its init may run on, as the kernel says.
    pub fn allowed_cpus(&self) -> String {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid)).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
        line.unwrap().trim().to_owned()
    }

    /// Whether nobody has killed it yet.
    pub fn is_alive(&self) -> bool {
        let state = fs::read_to_string(format!("/proc/{}/stat", self.pid));
        state.is_ok_and(|stat| !stat.contains(") Z "))
    }

    /// Kills init, and stays its parent: a zombie is left.
    pub fn kill_without_waiting(&mut self) {
        let pid = nix::unistd::Pid::from_raw(self.pid);
        let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL);
    }

    /// Kills it, as a crash would: nobody is told. Its cgroup stays, empty.
    pub fn kill(&mut self) {
        if self.child.try_wait().unwrap().is_some() {
            return;
        }
        self.kill_without_waiting();
        // Whoever made init where we did not (`unshare`) waits for it, and ends, too.
        until("a container's init to be gone", || self.child.try_wait().unwrap());
    }
}

impl Drop for StandIn {
    fn drop(&mut self) {
        self.kill();
    }
}

impl Cgroup {
    /// A new cgroup with all CPUs and memory nodes of the root. A `/` in its name makes one in another.
    pub fn new(name: &str) -> Self {
        let mut cgroups = CGROUPS.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let folder = own_folder().join(name);
        make(&folder);
        *cgroups += 1;
        Self { folder }
    }

    /// Moves a process into it.
    pub fn enter(&self, pid: i32) {
        fs::write(self.folder.join("cgroup.procs"), pid.to_string()).unwrap();
    }

    /// Its path in the hierarchy, as `/proc/<pid>/cgroup` has it.
    pub fn path(&self) -> String {
        format!("/{}", self.folder.strip_prefix(hierarchy()).unwrap().display())
    }

    /// What its `cpuset.cpus` says.
    pub fn cpus(&self) -> String {
        fs::read_to_string(self.folder.join("cpuset.cpus")).unwrap().trim().to_owned()
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        let mut cgroups = CGROUPS.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        // EBUSY for a moment, while the kernel lets go of the last process.
        let deadline = Instant::now() + Duration::from_secs(2);
        while fs::remove_dir(&self.folder).is_err() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(1));
        }
        *cgroups -= 1;
        let own = own_folder();
        let above = self.folder.ancestors().skip(1);
        // Those that others are in stay.
        for folder in above
            .take_while(|folder| folder.starts_with(&own) && (**folder != own || *cgroups == 0))
        {
            let _ = fs::remove_dir(folder);
        }
    }
}

/// A CFS quota of half a CPU on a cgroup, until this is dropped.
#[derive(Debug)]
pub struct Quota(Vec<PathBuf>);

impl Quota {
    /// On this cgroup.
    pub fn on(cgroup: &Cgroup) -> Self {
        let path = cgroup.path();
        let parent = path.rsplit_once('/').unwrap().0;
        if hierarchy() == Path::new(ROOT) {
            for above in ["", parent] {
                fs::write(format!("{ROOT}{above}/cgroup.subtree_control"), "+cpu").unwrap();
            }
            fs::write(format!("{ROOT}{path}/cpu.max"), "50000 100000").unwrap();
            return Self(Vec::new());
        }
        // The container's in another hierarchy.
        let folders = [&path, parent].map(|path| PathBuf::from(format!("{ROOT}/cpu{path}")));
        fs::create_dir_all(&folders[0]).unwrap();
        fs::write(folders[0].join("cpu.cfs_quota_us"), "50000").unwrap();
        Self(folders.into())
    }
}

impl Drop for Quota {
    fn drop(&mut self) {
        for folder in &self.0 {
            // The one above may have another's.
            let _ = fs::remove_dir(folder);
        }
    }
}

/// Whether any process is in the cgroup of this path.
pub fn is_populated(path: &str) -> bool {
    let folder = hierarchy().join(path.trim_start_matches('/'));
    fs::read_to_string(folder.join("cgroup.procs")).is_ok_and(|pids| !pids.is_empty())
}

/// What the mark on the cgroup of this path says; none where there is none.
pub fn mark_of(path: &str) -> Option<String> {
    let folder = hierarchy().join(path.trim_start_matches('/'));
    let mut mark = [0; 1024];
    let length = rustix::fs::getxattr(folder, "trusted.kcm.owner", &mut mark[..]).ok()?;
    Some(String::from_utf8(mark[..length].to_vec()).unwrap())
}

/// The inode of the cgroup of this path; 0 where it is gone.
pub fn inode_of(path: &str) -> u64 {
    let folder = hierarchy().join(path.trim_start_matches('/'));
    fs::metadata(folder).map_or(0, |folder| folder.ino())
}

/// This test's folder.
fn own_folder() -> PathBuf {
    hierarchy().join(format!("kcm-test-{}", std::process::id()))
}

/// Where the cpuset controller is: cgroup v1's own hierarchy, or the one of cgroup v2.
fn hierarchy() -> PathBuf {
    let v1 = Path::new(ROOT).join("cpuset");
    if v1.join("cpuset.cpus").exists() { v1 } else { ROOT.into() }
}

/// Makes a cgroup in which processes may run, and those above it. On cgroup v1 it has no CPUs until it is
/// given some.
fn make(folder: &Path) {
    if folder.exists() {
        return;
    }
    let parent = folder.parent().unwrap();
    make(parent);
    let v2 = Path::new(ROOT).join("cgroup.controllers").exists();
    if v2 {
        fs::write(parent.join("cgroup.subtree_control"), "+cpuset").unwrap();
    }
    fs::create_dir(folder).unwrap();
    if !v2 {
        for name in CPUSET_FILES {
            fs::write(folder.join(name), fs::read(parent.join(name)).unwrap()).unwrap();
        }
    }
}
