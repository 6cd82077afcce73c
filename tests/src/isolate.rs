//! `kcm isolate` on a configuration directory: started, looked at while it runs, and ended.

use std::ffi::OsString;
use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::{NamedTempFile, TempDir};

use crate::conf_dir::ConfDir;
use crate::kcm::{Outcome, bare};
use crate::machine::{is_running, until};
use crate::programs::program;

/// One call of `kcm isolate`, not yet made.
#[derive(Clone, Debug)]
pub struct Isolate {
    words: Vec<OsString>,
    environment: Vec<(String, OsString)>,
}

impl Isolate {
    /// On this directory, from this pool, with these flags; the command is still missing.
    pub fn new(conf_dir: &ConfDir, pool: &str, flags: &[&str]) -> Self {
        let conf_dir = conf_dir.path().to_str().unwrap();
        let start = Self::of([program("kcm").as_os_str(), "isolate".as_ref()]);
        let start = start.words([format!("--conf-dir={conf_dir}"), format!("--pool={pool}")]);
        start.words(flags)
    }

    /// Any command line.
    pub fn of<W: Into<OsString>>(words: impl IntoIterator<Item = W>) -> Self {
        Self { words: Vec::new(), environment: Vec::new() }.words(words)
    }

    /// With more words.
    pub fn words<W: Into<OsString>>(mut self, words: impl IntoIterator<Item = W>) -> Self {
        self.words.extend(words.into_iter().map(Into::into));
        self
    }

    /// With a shell script as its command.
    pub fn script(self, script: &str) -> Self {
        self.words(["/bin/sh", "--", "-c", script])
    }

    /// With this variable in its environment.
    pub fn env(mut self, name: &str, value: impl Into<OsString>) -> Self {
        self.environment.push((name.to_owned(), value.into()));
        self
    }

    /// Started by another command, whose words come first. If that one executes it in its own
    /// place, [`Running::pid`] is right.
    pub fn under<W: Into<OsString>>(mut self, wrapper: impl IntoIterator<Item = W>) -> Self {
        let mut words: Vec<OsString> = wrapper.into_iter().map(Into::into).collect();
        words.append(&mut self.words);
        self.words = words;
        self
    }

    /// In a cgroup namespace of its own, where kcm makes no cgroup: affinity, a lock and a mark hold.
    pub fn by_affinity(self) -> Self {
        self.under(["unshare", "--cgroup"])
    }

    /// Its words.
    pub fn as_words(&self) -> &[OsString] {
        &self.words
    }

    /// Starts it.
    pub fn start(&self) -> Running {
        let folder = tempfile::tempdir().unwrap();
        let mut command = Command::new(&self.words[0]);
        bare(&mut command);
        let child = command
            .args(&self.words[1..])
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(File::create(folder.path().join("out")).unwrap())
            .stderr(File::create(folder.path().join("err")).unwrap())
            .spawn();
        let child = child.unwrap_or_else(|e| panic!("cannot run {command:?}: {e}"));
        Running { child, folder }
    }

    /// Runs it to its end.
    pub fn run(&self) -> Outcome {
        self.start().finish()
    }
}

/// A `kcm isolate` under way; killed, with all that it has started, when dropped.
#[derive(Debug)]
pub struct Running {
    child: Child,
    folder: TempDir,
}

impl Running {
    /// Its process.
    pub fn pid(&self) -> i32 {
        self.child.id() as i32
    }

    /// Who it is in the configuration directory.
    pub fn owner(&self) -> String {
        format!("isolate-{}", self.pid())
    }

    /// Its standard output so far.
    pub fn out(&self) -> String {
        fs::read_to_string(self.folder.path().join("out")).unwrap()
    }

    /// Its standard error so far, but for the line that says what holds the CPUs.
    pub fn err(&self) -> String {
        split_off_holder(&self.all_err()).0
    }

    /// What it says that holds the CPUs, once it has said so.
    pub fn held_by(&self) -> String {
        until("kcm to say what holds the CPUs", || split_off_holder(&self.all_err()).1)
    }

