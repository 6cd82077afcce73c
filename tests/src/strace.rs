//! Running a program under strace(1): which system calls it makes, and what becomes of it when one
//! of them is its last, or fails.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

use crate::hook::{HookCall, Ran};
use crate::isolate::Isolate;

/// System calls that change something that others see, or order such changes. `exit_group` is the
/// point after the last change.
const CHANGES: &[&str] = &[
    "write",
    "writev",
    "pwrite64",
    "rename",
    "renameat",
    "renameat2",
    "link",
    "linkat",
    "symlink",
    "symlinkat",
    "setxattr",
    "unlink",
    "unlinkat",
    "rmdir",
    "mkdir",
    "mkdirat",
    "mknodat",
    "chmod",
    "fchmod",
    "fchmodat",
    "fchmodat2",
    "fchown",
    "fchownat",
    "lchown",
    "truncate",
    "ftruncate",
    "fallocate",
    "utimensat",
    "setxattr",
    "fsync",
    "flock",
    "sched_setaffinity",
    "kill",
    "tgkill",
    "sendto",
    "sendmsg",
    "connect",
    "clone",
    "clone3",
    "vfork",
    "exit_group",
];

/// System calls that open a file: they change something if they may create or write.
const OPENS: &[&str] = &["open", "openat", "openat2", "creat"];

/// System calls that change nothing outside the process.
const PRIVATE: &[&str] = &[
    "readlinkat",
    "getxattr",
    "execve",
    "brk",
    "mmap",
    "munmap",
    "mremap",
    "mprotect",
    "madvise",
    "arch_prctl",
    "prctl",
    "set_tid_address",
    "set_robust_list",
    "rseq",
    "prlimit64",
    "getrandom",
    "poll",
    "ppoll",
    "sigaltstack",
    "rt_sigaction",
    "rt_sigprocmask",
    "rt_sigreturn",
    "read",
    "readv",
    "pread64",
    "lseek",
    "close",
    "fcntl",
    "dup",
    "fstat",
    "stat",
    "statfs",
    "lstat",
    "newfstatat",
    "statx",
    "access",
    "faccessat",
    "faccessat2",
    "readlink",
    "readlinkat",
    "getdents64",
    "getcwd",
    "getpid",
    "getppid",
    "gettid",
    "geteuid",
    "getuid",
    "getgid",
    "getegid",
    "uname",
    "socket",
    "socketpair",
    "recvfrom",
    "recvmsg",
    "setsockopt",
    "timer_create",
    "timer_settime",
    "timer_delete",
    "clock_gettime",
    "sched_getaffinity",
    "signalfd4",
    "wait4",
    "getpgrp",
    "getsid",
    "sysinfo",
    "futex",
    "ioctl",
];

/// What can be run under strace.
pub trait Program {
    /// Runs it to its end, by this command.
    fn run_under(&self, wrapper: Vec<OsString>) -> Ran;
}

impl Program for HookCall {
    fn run_under(&self, wrapper: Vec<OsString>) -> Ran {
        self.clone().under(wrapper).run()
    }
}

impl Program for Isolate {
    fn run_under(&self, wrapper: Vec<OsString>) -> Ran {
        let outcome = self.clone().under(wrapper).run();
        let raw = outcome.code.map_or(outcome.signal.unwrap_or_default(), |code| code << 8);
        Ran { status: ExitStatus::from_raw(raw), stderr: outcome.err }
    }
}

/// One system call of a trace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SystemCall {
    /// Its name.
    pub name: String,
    /// The how-many-eth of its name it is, from 1.
    pub nth: usize,
    /// The line of the trace.
    pub line: String,
}

/// The system calls of one run.
#[derive(Debug)]
pub struct Trace {
    /// How the run ended.
    pub ran: Ran,
    /// All calls, in their order.
    pub calls: Vec<SystemCall>,
}

impl Trace {
    /// Runs the program to its end, and does these things to it, as in
    /// `renameat:signal=SIGKILL:when=2`. A signal comes on entering the system call, which is then
    /// not made. What it starts is left alone.
    pub fn of(program: &impl Program, injections: &[&str]) -> Self {
        Self::told(program, injections, &[])
    }

    /// The same, but told are only the calls to which something is done: what is not told costs less.
    pub fn of_injected(program: &impl Program, injections: &[&str]) -> Self {
        let names = injections.iter().filter_map(|injection| injection.split(':').next());
        let names: Vec<&str> = names.collect();
        Self::told(program, injections, &["-e", &format!("trace={}", names.join(","))])
    }

    fn told(program: &impl Program, injections: &[&str], flags: &[&str]) -> Self {
        let file = tempfile::NamedTempFile::new().unwrap();
        let mut strace = ["strace", "-s", "300", "-o"].map(OsString::from).to_vec();
        strace.push(file.path().into());
        strace.extend(flags.iter().map(OsString::from));
        for injection in injections {
            strace.extend(["-e".into(), format!("inject={injection}").into()]);
        }
        let ran = program.run_under(strace);
        Self { ran, calls: parse(&fs::read_to_string(file.path()).unwrap()) }
    }

    /// How many calls there are of this name.
    pub fn count(&self, name: &str) -> usize {
        self.calls.iter().filter(|call| call.name == name).count()
    }

    /// The calls that change something, in their order. Fails the test for a call of which nobody
    /// has said whether it does.
    pub fn changes(&self) -> Vec<SystemCall> {
        let changes = self.calls.iter().filter(|call| {
            let name = call.name.as_str();
            let writes = ["O_CREAT", "O_WRONLY", "O_RDWR"].iter().any(|f| call.line.contains(f));
            let opens = OPENS.contains(&name);
            let known = opens || CHANGES.contains(&name) || PRIVATE.contains(&name);
            assert!(known, "does {name} change anything? say so in {}: {}", file!(), call.line);
            let locks = name == "fcntl" && call.line.contains("SETLK");
            CHANGES.contains(&name) || locks || opens && writes
        });
        changes.cloned().collect()
    }
}

/// Lines of `strace -o`: `<name>(<arguments>) = <result>`.
fn parse(text: &str) -> Vec<SystemCall> {
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    let mut calls = Vec::new();
    for line in text.lines() {
        let Some((name, _)) = line.split_once('(') else { continue };
        if name.is_empty() || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
            continue;
        }
        let nth = counts.entry(name.to_owned()).or_default();
        *nth += 1;
        calls.push(SystemCall { name: name.to_owned(), nth: *nth, line: line.to_owned() });
    }
    calls
}
