//! The process that reads, and what it says. It is told the procfs, the marks, and the processes, and
//! says one letter and perhaps a number a line.

use std::fs::File;
use std::io::{self, BufRead, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::{Child, ChildStdout};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::super::errand::Errand;
use super::super::procfs::{Procfs, field_of_stat};
use super::super::{is_gone, read};
use super::{Candidate, Mark, VARIABLE, digest};

/// What of an environment is read at most, in bytes: the kernel takes 6 MiB of arguments and
/// environment (execve(2), "Limits on size of arguments and environment").
const ENVIRONMENT_LIMIT: u64 = 8 << 20;

/// What a reader is told at most, in bytes: room for all process ids that there can be.
const TOLD_LIMIT: u64 = 256 << 20;

/// How long a killed reader may take to end before it is left alone.
const END: Duration = Duration::from_millis(200);

/// What a reader says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Said {
    /// It begins with the next process.
    Next,
    /// That one has this mark.
    HasMark(usize),
    /// That one cannot be read.
    Denied,
    /// It has read all.
    End,
}

/// A process that reads; killed when this is dropped.
pub(super) struct Reader {
    child: Child,
    output: ChildStdout,
    heard: Vec<u8>,
}

impl Reader {
    pub(super) fn start(
        program: &Path,
        procfs: &Procfs,
        marks: &[Mark],
        candidates: &[Candidate],
    ) -> io::Result<Self> {
        let mut child = Errand::LookForMarks.start(program)?;
        let missing = || io::Error::from(io::ErrorKind::BrokenPipe);
        let mut input = child.stdin.take().ok_or_else(missing)?;
        let output = child.stdout.take().ok_or_else(missing)?;
        let reader = Self { child, output, heard: Vec::new() };
        // It says nothing before it has heard all.
        let mut told = procfs.root().as_os_str().as_bytes().to_vec();
        told.push(0);
        told.extend(format!("{}\0", marks.len()).as_bytes());
        for mark in marks {
            told.extend(mark.digest.as_bytes());
            told.push(0);
        }
        for Candidate { pid, thread, .. } in candidates {
            let place = match thread {
                None => format!("{pid}\0"),
                Some(thread) => format!("{pid}/task/{thread}\0"),
            };
            told.extend(place.as_bytes());
        }
        input.write_all(&told)?;
        Ok(reader)
    }

    /// The next thing that it says; none where it says nothing in time, or no more.
    pub(super) fn next(&mut self, deadline: Instant) -> Option<Said> {
        loop {
            if let Some(end) = self.heard.iter().position(|&byte| byte == b'\n') {
                let line: Vec<u8> = self.heard.drain(..=end).collect();
                return parse(&line[..end]);
            }
            if !self.is_readable(deadline) {
                return None;
            }
            let mut chunk = [0; 4096];
            match self.output.read(&mut chunk) {
                Ok(0) => return None,
                Ok(count) => self.heard.extend_from_slice(&chunk[..count]),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return None,
            }
        }
    }

    fn is_readable(&self, deadline: Instant) -> bool {
        loop {
            let left = deadline.saturating_duration_since(Instant::now()).as_millis();
            let timeout = PollTimeout::try_from(left + 1).unwrap_or(PollTimeout::MAX);
            let mut fds = [PollFd::new(self.output.as_fd(), PollFlags::POLLIN)];
            match poll(&mut fds, timeout) {
                Ok(0) => return false,
                Ok(_) => return true,
                Err(nix::errno::Errno::EINTR) if Instant::now() < deadline => {}
                Err(_) => return false,
            }
        }
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let _ = self.child.kill();
        // It may hang in the kernel for as long as another process likes; so must we not. Its
        // output ends when it does.
        let deadline = Instant::now() + END;
        let mut chunk = [0; 4096];
        while self.is_readable(deadline) {
            if !matches!(self.output.read(&mut chunk), Ok(1..)) {
                let _ = self.child.wait();
                return;
            }
        }
    }
}

fn parse(line: &[u8]) -> Option<Said> {
    match line.split_first()? {
        (b'N', b"") => Some(Said::Next),
        (b'D', b"") => Some(Said::Denied),
        (b'E', b"") => Some(Said::End),
        (b'H', number) => Some(Said::HasMark(std::str::from_utf8(number).ok()?.parse().ok()?)),
        _ => None,
    }
}

/// The reader's own work: what it is told comes from `input`, what it says goes to `output`.
pub(in crate::host) fn look(input: impl BufRead, mut output: impl Write) -> io::Result<()> {
    let mut told = Vec::new();
    input.take(TOLD_LIMIT).read_to_end(&mut told)?;
    let mut words = told.split(|&byte| byte == 0);
    let root = words.next().unwrap_or_default();
    let root = Path::new(std::ffi::OsStr::from_bytes(root));
    let text = |word: &[u8]| String::from_utf8_lossy(word).into_owned();
    let count: usize = words.next().and_then(|word| text(word).parse().ok()).unwrap_or_default();
    let mut marks = Vec::new();
    for _ in 0..count {
        marks.push(words.next().unwrap_or_default());
    }
    for place in words.filter(|word| !word.is_empty()) {
        output.write_all(b"N\n")?;
        output.flush()?;
        match environment(&root.join(text(place))) {
            Ok(environment) => {
                for value in values(&environment) {
                    let digest = digest(value);
                    let has = |mark: &&[u8]| *mark == digest.as_bytes();
                    for (nth, _) in marks.iter().enumerate().filter(|(_, mark)| has(mark)) {
                        writeln!(output, "H{nth}")?;
                    }
                }
            }
            Err(e) if is_gone(&e) => {}
            Err(_) => output.write_all(b"D\n")?,
        }
    }
    output.write_all(b"E\n")?;
    output.flush()
}

/// The values that the variable has in an environment.
fn values(environment: &[u8]) -> impl Iterator<Item = &[u8]> {
    let entries = environment.split(|&byte| byte == 0);
    let values =
        entries.filter_map(|entry| entry.strip_prefix(VARIABLE.as_bytes())?.strip_prefix(b"="));
    // The first is what programs see (getenv(3)); somebody may have put in many.
    values.take(1)
}

/// A process's whole environment. While one is about to execute another program, it has none for a
/// moment.
fn environment(process: &Path) -> io::Result<Vec<u8>> {
    loop {
        let mut bytes = Vec::new();
        let file = File::open(process.join("environ"))?;
        file.take(ENVIRONMENT_LIMIT + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > ENVIRONMENT_LIMIT {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        if !bytes.is_empty() || !is_between_programs(process) {
            return Ok(bytes);
        }
        std::thread::yield_now();
    }
}

/// Whether a process has memory (field 23 of stat, which a thread of the kernel's has not), but no
/// place for an environment yet (field 51).
fn is_between_programs(process: &Path) -> bool {
    let stat = read(&process.join("stat")).ok().flatten().unwrap_or_default();
    let field = |number| field_of_stat(&stat, number);
    field(23).is_some_and(|size| size != "0") && field(51) == Some("0")
}