    /// The cgroup of its own that its command is in, as it says.
    pub fn cgroup(&self) -> String {
        let said = self.held_by();
        let cgroup = said.split_once("are held by cgroup ").map(|(_, rest)| rest.split(',').next());
        cgroup.flatten().unwrap_or_else(|| panic!("no cgroup: {said}")).to_owned()
    }

    fn all_err(&self) -> String {
        fs::read_to_string(self.folder.path().join("err")).unwrap()
    }

    /// A line of its standard output, counted from 0, once it is there.
    pub fn line(&self, nth: usize) -> String {
        until(&format!("line {nth} of a command"), || {
            let (out, err) = (self.out(), self.err());
            assert!(!err.contains("ERROR "), "{err}");
            let whole = out.rfind('\n').map_or("", |end| &out[..end]);
            whole.lines().nth(nth).map(str::to_owned)
        })
    }

    /// The process whose PID is such a line. It ends when that is dropped.
    pub fn process(&self, nth: usize) -> Process {
        Process::of(self.line(nth).parse().unwrap())
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.pid()), signal).unwrap();
    }

    /// Whether it has not ended.
    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Ends it as `kill -9` does, and waits for its end; what it had started may live on.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Does so, and leaves it a zombie.
    pub fn kill_without_waiting(&mut self) {
        self.child.kill().unwrap();
        until("a zombie", || (!is_running(self.pid())).then_some(()));
    }

    /// Waits for its end.
    pub fn finish(mut self) -> Outcome {
        let status = until("kcm isolate to end", || self.child.try_wait().unwrap());
        let stdout = fs::read(self.folder.path().join("out")).unwrap();
        let stderr = self.err().into_bytes();
        std::process::Output { status, stdout, stderr }.into()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if !self.is_running() {
            return;
        }
        let below = descendants(self.pid());
        let below: Vec<Process> = below.into_iter().filter_map(Process::if_there).collect();
        self.kill();
        drop(below);
    }
}

/// What is said on standard error without the line that says what holds the CPUs, and that line.
pub fn split_off_holder(err: &str) -> (String, Option<String>) {
    let is_it = |line: &&str| line.starts_with("INFO CPUs ") && line.contains(" are held by ");
    let mut lines: Vec<&str> = err.split_inclusive('\n').collect();
    let holder = lines.iter().position(is_it).map(|nth| lines.remove(nth));
    let whole = holder.filter(|line| line.ends_with('\n'));
    (lines.concat(), whole.map(|line| line.trim_end().to_owned()))
}

/// What a process has started, and so on.
pub fn descendants(pid: i32) -> Vec<i32> {
    let children = |pid| {
        let text = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
        let pids = text.unwrap_or_default();
        pids.split_whitespace().map(|word| word.parse().unwrap()).collect::<Vec<i32>>()
    };
    let mut all = children(pid);
    let mut seen = 0;
    while seen < all.len() {
        all.extend(children(all[seen]));
        seen += 1;
    }
    all
}

/// A process that was started by a command, known by its PID and start time; killed when dropped.
#[derive(Debug)]
#[must_use]
pub struct Process {
    pid: i32,
    start_time: u64,
}

impl Process {
    /// The process that has this PID now.
    pub fn of(pid: i32) -> Self {
        Self::if_there(pid).unwrap_or_else(|| panic!("there is no process {pid}"))
    }

    fn if_there(pid: i32) -> Option<Self> {
        Some(Self { pid, start_time: start_time(pid)? })
    }

    /// Its PID.
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// Whether it is there, and no zombie.
    pub fn is_running(&self) -> bool {
        is_running(self.pid) && start_time(self.pid) == Some(self.start_time)
    }

    /// Waits for its end.
    pub fn ends(&self) {
        until(&format!("process {} to end", self.pid), || (!self.is_running()).then_some(()));
    }

    /// Kills it, and waits for its end.
    pub fn kill(&self) {
        assert!(self.is_running(), "process {} has ended by itself", self.pid);
        self.end();
    }

    fn end(&self) {
        let _ = kill(Pid::from_raw(self.pid), Signal::SIGKILL);
        self.ends();
    }

    /// A field of its `status`, as `SigIgn`.
    pub fn status(&self, name: &str) -> String {
        status(self.pid, name)
    }

