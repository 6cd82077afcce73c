//! A set of logical CPU numbers in the kernel's cpuset list format.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::text::shorten;

/// The highest CPU number that kcm accepts; Linux is built for at most 8,192 CPUs
/// (`CONFIG_NR_CPUS`, arch/x86/Kconfig).
pub const MAX_CPU: u32 = 8191;

const WORD: usize = u64::BITS as usize;

/// A set of logical CPU numbers, each at most [`MAX_CPU`].
///
/// Parses the kernel's list format (`0-3,8`, strides as `0-31:2/8`; Documentation/admin-guide/
/// cputopology and `bitmap_parselist` in the kernel's source) and prints its canonical form:
/// sorted, with ranges, no blanks.
///
/// Serialised it is that text, empty for the empty set.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct CpuSet {
    /// Bit `n % 64` of word `n / 64` is CPU `n`. No trailing zero words, so that `Eq` is set equality.
    words: Vec<u64>,
}

/// Why a text is no CPU list: names the offending part.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// Nothing but blanks.
    #[error("the CPU list is empty: write it as in 0-3,8")]
    Empty,
    /// A part between commas that is neither a number, a range nor a stride.
    #[error("'{0}' is no CPU number or range: write a CPU list as in 0-3,8")]
    Malformed(String),
    /// A range that ends before it starts.
    #[error("the range '{0}' ends before it starts")]
    Backwards(String),
    /// A number past [`MAX_CPU`].
    #[error("'{0}' goes past CPU {MAX_CPU}, the highest that Linux can have")]
    TooLarge(String),
    /// Strides that name the same CPUs again and again.
    #[error(
        "its strides stand for more than {MAX_CPU} ranges by '{0}': write each CPU once, as in 0-3,8"
    )]
    TooMany(String),
}

impl CpuSet {
    /// The empty set.
    pub fn new() -> Self {
        Self::default()
    }

    /// Parses a CPU list that may be empty, as in the kernel's `cpuset.cpus` or `isolated` files.
    pub fn parse_possibly_empty(text: &str) -> Result<Self, ParseError> {
        if text.trim().is_empty() { Ok(Self::new()) } else { text.parse() }
    }

    /// Adds one CPU; numbers past [`MAX_CPU`] are refused by the parser and ignored here.
    pub fn insert(&mut self, cpu: u32) {
        if cpu > MAX_CPU {
            return;
        }
        let (word, bit) = (cpu as usize / WORD, cpu as usize % WORD);
        if self.words.len() <= word {
            self.words.resize(word + 1, 0);
        }
        self.words[word] |= 1 << bit;
    }

    /// Whether `cpu` is in the set.
    pub fn contains(&self, cpu: u32) -> bool {
        let (word, bit) = (cpu as usize / WORD, cpu as usize % WORD);
        self.words.get(word).is_some_and(|w| w >> bit & 1 == 1)
    }

    /// Whether the set has no CPU.
    pub fn is_empty(&self) -> bool {
        self.words.is_empty()
    }

    /// How many CPUs are in the set.
    pub fn len(&self) -> usize {
        self.words.iter().map(|w| w.count_ones() as usize).sum()
    }

    /// The lowest CPU number, if there is one.
    pub fn first(&self) -> Option<u32> {
        let (i, word) = self.words.iter().enumerate().find(|&(_, &word)| word != 0)?;
        Some((i * WORD) as u32 + word.trailing_zeros())
    }

