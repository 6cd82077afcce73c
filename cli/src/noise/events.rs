//! Text of `trace_pipe` → events. A program's name may hold anything, line ends and the words of an
//! event included, so nothing is taken for an event that 15 characters of a name could make up.

/// Something that happened on a CPU.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Event {
    /// Where.
    pub(super) cpu: u32,
    /// The thread that the CPU ran then; 0 while idle.
    pub(super) thread: i32,
    /// When, in nanoseconds of the trace's clock. The text has microseconds.
    pub(super) at: u64,
    /// What.
    pub(super) what: What,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum What {
    /// Another thread gets the CPU.
    Switch { from: (i32, String), to: (i32, String) },
    /// An interrupt of a device or of the CPU itself, or a softirq, begins.
    Enter(Context, String),
    /// It ends.
    Leave(Context, String),
    /// The kernel adds so many nanoseconds to the run time of a thread: how long it has run since the
    /// last time, or since it got the CPU.
    Ran { thread: i32, time: u64 },
    /// A handler of non-maskable interrupts took so many nanoseconds, up to now.
    Nmi(u64),
    /// The thread has made another.
    Fork { child: i32 },
    /// Somebody has written into the trace.
    Marker(String),
    /// This CPU's buffer was full: so many events are missing before the next one; 0 where the
    /// kernel does not know.
    Lost(u64),
}

/// What interrupts a thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Context {
    /// A device's.
    Interrupt,
    /// One of the CPU's own: its timer, calls of other CPUs.
    Vector,
    Softirq,
}

/// Bytes of one event's text; the rest is left out. The kernel gives a page at the most.
const LINE: usize = 4096;

/// Takes text as it comes, and gives events.
#[derive(Debug, Default)]
pub(super) struct Reader {
    /// The line that has not ended yet.
    line: Vec<u8>,
    /// The event so far: what a name with a line end in it continues.
    event: String,
    /// Lines that belong to no event.
    pub(super) not_understood: u64,
}

impl Reader {
    /// More text.
    pub(super) fn take(&mut self, bytes: &[u8], give: &mut impl FnMut(Event)) {
        for &byte in bytes {
            if byte == b'\n' {
                self.end_of_line(give);
            } else if self.line.len() < LINE {
                self.line.push(byte);
            }
        }
    }

    /// There is no more for now: the kernel gives whole events.
    pub(super) fn flush(&mut self, give: &mut impl FnMut(Event)) {
        if !self.line.is_empty() {
            self.end_of_line(give);
        }
        self.end_of_event(give);
    }

    fn end_of_line(&mut self, give: &mut impl FnMut(Event)) {
        let line = String::from_utf8_lossy(&self.line).into_owned();
        self.line.clear();
        if Header::find(&line).is_some() || lost(&line).is_some() {
            self.end_of_event(give);
            self.event = line;
        } else if self.event.is_empty() {
            self.not_understood += 1;
        } else if self.event.len() + line.len() < LINE {
            self.event.push('\n');
            self.event.push_str(&line);
        }
    }

    fn end_of_event(&mut self, give: &mut impl FnMut(Event)) {
        if self.event.is_empty() {
            return;
        }
        match parse(&self.event) {
            Parsed::Event(event) => give(event),
            Parsed::Other => {}
            Parsed::Broken => self.not_understood += 1,
        }
        self.event.clear();
    }
}

enum Parsed {
    Event(Event),
    /// One that is not asked for.
    Other,
    Broken,
}

/// What stands before an event's fields.
#[derive(Debug, PartialEq, Eq)]
struct Header<'a> {
    thread: i32,
    cpu: u32,
    at: u64,
    name: &'a str,
    fields: &'a str,
}

impl<'a> Header<'a> {
    /// `%16s-%-7d [%03d] flags %5lu.%06lu: name: fields` (kernel/trace/trace_output.c). With a line
    /// end in the thread's name, only the name's end is on this line.
    fn find(line: &'a str) -> Option<Self> {
        let dashes = line.match_indices('-').map(|(at, _)| at).take_while(|&at| at <= NAME);
        dashes.filter_map(|at| Self::parse(&line[at + 1..])).next()
    }

    fn parse(text: &'a str) -> Option<Self> {
        let (thread, rest) = number(text)?;
        let rest = blanks(rest)?.strip_prefix('[')?;
        let (cpu, rest) = number(rest)?;
        let (flags, rest) = rest.strip_prefix("] ")?.split_once(' ')?;
        let (seconds, rest) = number(rest.trim_start_matches(' '))?;
        let rest = rest.strip_prefix('.')?;
        let (micros, after) = number(rest)?;
        let is_time = rest.len() - after.len() == 6 && (4..=6).contains(&flags.len());
        let (name, fields) = after.strip_prefix(": ")?.split_once(": ")?;
        let is_name = name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
        let at = seconds.checked_mul(1_000_000)?.checked_add(micros)?.checked_mul(1000)?;
        let (thread, cpu) = (i32::try_from(thread).ok()?, u32::try_from(cpu).ok()?);
        (is_time && is_name).then_some(Self { thread, cpu, at, name, fields })
    }
}

/// Bytes before the dash: a name that is no UTF-8 becomes longer by what stands for its bytes.
const NAME: usize = 16 * 3;

fn number(text: &str) -> Option<(u64, &str)> {
    let end = text.bytes().position(|b| !b.is_ascii_digit()).unwrap_or(text.len());
    Some((text[..end].parse().ok()?, &text[end..]))
}

