//! `isolcpus=` on the kernel's command line, read as the kernel reads it.
//!
//! The rules are those of Linux 5.18 and newer: kernel/sched/isolation.c
//! (`housekeeping_isolcpus_setup`, `housekeeping_setup`), lib/cmdline.c (`next_arg`),
//! kernel/params.c (`parse_args`), lib/bitmap-str.c (`bitmap_parselist`). The table in the tests
//! was measured on Linux 6.1.
//!
//! - **Flags** `nohz,` `domain,` `managed_irq,` stand first, in any order. Unknown words are
//!   skipped. Without a known flag, `domain` is meant. Only `domain` keeps CPUs out of the
//!   scheduler's load balancing; a list given with `nohz` or `managed_irq` alone moves the tick or
//!   interrupts away, and tasks still run there: it isolates nothing here, as in
//!   `/sys/devices/system/cpu/isolated`.
//! - **Repetition**: each flag keeps its first list. A later option that gives a flag another list
//!   is dropped as a whole ("nohz_full= must match isolcpus="); `nohz_full=` counts as a list for
//!   `nohz`.
//! - **A list of every CPU** leaves CPU 0, the boot CPU, out: the kernel needs one for itself.
//! - **What the kernel drops with a warning** in its log (a malformed list, a CPU that the machine
//!   cannot have, `all` or `N` where a flag could stand) is an [`Error`] here: somebody meant to
//!   isolate.

use crate::CpuSet;
use crate::cpu_set::ParseError;

/// Why the kernel drops an `isolcpus=` that is on its command line: names the offending part.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A word in front of the list that cannot be a flag.
    #[error(
        "isolcpus: '{0}' is no flag, so the kernel drops the option: flags are nohz, domain, \
         managed_irq"
    )]
    Flag(String),
    /// A word, such as `all`, at the place of a flag and no list after it.
    #[error(
        "isolcpus: the kernel takes '{0}' for a flag and finds no list after it: write a CPU list \
         as in 2-5,8"
    )]
    NoList(String),
    /// A part of the list that is no CPU, range or stride.
    #[error("isolcpus: the kernel drops the option for its part '{part}': {cause}")]
    List {
        /// The part as written.
        part: String,
        /// What is wrong with it, `N` and `all` replaced by numbers.
        cause: ParseError,
    },
    /// A CPU number that the machine cannot have.
    #[error(
        "isolcpus: the kernel drops the option for its part '{part}': the machine's last CPU is \
         {last}"
    )]
    PastLast {
        /// The part as written.
        part: String,
        /// The highest possible CPU number.
        last: u32,
    },
}

/// The CPUs that the command line `cmdline` (`/proc/cmdline`) isolates from the scheduler's load
/// balancing, or none where there is no `isolcpus=`; the set is empty where there is one that
/// isolates nothing.
///
/// `last_cpu` is the highest CPU number that the machine can have (the last of
/// `/sys/devices/system/cpu/possible`): what `N` and `all` stand for.
pub fn isolcpus(cmdline: &str, last_cpu: u32) -> Result<Option<CpuSet>, Error> {
    let mut lists = [const { None }; 3];
    let mut found = false;
    for (name, value) in parameters(cmdline) {
        // Hyphens and underscores are the same in the name of a parameter (`parameqn`).
        match name.replace('-', "_").as_str() {
            "isolcpus" => {
                found = true;
                let (flags, list) = split_flags(value)?;
                keep_first(&mut lists, &flags, &parse_list(list, last_cpu)?);
            }
            "nohz_full" => {
                if let Ok(cpus) = parse_list(value, last_cpu) {
                    keep_first(&mut lists, &[NOHZ], &cpus);
                }
            }
            _ => {}
        }
    }
    Ok(found.then(|| lists[DOMAIN].take().unwrap_or_default()))
}

/// The value of a parameter, the last of several; none where it is not there, or has none.
pub fn parameter<'a>(cmdline: &'a str, name: &str) -> Option<&'a str> {
    let is_it = |given: &str| given.replace('-', "_") == name;
    parameters(cmdline).filter(|(given, _)| is_it(given)).last().map(|(_, value)| value)
}

const NOHZ: usize = 0;
const DOMAIN: usize = 1;
const MANAGED_IRQ: usize = 2;
const FLAGS: [(&str, usize); 3] =
    [("nohz,", NOHZ), ("domain,", DOMAIN), ("managed_irq,", MANAGED_IRQ)];

