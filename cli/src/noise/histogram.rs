//! Lengths of time in a fixed number of classes: sixteen to each doubling, so that no value is more
//! than 6.25 % off.

/// Classes to a doubling, as a power of two.
const BITS: u32 = 4;
const SIZE: usize = (64 - BITS as usize + 1) << BITS;

/// How many of which length, in nanoseconds.
#[derive(Clone, Debug)]
pub(super) struct Histogram {
    counts: Box<[u64; SIZE]>,
    readings: u64,
    max: u64,
}

impl Histogram {
    pub(super) fn new() -> Self {
        Self { counts: Box::new([0; SIZE]), readings: 0, max: 0 }
    }

    #[inline]
    pub(super) fn add(&mut self, value: u64) {
        self.counts[class(value)] += 1;
        self.readings += 1;
        self.max = self.max.max(value);
    }

    /// The classes that have any, by their least value.
    pub(super) fn classes(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        let counts = self.counts.iter().enumerate().filter(|&(_, &count)| count > 0);
        counts.map(|(class, &count)| (least(class), count))
    }

    pub(super) fn readings(&self) -> u64 {
        self.readings
    }

    pub(super) fn max(&self) -> u64 {
        self.max
    }

    /// What so many of 10,000 are not longer than.
    pub(super) fn at(&self, of_ten_thousand: u64) -> u64 {
        let wanted = u128::from(self.readings) * u128::from(of_ten_thousand);
        let wanted = u64::try_from(wanted.div_ceil(10_000)).unwrap_or(u64::MAX);
        let mut seen = 0;
        for (class, &count) in self.counts.iter().enumerate() {
            seen += count;
            if count > 0 && seen >= wanted {
                return least(class + 1).saturating_sub(1).min(self.max);
            }
        }
        self.max
    }
}

/// The class of a value.
#[inline]
fn class(value: u64) -> usize {
    if value < 1 << BITS {
        return value as usize;
    }
    let doublings = u64::BITS - 1 - value.leading_zeros() - BITS;
    (((doublings + 1) << BITS) as usize) + ((value >> doublings) as usize & ((1 << BITS) - 1))
}

/// The least value of a class; of the one after the last, none is more.
fn least(class: usize) -> u64 {
    let within = (class & ((1 << BITS) - 1)) as u64;
    match (class >> BITS) as u32 {
        0 => within,
        doublings if doublings > u64::BITS - BITS => u64::MAX,
        doublings => (within | 1 << BITS) << (doublings - 1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_value_is_in_the_class_that_begins_at_or_just_below_it() {
        for value in (0..5_000).chain((0..64).flat_map(|n| [(1 << n) - 1, 1 << n, (1u64 << n) + 1]))
        {
            let class = class(value);
            assert!(class < SIZE && least(class) <= value, "{value}");
            assert!(value < least(class + 1) || least(class + 1) == u64::MAX, "{value}");
            assert!(value - least(class) <= value / 16, "{value}");
        }
        assert_eq!(class(u64::MAX), SIZE - 1);
    }

    #[test]
    fn percentiles_are_not_below_the_truth_and_at_most_a_class_above() {
        let mut found = Histogram::new();
        (1..=100_000).for_each(|value| found.add(value));
        for (share, truth) in [(5_000, 50_000), (9_900, 99_000), (9_990, 99_900), (9_999, 99_990)] {
            let value = found.at(share);
            assert!((truth..=truth + truth / 16).contains(&value), "{share}: {value}");
        }
        assert_eq!((found.max(), found.readings(), found.at(10_000)), (100_000, 100_000, 100_000));
        assert_eq!(found.classes().map(|(_, count)| count).sum::<u64>(), 100_000);
        assert_eq!(Histogram::new().at(9_999), 0);
    }
}
