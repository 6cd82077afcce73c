//! The time that is looked at, and its parts.

use serde::{Deserialize, Serialize};

/// A timeline has so many parts.
pub(super) const BUCKETS: u32 = 120;

/// From when to when, in nanoseconds of `CLOCK_MONOTONIC` (clock_gettime(2)), which is the trace's
/// clock, too.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Window {
    #[serde(rename = "beginNs")]
    pub(super) begin: u64,
    #[serde(rename = "endNs")]
    pub(super) end: u64,
    /// How long it was to be, of which each part of a timeline is the same share.
    #[serde(rename = "askedNs")]
    pub(super) asked: u64,
}

impl Window {
    /// One that has begun, and whose end is not known yet.
    pub(super) fn open(begin: u64, asked: u64) -> Self {
        Self { begin, end: u64::MAX, asked: asked.max(1) }
    }

    pub(super) fn length(&self) -> u64 {
        self.end.saturating_sub(self.begin)
    }

    pub(super) fn contains(&self, at: u64) -> bool {
        (self.begin..=self.end).contains(&at)
    }

    /// Nanoseconds of a part of the timeline.
    pub(super) fn bucket(&self) -> u64 {
        self.asked.div_ceil(u64::from(BUCKETS)).max(1)
    }

    /// Nanoseconds of one part: the last has what was more than asked for.
    pub(super) fn length_of(&self, part: u32) -> u64 {
        let before = u64::from(BUCKETS - 1).saturating_mul(self.bucket());
        match part == BUCKETS - 1 {
            true => self.length().saturating_sub(before).max(self.bucket()),
            false => self.bucket(),
        }
    }

    /// What of a time lies in which part.
    pub(super) fn buckets(self, begin: u64, end: u64) -> impl Iterator<Item = (u32, u64)> {
        let (length, last) = (self.bucket(), u64::from(BUCKETS - 1));
        let of = move |at: u64| (at.saturating_sub(self.begin) / length).min(last);
        (of(begin)..=of(end.saturating_sub(1).max(begin))).map(move |bucket| {
            let from = begin.max(self.begin + bucket * length);
            // A window that was a little longer than asked for: the last part has the rest.
            let to = if bucket == last { end } else { end.min(self.begin + (bucket + 1) * length) };
            (u32::try_from(bucket).unwrap_or(BUCKETS - 1), to.saturating_sub(from))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_shared_out_among_the_parts_and_none_of_it_is_lost() {
        let window = Window::open(1000, 120 * 100);
        for (begin, end, expected) in [
            (1000, 1001, vec![(0, 1)]),
            (1050, 1250, vec![(0, 50), (1, 100), (2, 50)]),
            (1100, 1200, vec![(1, 100)]),
            (12_950, 13_500, vec![(119, 550)]),
            (14_000, 14_010, vec![(119, 10)]),
        ] {
            let parts: Vec<_> = window.buckets(begin, end).collect();
            assert_eq!(parts, expected, "{begin}-{end}");
        }
        let late = Window { end: 1000 + 12_900, ..window };
        let early = Window { end: 2000, ..window };
        assert_eq!((late.length_of(0), late.length_of(119)), (100, 1000));
        assert_eq!((early.length_of(0), early.length_of(119)), (100, 100));
    }
}