/// Sets the list of each of `flags`, unless one of them has another list already.
fn keep_first(lists: &mut [Option<CpuSet>; 3], flags: &[usize], cpus: &CpuSet) {
    let clash = |&flag: &usize| lists[flag].as_ref().is_some_and(|first| first != cpus);
    // An empty list does not count as one.
    if !cpus.is_empty() && !flags.iter().any(clash) {
        flags.iter().for_each(|&flag| lists[flag] = Some(cpus.clone()));
    }
}

/// The flags in front of the list, `domain` where there is none, and the list.
fn split_flags(value: &str) -> Result<(Vec<usize>, &str), Error> {
    let (mut flags, mut rest) = (Vec::new(), value);
    while rest.starts_with(|c: char| c.is_ascii_alphabetic()) {
        if let Some((word, flag)) = FLAGS.iter().find(|(word, _)| rest.starts_with(word)) {
            flags.push(*flag);
            rest = &rest[word.len()..];
            continue;
        }
        let word = rest.split(',').next().unwrap_or(rest);
        if !word.chars().all(|c| c.is_ascii_alphabetic() || c == '_') {
            return Err(Error::Flag(word.to_owned()));
        }
        let after = rest[word.len()..].strip_prefix(',');
        rest = after.ok_or_else(|| Error::NoList(word.to_owned()))?;
    }
    if flags.is_empty() {
        flags.push(DOMAIN);
    }
    Ok((flags, rest))
}

/// Parses a list with the forms that only the command line has: `N`, `all`, blanks or nothing
/// between commas.
fn parse_list(list: &str, last: u32) -> Result<CpuSet, Error> {
    let mut cpus = CpuSet::new();
    let between = |c: char| c == ',' || is_space(c);
    for part in list.split(between).filter(|part| !part.is_empty()) {
        let numbers = in_numbers(part, last);
        let parsed: Result<CpuSet, _> = numbers.parse();
        let parsed = parsed.map_err(|cause| Error::List { part: part.to_owned(), cause })?;
        // The end of the range counts, even where a stride leaves that CPU out
        // (`bitmap_check_region`).
        let range = numbers.split(':').next().unwrap_or(&numbers);
        let end = range.rsplit('-').next().and_then(|end| end.parse().ok());
        if end.is_some_and(|end: u32| end > last) {
            let part = part.to_owned();
            return Err(Error::PastLast { part, last });
        }
        cpus = cpus.union(&parsed);
    }
    if (0..=last).all(|cpu| cpus.contains(cpu)) {
        cpus = cpus.difference(&CpuSet::from_iter([0]));
    }
    Ok(cpus)
}

/// `part` with `all` (in any case) and `N` replaced by numbers.
fn in_numbers(part: &str, last: u32) -> String {
    let (start, rest) = match part.split_at_checked(3) {
        Some((all, rest)) if all.eq_ignore_ascii_case("all") => (format!("0-{last}"), rest),
        _ => (String::new(), part),
    };
    let pieces = rest.split_inclusive(['-', ':', '/']);
    let numbers = pieces.map(|piece| match piece.strip_prefix('N') {
        Some(end @ ("" | "-" | ":" | "/")) => format!("{last}{end}"),
        _ => piece.to_owned(),
    });
    start + &numbers.collect::<String>()
}

/// The parameters with a value, up to ` -- `: what follows belongs to init.
fn parameters(cmdline: &str) -> impl Iterator<Item = (&str, &str)> {
    let mut rest = cmdline.trim_start_matches(is_space);
    let words = std::iter::from_fn(move || {
        let (quoted, start) = match rest.strip_prefix('"') {
            Some(start) => (true, start),
            None => (false, rest),
        };
        let mut in_quotes = quoted;
        let end = start.find(|c: char| {
            in_quotes ^= c == '"';
            is_space(c) && !in_quotes
        });
        let (word, after) = start.split_at(end.unwrap_or(start.len()));
        let done = rest.is_empty();
        rest = after.trim_start_matches(is_space);
        (!done).then(|| without_quote(word, quoted))
    });
    words.take_while(|word| *word != "--").filter_map(|word| word.split_once('=')).map(
        |(name, value)| match value.strip_prefix('"') {
            Some(value) => (name, without_quote(value, true)),
            None => (name, value),
        },
    )
}

fn without_quote(word: &str, quoted: bool) -> &str {
    word.strip_suffix('"').filter(|_| quoted).unwrap_or(word)
}

/// C's `isspace`, as far as ASCII goes.
fn is_space(c: char) -> bool {
    c.is_ascii_whitespace() || c == '\x0b'
}

#[cfg(test)]
mod tests;
