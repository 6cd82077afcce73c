//! Calling the built `kcm-hook` as a runtime does: the OCI state on standard input.

use std::ffi::OsString;
use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::isolate::descendants;
use crate::machine::until;
use crate::programs::program;
use crate::stand_in::StandIn;

/// The annotation that asks for a pool.
pub const POOL: &str = "kcm.intel.com/pool";
/// The annotation that asks for several CPU lists.
pub const CORES: &str = "kcm.intel.com/cores";

/// One call of the hook, not yet made.
#[derive(Clone, Debug)]
pub struct HookCall {
    words: Vec<OsString>,
    environment: Vec<(String, String)>,
    input: String,
}

/// How a call ended.
#[derive(Debug)]
pub struct Ran {
    /// Its exit status.
    pub status: ExitStatus,
    /// What it said on standard error.
    pub stderr: String,
}

impl HookCall {
    /// createRuntime for a container that asks for one CPU list of a pool.
    pub fn create(conf_dir: &Path, container: &StandIn, pool: &str) -> Self {
        Self::with_input(conf_dir, "createRuntime", container.state(&[(POOL, pool)]))
    }

    /// createRuntime for a container that asks for several CPU lists of a pool.
    pub fn create_cores(conf_dir: &Path, container: &StandIn, pool: &str, cores: usize) -> Self {
        let state = container.state(&[(POOL, pool), (CORES, &cores.to_string())]);
        Self::with_input(conf_dir, "createRuntime", state)
    }

    /// poststop for a container, with what runc says of one that has ended.
    pub fn poststop(conf_dir: &Path, id: &str) -> Self {
        let state = serde_json::json!({
            "ociVersion": "1.0.2", "id": id, "status": "stopped", "bundle": "",
        });
        Self::with_input(conf_dir, "poststop", state.to_string())
    }

    /// Any stage with any input.
    pub fn with_input(conf_dir: &Path, stage: &str, input: String) -> Self {
        let mut conf_dir_flag = OsString::from("--conf-dir=");
        conf_dir_flag.push(conf_dir);
        let words = vec![program("kcm-hook").into(), conf_dir_flag, stage.into()];
        Self { words, environment: Vec::new(), input }
    }

    /// With another flag.
    pub fn flag(mut self, flag: &str) -> Self {
        self.words.push(flag.into());
        self
    }

    /// With a time limit for the lock, as text.
    pub fn lock_timeout(mut self, seconds: &str) -> Self {
        self.environment.push(("KCM_LOCK_TIMEOUT".into(), seconds.into()));
        self
    }

    /// Another copy of the hook.
    pub fn with_program(mut self, path: &Path) -> Self {
        self.words[0] = path.into();
        self
    }

    /// Run by another command, whose words come first.
    pub fn under<W: Into<OsString>>(mut self, wrapper: impl IntoIterator<Item = W>) -> Self {
        let mut words: Vec<OsString> = wrapper.into_iter().map(Into::into).collect();
        words.append(&mut self.words);
        self.words = words;
        self
    }

    /// Starts it. It waits for its input until [`Started::finish`].
    pub fn start(&self) -> Started {
        let child = Command::new(&self.words[0])
            .args(&self.words[1..])
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .envs(self.environment.iter().cloned())
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn();
        Started { child: child.unwrap(), input: self.input.clone() }
    }

    /// Starts it, and stops it when it has been given a list and begins to bind the container to it.
    pub fn start_and_stop(&self) -> Stopped {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("log");
        let stop = "inject=sched_setaffinity:signal=SIGSTOP:when=1";
        let strace = ["strace", "-f", "-qq", "-e", "trace=sched_setaffinity", "-e", stop, "-o"];
        let strace = strace.map(OsString::from).into_iter().chain([log.clone().into()]);
        let mut strace = self.clone().under(strace).start();
        strace.give_input();
        until("the hook to be stopped at its work", || {
            let said = std::fs::read_to_string(&log).unwrap_or_default();
            said.contains("stopped by SIGSTOP").then_some(())
        });
        let [hook] = descendants(strace.pid())[..] else { panic!("strace runs one hook") };
        Stopped { strace, hook }
    }

    /// Runs it to its end.
    pub fn run(&self) -> Ran {
        let mut started = self.start();
        started.give_input();
        started.finish()
    }
}

/// A call that was stopped.
#[derive(Debug)]
pub struct Stopped {
    strace: Started,
    hook: i32,
}

impl Stopped {
    /// Lets it go on to its end.
    pub fn finish(self) -> Ran {
        kill(Pid::from_raw(self.hook), Signal::SIGCONT).unwrap();
        self.strace.finish()
    }
}

/// A call under way.
#[derive(Debug)]
pub struct Started {
    child: Child,
    input: String,
}

impl Started {
    /// Gives it the container's state, all that it waits for.
    pub fn give_input(&mut self) {
        if let Some(mut stdin) = self.child.stdin.take() {
            // It may have ended already, or leave a part unread.
            let _ = stdin.write_all(self.input.as_bytes());
        }
    }

    /// Its process.
    pub fn pid(&self) -> i32 {
        self.child.id() as i32
    }

    /// Kills it.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
    }

    /// Waits for its end.
    pub fn finish(self) -> Ran {
        let output = self.child.wait_with_output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        Ran { status: output.status, stderr }
    }
}

impl Ran {
    /// Whether it ended with status 0.
    pub fn succeeded(&self) -> bool {
        self.status.success()
    }

    /// Whether SIGKILL ended it.
    pub fn was_killed(&self) -> bool {
        self.status.signal() == Some(9)
    }

    /// Fails the test unless it ended with status 0.
    #[track_caller]
    pub fn must_succeed(self) -> Self {
        assert!(self.succeeded(), "{}: {}", self.status, self.stderr);
        self
    }

    /// Fails the test unless it refused, with these parts in the one line that says why.
    #[track_caller]
    pub fn must_refuse(self, parts: &[&str]) -> Self {
        assert_eq!(self.status.code(), Some(1), "{}", self.stderr);
        let last = self.stderr.lines().last().unwrap_or_default();
        assert!(last.starts_with("kcm-hook: "), "{}", self.stderr);
        for part in parts {
            assert!(last.contains(part), "{part:?} is not in {:?}", self.stderr);
        }
        self
    }
}