    /// The CPU numbers, ascending.
    pub fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        self.words.iter().enumerate().flat_map(|(i, &word)| {
            (0..WORD)
                .filter(move |bit| word >> bit & 1 == 1)
                .map(move |bit| (i * WORD + bit) as u32)
        })
    }

    /// The CPUs that are in either set.
    pub fn union(&self, other: &Self) -> Self {
        let longest = self.words.len().max(other.words.len());
        self.combine(other, longest, |a, b| a | b)
    }

    /// The CPUs that are in both sets.
    pub fn intersection(&self, other: &Self) -> Self {
        self.combine(other, self.words.len(), |a, b| a & b)
    }

    /// The CPUs of this set that are not in `other`.
    pub fn difference(&self, other: &Self) -> Self {
        self.combine(other, self.words.len(), |a, b| a & !b)
    }

    /// Whether every CPU of this set is in `other`.
    pub fn is_subset(&self, other: &Self) -> bool {
        let theirs = other.words.iter().copied().chain(std::iter::repeat(0));
        self.words.iter().zip(theirs).all(|(ours, theirs)| ours & !theirs == 0)
    }

    /// The set as little-endian bytes, bit `n % 8` of byte `n / 8` for CPU `n`: the form that
    /// `sched_setaffinity(2)` and systemd's `AllowedCPUs` take. A multiple of 8 bytes long.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.words.iter().flat_map(|w| w.to_le_bytes()).collect()
    }

    /// The set whose [`Self::to_bytes`] these are, of any length.
    pub fn from_bytes(bytes: &[u8]) -> Self {
        let bits = bytes.iter().zip((0..).step_by(8));
        bits.flat_map(|(byte, first)| {
            (0..8u32).filter(move |bit| byte >> bit & 1 == 1).map(move |bit| first + bit)
        })
        .collect()
    }

    /// The set as one number in upper-case hexadecimal, bit `n` for CPU `n`, without `0x`: `C` for
    /// `2-3`.
    pub fn to_hex(&self) -> String {
        let words = self.words.iter().rev().map(|word| format!("{word:016X}"));
        let digits = words.collect::<String>();
        match digits.trim_start_matches('0') {
            "" => "0".to_owned(),
            digits => digits.to_owned(),
        }
    }

    /// The set in the kernel's mask format: words of 32 bits in hexadecimal, the highest first, with commas
    /// between them (`bitmap_parse` in the kernel's lib/bitmap-str.c): `1,0000000c` for `2-3,32`.
    pub fn to_mask(&self) -> String {
        let digits = self.to_hex().to_ascii_lowercase();
        let head = digits.len() % 8;
        let (head, tail) = digits.split_at(head);
        let words = (0..tail.len()).step_by(8).map(|at| &tail[at..at + 8]);
        let words: Vec<&str> =
            Some(head).filter(|head| !head.is_empty()).into_iter().chain(words).collect();
        words.join(",")
    }

    fn combine(&self, other: &Self, words: usize, op: impl Fn(u64, u64) -> u64) -> Self {
        let at = |set: &Self, i: usize| set.words.get(i).copied().unwrap_or(0);
        let mut words: Vec<u64> = (0..words).map(|i| op(at(self, i), at(other, i))).collect();
        while words.last() == Some(&0) {
            words.pop();
        }
        Self { words }
    }
}

impl FromIterator<u32> for CpuSet {
    fn from_iter<I: IntoIterator<Item = u32>>(cpus: I) -> Self {
        let mut set = Self::new();
        cpus.into_iter().for_each(|cpu| set.insert(cpu));
        set
    }
}

impl FromStr for CpuSet {
    type Err = ParseError;

    /// In time linear in the text's length and in [`MAX_CPU`], whatever is repeated in it.
    fn from_str(text: &str) -> Result<Self, ParseError> {
        let mut ranges = Ranges::default();
        for stride in strides(text) {
            let Stride { first, last, used, group } = stride?;
            if used == group {
                ranges.add(first, last);
                continue;
            }
            for start in (first..=last).step_by(group as usize) {
                ranges.add(start, last.min(start + used - 1));
            }
        }
        Ok(ranges.union())
    }
}

impl TryFrom<String> for CpuSet {
    type Error = ParseError;

    fn try_from(text: String) -> Result<Self, ParseError> {
        Self::parse_possibly_empty(&text)
    }
}

impl From<CpuSet> for String {
    fn from(cpus: CpuSet) -> Self {
        cpus.to_string()
    }
}

/// Makes sure that a text is a CPU list, without making the set: in time linear in its length.
pub fn validate(text: &str) -> Result<(), ParseError> {
    strides(text).try_for_each(|stride| stride.map(drop))
}

