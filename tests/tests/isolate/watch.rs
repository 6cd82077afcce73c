//! The signals that a process sends, and those that reach it, as strace(1) sees them: two of a kind
//! that come at once look like one to the process itself.

use std::fs;
use std::process::{Child, Command, Stdio};

use kcm_tests::machine::until;
use tempfile::NamedTempFile;

/// strace on a process until that ends.
pub(crate) struct Watch {
    strace: Child,
    log: NamedTempFile,
}

impl Watch {
    /// Begins to watch.
    pub(crate) fn on(pid: i32) -> Self {
        let log = NamedTempFile::new().unwrap();
        let calls = "trace=kill,tkill,tgkill,rt_sigqueueinfo,rt_tgsigqueueinfo,pidfd_send_signal";
        let mut strace = Command::new("strace");
        strace.args(["-qq", "-e", calls, "-p", &pid.to_string(), "-o"]).arg(log.path());
        let strace = strace.stdin(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let tracer = format!("TracerPid:\t{}\n", strace.id());
        until("strace to watch", || {
            let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
            status.contains(&tracer).then_some(())
        });
        Self { strace, log }
    }

    /// What was seen, once the process has ended.
    pub(crate) fn seen(mut self) -> Seen {
        until("a watched process to end", || self.strace.try_wait().unwrap());
        Seen { log: fs::read_to_string(self.log.path()).unwrap() }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let _ = self.strace.kill();
        let _ = self.strace.wait();
    }
}

/// What strace saw.
#[derive(Debug)]
pub(crate) struct Seen {
    log: String,
}

impl Seen {
    /// How often a signal, as `SIGINT`, reached the process.
    pub(crate) fn reached(&self, signal: &str) -> usize {
        let start = format!("--- {signal} {{");
        self.log.lines().filter(|line| line.starts_with(&start)).count()
    }

    /// How often the process sent it, to whomever.
    pub(crate) fn sent(&self, signal: &str) -> usize {
        let sends = |line: &&str| !line.starts_with("---") && line.contains(&format!(" {signal}"));
        self.log.lines().filter(sends).count()
    }
}