/// One blank at least.
fn blanks(text: &str) -> Option<&str> {
    text.strip_prefix(' ').map(|rest| rest.trim_start_matches(' '))
}

/// `CPU:1 [LOST 33 EVENTS]`
fn lost(line: &str) -> Option<(u32, u64)> {
    let (cpu, rest) = number(line.strip_prefix("CPU:")?)?;
    let count = rest.strip_prefix(" [LOST ")?.strip_suffix("EVENTS]")?.trim();
    let count = if count.is_empty() { 0 } else { count.parse().ok()? };
    Some((u32::try_from(cpu).ok()?, count))
}

fn parse(text: &str) -> Parsed {
    if let Some((cpu, count)) = lost(text) {
        return Parsed::Event(Event { cpu, thread: 0, at: 0, what: What::Lost(count) });
    }
    let Some(Header { thread, cpu, at, name, fields }) = Header::find(text) else {
        return Parsed::Broken;
    };
    let what = match name {
        "sched_switch" => switch(fields),
        "sched_process_fork" => fork(fields),
        "sched_stat_runtime" => ran(fields),
        "irq_handler_entry" => name_of_handler(fields),
        "irq_handler_exit" => Some(What::Leave(Context::Interrupt, String::new())),
        "softirq_entry" => action(fields).map(|name| What::Enter(Context::Softirq, name)),
        "softirq_exit" => action(fields).map(|name| What::Leave(Context::Softirq, name)),
        "nmi_handler" => nmi(fields),
        // What comes from trace_marker (Documentation/trace/ftrace).
        "tracing_mark_write" => Some(What::Marker(fields.trim_end().to_owned())),
        _ => match (name.strip_suffix("_entry"), name.strip_suffix("_exit")) {
            (Some(vector), _) => Some(What::Enter(Context::Vector, vector.to_owned())),
            (_, Some(vector)) => Some(What::Leave(Context::Vector, vector.to_owned())),
            _ => return Parsed::Other,
        },
    };
    what.map_or(Parsed::Broken, |what| Parsed::Event(Event { cpu, thread, at, what }))
}

/// `prev_comm=a prev_pid=1 prev_prio=120 prev_state=S ==> next_comm=b next_pid=2 next_prio=120`. What
/// stands between the names is longer than a name, so only the kernel's own matches as a whole.
fn switch(fields: &str) -> Option<What> {
    let rest = fields.strip_prefix("prev_comm=")?;
    let (end, from, next) = find(rest, " prev_pid=", |after| {
        let (pid, rest) = number(after)?;
        let (_, rest) = number(rest.strip_prefix(" prev_prio=")?)?;
        let (state, rest) = rest.strip_prefix(" prev_state=")?.split_once(' ')?;
        (state.len() <= 16).then_some((pid, rest.strip_prefix("==> next_comm=")?))
    })?;
    let from = (i32::try_from(from).ok()?, rest[..end].to_owned());
    let (end, to, ()) = find(next, " next_pid=", |after| {
        let (pid, rest) = number(after)?;
        rest.starts_with(" next_prio=").then_some((pid, ()))
    })?;
    let to = (i32::try_from(to).ok()?, next[..end].to_owned());
    Some(What::Switch { from, to })
}

/// Where a word is after which all is as it must be.
fn find<'a, T>(
    text: &'a str,
    word: &str,
    parse: impl Fn(&'a str) -> Option<(u64, T)>,
) -> Option<(usize, u64, T)> {
    let mut found = text.match_indices(word);
    found.find_map(|(at, _)| parse(&text[at + word.len()..]).map(|(pid, rest)| (at, pid, rest)))
}

/// `comm=a pid=1 runtime=1234 [ns]`
fn ran(fields: &str) -> Option<What> {
    let (_, thread, time) = find(fields, " pid=", |after| {
        let (pid, rest) = number(after)?;
        let (time, rest) = number(rest.strip_prefix(" runtime=")?)?;
        rest.starts_with(" [ns]").then_some((pid, time))
    })?;
    Some(What::Ran { thread: i32::try_from(thread).ok()?, time })
}

/// `comm=a pid=1 child_comm=b child_pid=2`, by whoever runs: its number in the text is not asked, for
/// its name stands before it.
fn fork(fields: &str) -> Option<What> {
    let (child, _) = number(fields.rsplit_once(" child_pid=")?.1)?;
    Some(What::Fork { child: i32::try_from(child).ok()? })
}

/// `irq=36 name=virtio1-req.0`
fn name_of_handler(fields: &str) -> Option<What> {
    let (irq, name) = fields.strip_prefix("irq=")?.split_once(" name=")?;
    let name = if name.is_empty() { format!("interrupt {irq}") } else { name.to_owned() };
    Some(What::Enter(Context::Interrupt, name))
}

/// `vec=4 [action=BLOCK]`
fn action(fields: &str) -> Option<String> {
    Some(fields.split_once("[action=")?.1.split_once(']')?.0.to_owned())
}

/// `perf_event_nmi_handler() delta_ns: 4611 handled: 1`
fn nmi(fields: &str) -> Option<What> {
    number(fields.split_once(" delta_ns: ")?.1).map(|(time, _)| What::Nmi(time))
}

#[cfg(test)]
#[path = "events_tests.rs"]
pub(super) mod tests;