/// The parts of a CPU list, an error in place of the first that is none.
fn strides(text: &str) -> impl Iterator<Item = Result<Stride, ParseError>> {
    let mut of_strides = 0;
    let is_empty = text.trim().is_empty();
    text.split(',').map(str::trim).map(move |part| {
        if is_empty {
            return Err(ParseError::Empty);
        }
        let stride = Stride::parse(part)?;
        if stride.used != stride.group {
            of_strides += (stride.last - stride.first) / stride.group + 1;
            // Strides that name each CPU once have no more.
            if of_strides > MAX_CPU + 1 {
                return Err(ParseError::TooMany(shorten(part)));
            }
        }
        Ok(stride)
    })
}

/// A union in the making, to which a range is added in constant time.
#[derive(Default)]
struct Ranges {
    /// The CPUs of each range's first and last word.
    ends: Vec<u64>,
    /// By how many ranges more than the word before a word is covered whole: at the word after a
    /// range's first one more, at its last one less.
    changes: Vec<i64>,
}

impl Ranges {
    /// Adds `first` to `last`, of which the latter is not less, and at most [`MAX_CPU`].
    fn add(&mut self, first: u32, last: u32) {
        work::did(1);
        let [first, last] = [first, last].map(|cpu| cpu as usize);
        let (from, to) = (first / WORD, last / WORD);
        if self.ends.len() <= to {
            self.ends.resize(to + 1, 0);
        }
        let (left, right) = (u64::MAX << (first % WORD), u64::MAX >> (WORD - 1 - last % WORD));
        if from == to {
            self.ends[from] |= left & right;
            return;
        }
        self.ends[from] |= left;
        self.ends[to] |= right;
        if to - from > 1 {
            if self.changes.len() <= to {
                self.changes.resize(to + 1, 0);
            }
            self.changes[from + 1] += 1;
            self.changes[to] -= 1;
        }
    }

    fn union(self) -> CpuSet {
        work::did(self.ends.len());
        let mut words = self.ends;
        let mut covering = 0;
        for (word, change) in words.iter_mut().zip(self.changes) {
            covering += change;
            if covering > 0 {
                *word = u64::MAX;
            }
        }
        CpuSet { words }
    }
}

/// Counts what parsing does, in tests.
mod work {
    #[cfg(test)]
    std::thread_local! {
        pub(super) static DONE: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
    }

    pub(super) fn did(_steps: usize) {
        #[cfg(test)]
        DONE.with(|done| done.set(done.get() + _steps));
    }
}

/// `first-last:used/group`: of each `group` CPUs from `first` on, the first `used`.
struct Stride {
    first: u32,
    last: u32,
    used: u32,
    group: u32,
}

impl Stride {
    fn parse(part: &str) -> Result<Self, ParseError> {
        let malformed = || ParseError::Malformed(shorten(part));
        let number = |text: &str| match text.parse::<u64>() {
            Ok(n) if n <= u64::from(MAX_CPU) && is_digits(text) => Ok(n as u32),
            _ if is_digits(text) => Err(ParseError::TooLarge(shorten(part))),
            _ => Err(malformed()),
        };
        let (range, stride) = match part.split_once(':') {
            Some((range, stride)) => (range, Some(stride)),
            None => (part, None),
        };
        let (first, last) = match range.split_once('-') {
            Some((first, last)) => (number(first)?, number(last)?),
            // A stride needs a range, as in the kernel.
            None if stride.is_some() => return Err(malformed()),
            None => (number(range)?, number(range)?),
        };
        let (used, group) = match stride {
            Some(stride) => {
                let (used, group) = stride.split_once('/').ok_or_else(malformed)?;
                (number(used)?, number(group)?)
            }
            None => (1, 1),
        };
        if last < first {
            return Err(ParseError::Backwards(shorten(part)));
        }
        if group == 0 || used == 0 || used > group {
            return Err(malformed());
        }
        Ok(Self { first, last, used, group })
    }
}

fn is_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())
}

impl fmt::Display for CpuSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut cpus = self.iter().peekable();
        let mut separator = "";
        while let Some(first) = cpus.next() {
            let mut last = first;
            while cpus.peek() == Some(&(last + 1)) {
                last += 1;
                cpus.next();
            }
            // The kernel prints two neighbours as a range too: 0-1 (lib/vsprintf.c, bitmap_list_string).
            if first == last {
                write!(f, "{separator}{first}")?;
            } else {
                write!(f, "{separator}{first}-{last}")?;
            }
            separator = ",";
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
