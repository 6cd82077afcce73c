//! Marks in the environment, by which a process is known that has nothing else of its `kcm isolate`
//! any more: no cgroup, no descriptor, no parent.
//!
//! Who reads another's environment (proc_pid_environ(5)) may have to wait for as long as that one
//! likes: it lies in its memory, and its memory in a file system of its own (fuse(4)) or behind
//! userfaultfd(2). So a process of its own reads, which says of each process that it is about to
//! read, and what it has found; it is killed where it does not come on. What was not read may have
//! a mark.

mod reader;

use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, Instant};

use super::procfs::Procfs;
use super::{Error, errand, list};
use crate::allocation::Allocation;
use crate::task::Pid;
pub(super) use reader::look;
use reader::{Reader, Said};

/// The variable that has the mark.
pub const VARIABLE: &str = "KCM_OWNER";

/// How often processes are listed: what is started meanwhile may come of one that had a mark.
const LISTINGS: usize = 3;

/// A mark to look for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark {
    /// The digest of the value of [`VARIABLE`]: the value itself only those know that have it.
    pub digest: String,
    /// Whose it is.
    pub owner: String,
    /// The start time of the `kcm isolate` that gave it, in clock ticks since boot, where it is
    /// known: what has started before cannot have it.
    pub since: Option<u64>,
}

impl Mark {
    /// The mark of what an `isolate` has started; none where there is none.
    pub fn of(record: &Allocation) -> Option<Self> {
        let digest = record.details.mark.clone()?;
        Some(Self { digest, owner: record.owner.to_string(), since: record.process.start_time })
    }
}

/// What is known of a mark.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// No process has it.
    Nowhere,
    /// This one has it.
    In(Pid),
    /// No process is known to have it, but these could not be read, or not in time.
    Unknown(Vec<Pid>),
}

/// What a record says of a mark: its SHA-256, in hexadecimal.
pub fn digest(value: &[u8]) -> String {
    use sha2::Digest;
    sha2::Sha256::digest(value).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A mark that nobody can guess, for an owner.
pub fn new_mark(procfs: &Procfs, owner: &str) -> Result<String, Error> {
    Ok(format!("{owner}-{}", procfs.random_uuid()?))
}

/// Looks for marks in the environments of all processes that a procfs shows: one answer for each
/// mark, in their order. Takes hardly longer than `limit`.
pub fn search(procfs: &Procfs, marks: &[Mark], limit: Duration) -> Result<Vec<Found>, Error> {
    search_by(Path::new(errand::THIS_PROGRAM), procfs, marks, limit)
}

/// The same; this program reads, one that begins with [`errand::run_if_sent`].
pub fn search_by(
    program: &Path,
    procfs: &Procfs,
    marks: &[Mark],
    limit: Duration,
) -> Result<Vec<Found>, Error> {
    let deadline = Instant::now() + limit;
    let mut search = Search {
        program,
        procfs,
        marks,
        listed: BTreeSet::new(),
        unread: Vec::new(),
        holders: vec![None; marks.len()],
    };
    for _ in 0..LISTINGS {
        let mut left = search.list_new()?;
        while !left.is_empty() {
            search.read(&mut left, deadline, limit / 4);
        }
    }
    Ok((0..marks.len()).map(|nth| search.found(nth)).collect())
}

/// A process, or the thread of one whose first has ended, to be read.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Candidate {
    pid: Pid,
    start_time: u64,
    thread: Option<Pid>,
}

struct Search<'a> {
    program: &'a Path,
    procfs: &'a Procfs,
    marks: &'a [Mark],
    listed: BTreeSet<Candidate>,
    unread: Vec<Candidate>,
    holders: Vec<Option<Pid>>,
}

impl Search<'_> {
    /// The processes that were not listed before, and that are young enough to have a mark.
    fn list_new(&mut self) -> Result<Vec<Candidate>, Error> {
        let earliest = self.marks.iter().map(|mark| mark.since.unwrap_or_default()).min();
        let mut new = Vec::new();
        for entry in list(self.procfs.root())? {
            let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
                continue;
            };
            let Some(stat) = self.procfs.stat(pid)? else { continue };
            if Some(stat.start_time) < earliest || Some(pid) == self.procfs.own_pid() {
                continue;
            }
            let thread = match stat.ended {
                false => None,
                true => match self.procfs.live_thread(pid)? {
                    None => continue,
                    thread => thread,
                },
            };
            let candidate = Candidate { pid, start_time: stat.start_time, thread };
            if self.listed.insert(candidate.clone()) {
                new.push(candidate);
            }
        }
        Ok(new)
    }

    /// Has one process read as many as it can, and takes those away. One at which it does not come
    /// on is passed over, for the others' sake.
    fn read(&mut self, left: &mut Vec<Candidate>, deadline: Instant, patience: Duration) {
        let mut about = None;
        if let Ok(mut reader) = Reader::start(self.program, self.procfs, self.marks, left) {
            loop {
                let said = reader.next(deadline.min(Instant::now() + patience));
                match (said, about) {
                    (Some(Said::Next), None) => about = Some(0),
                    (Some(Said::Next), Some(nth)) => about = Some(nth + 1),
                    (Some(Said::HasMark(mark)), Some(nth)) => self.has(left.get(nth), mark),
                    (Some(Said::Denied), Some(nth)) => self.unread.extend(left.get(nth).cloned()),
                    (Some(Said::End), _) => return left.clear(),
                    _ => break,
                }
            }
        }
        let passed = match about {
            Some(nth) if Instant::now() < deadline => nth + 1,
            // It did not begin, or there is no time left.
            _ => left.len(),
        };
        let first = about.unwrap_or_default().min(left.len());
        let passed: Vec<Candidate> = left.drain(..passed.min(left.len())).collect();
        self.unread.extend(passed.into_iter().skip(first));
    }

    fn has(&mut self, candidate: Option<&Candidate>, mark: usize) {
        if let (Some(candidate), Some(holder)) = (candidate, self.holders.get_mut(mark)) {
            holder.get_or_insert(candidate.pid);
        }
    }

    fn found(&self, nth: usize) -> Found {
        if let Some(pid) = self.holders[nth] {
            return Found::In(pid);
        }
        let since = self.marks[nth].since.unwrap_or_default();
        let may_have_it = |candidate: &&Candidate| {
            // One that has ended meanwhile holds nothing.
            let is_gone = match self.procfs.stat(candidate.pid) {
                Ok(None) => true,
                Ok(Some(stat)) => stat.start_time != candidate.start_time,
                Err(_) => false,
            };
            candidate.start_time >= since && !is_gone
        };
        let unknown: BTreeSet<Pid> =
            self.unread.iter().filter(may_have_it).map(|candidate| candidate.pid).collect();
        match unknown.is_empty() {
            true => Found::Nowhere,
            false => Found::Unknown(unknown.into_iter().collect()),
        }
    }
}