    /// A variable of its environment.
    pub fn environment(&self, name: &str) -> Option<String> {
        let bytes = fs::read(format!("/proc/{}/environ", self.pid)).unwrap();
        let text = String::from_utf8(bytes).unwrap();
        let value = |entry: &str| Some(entry.strip_prefix(name)?.strip_prefix('=')?.to_owned());
        text.split('\0').find_map(value)
    }

    /// What its descriptors stand for.
    pub fn open_files(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(format!("/proc/{}/fd", self.pid)).unwrap();
        entries.filter_map(|entry| fs::read_link(entry.unwrap().path()).ok()).collect()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.is_running() {
            self.end();
        }
    }
}

/// A field of a process's `status`, as `SigIgn`.
pub fn status(pid: i32, name: &str) -> String {
    status_if_there(pid, name).unwrap_or_else(|| panic!("there is no process {pid}"))
}

/// The same; none where the process is gone.
pub fn status_if_there(pid: i32, name: &str) -> Option<String> {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    Some(value?.trim().to_owned())
}

/// Field 22 of `stat` (proc_pid_stat(5)).
fn start_time(pid: i32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(')')?.1.split_whitespace().nth(19)?.parse().ok()
}

/// Something that a shell script waits for.
#[derive(Debug)]
pub struct Gate {
    closed: NamedTempFile,
}

impl Gate {
    /// A gate that is closed. It opens by itself when it is dropped, so no script waits for ever.
    #[allow(clippy::new_without_default)]
    pub fn new() -> Self {
        Self { closed: NamedTempFile::new().unwrap() }
    }

    /// What a script says to wait until it is open.
    pub fn wait(&self) -> String {
        format!("while [ -e {} ]; do sleep 0.05; done", self.closed.path().display())
    }

    /// Lets the scripts go on.
    pub fn open(self) {
        drop(self);
    }
}

/// Fails the test unless the call was refused before its command ran: status 125, nothing on
/// standard output, and one ERROR line with all these parts.
#[track_caller]
pub fn must_be_refused(outcome: &Outcome, parts: &[&str]) {
    assert_eq!((outcome.code, outcome.out.as_str()), (Some(125), ""), "{outcome:?}");
    let errors = outcome.lines("ERROR");
    assert_eq!(errors.len(), 1, "{outcome:?}");
    for part in parts {
        assert!(errors[0].contains(part), "{part:?} is not in {outcome:?}");
    }
}

/// Fails the test unless a list of pool `p` that is the only one has this holder, and the next
/// isolate is refused, which changes nothing.
#[track_caller]
pub fn must_be_held(conf_dir: &ConfDir, list: &str, pid: i32) {
    assert_eq!(conf_dir.tasks("p", list), pid.to_string());
    let before = conf_dir.snapshot();
    let outcome = Isolate::new(conf_dir, "p", &["true"]).run();
    must_be_refused(&outcome, &["No free cpu lists in pool p"]);
    assert_eq!(conf_dir.snapshot(), before);
}

/// Fails the test unless every CPU list is free, and no record and no temporary file is there.
#[track_caller]
pub fn nothing_must_be_held(conf_dir: &ConfDir) {
    let files = conf_dir.snapshot();
    let tasks = files.iter().filter(|(path, _)| path.ends_with("tasks"));
    let held: Vec<_> = tasks.filter(|(_, content)| !content.is_empty()).collect();
    assert!(held.is_empty(), "{held:?}");
    assert_eq!(conf_dir.allocations(), [""; 0]);
}

/// Fails the test unless the next isolate gets a list by itself, and gives it back. What was killed,
/// or dies with what was, may take a moment to be gone.
#[track_caller]
pub fn must_be_free(conf_dir: &ConfDir) {
    let outcome = until("a list to be free", || {
        let outcome = Isolate::new(conf_dir, "p", &["--", "echo", "mine"]).run();
        (!outcome.err.contains("ERROR No free cpu lists")).then_some(outcome)
    });
    assert_eq!((outcome.code, outcome.out.as_str()), (Some(0), "mine\n"), "{outcome:?}");
    nothing_must_be_held(conf_dir);
}
