//! Lengths of time, as people write and read them.

use std::fmt;
use std::time::Duration;

/// Nanoseconds, shown with a unit: `1.234 ms`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span(pub(super) u64);

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self.0 {
            0 => "0".to_owned(),
            ns @ ..1_000 => format!("{ns} ns"),
            ns @ ..1_000_000 => format!("{}.{} µs", ns / 1_000, ns % 1_000 / 100),
            ns @ ..1_000_000_000 => format!("{}.{:03} ms", ns / 1_000_000, ns % 1_000_000 / 1_000),
            ns => format!("{}.{:03} s", ns / 1_000_000_000, ns % 1_000_000_000 / 1_000_000),
        };
        f.pad(&text)
    }
}

const UNITS: [(&str, u64); 7] = [
    ("ns", 1),
    ("us", 1_000),
    ("µs", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
];

/// `500ms`, `10s`, `1.5s`, `2m`; a number alone is seconds.
fn parse(text: &str) -> Option<u64> {
    let end = text.bytes().position(|b| !b.is_ascii_digit() && b != b'.').unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let unit = match unit {
        "" => 1_000_000_000,
        unit => UNITS.iter().find(|(name, _)| *name == unit)?.1,
    };
    let (whole, part) = number.split_once('.').unwrap_or((number, "0"));
    let part = if part.is_empty() || part.len() > 9 { return None } else { part };
    let whole: u64 = whole.parse().ok()?;
    let scale = 10u64.pow(u32::try_from(part.len()).ok()?);
    let part = u128::from(part.parse::<u64>().ok()?) * u128::from(unit) / u128::from(scale);
    whole.checked_mul(unit)?.checked_add(u64::try_from(part).ok()?)
}

/// The shortest and the longest window.
const DURATIONS: (u64, u64) = (10_000_000, 3_600_000_000_000);

/// `--duration`
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    within(text, DURATIONS, "a duration is 10ms to 1h, as in 10s, 500ms or 2m")
}

/// `--threshold`
pub(crate) fn threshold(text: &str) -> Result<Duration, String> {
    within(text, (100, 1_000_000_000), "a threshold is 100ns to 1s, as in 10us or 1ms")
}

fn within(text: &str, (least, most): (u64, u64), rule: &str) -> Result<Duration, String> {
    let found = parse(text).filter(|ns| (least..=most).contains(ns));
    found.map(Duration::from_nanos).ok_or_else(|| rule.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_of_time_are_read_as_people_write_them() {
        for (text, expected) in [
            ("10s", Some(10_000_000_000)),
            ("10", Some(10_000_000_000)),
            ("1.5s", Some(1_500_000_000)),
            ("500ms", Some(500_000_000)),
            ("2m", Some(120_000_000_000)),
            ("1h", Some(3_600_000_000_000)),
            ("0.05s", Some(50_000_000)),
        ] {
            assert_eq!(duration(text).ok().map(|d| d.as_nanos() as u64), expected, "{text}");
        }
        for bad in [
            "",
            "s",
            "-1s",
            "0",
            "9ms",
            "61m",
            "1d",
            "1.s",
            ".5s",
            "1s1",
            "1e9",
            "1 s",
            "+1s",
            "99999999999999999999s",
            "1.0000000001s",
            "18446744073709551615h",
            "٣s",
        ] {
            assert!(duration(bad).is_err(), "{bad}");
        }
        assert_eq!(threshold("10us").unwrap(), Duration::from_micros(10));
        assert_eq!(threshold("10µs").unwrap(), Duration::from_micros(10));
        assert!(threshold("0").is_err() && threshold("2s").is_err());
    }

    #[test]
    fn lengths_of_time_are_shown_with_a_unit() {
        for (ns, expected) in [
            (0, "0"),
            (999, "999 ns"),
            (1_000, "1.0 µs"),
            (12_345, "12.3 µs"),
            (1_234_567, "1.234 ms"),
            (999_999_999, "999.999 ms"),
            (61_002_000_000, "61.002 s"),
        ] {
            assert_eq!(Span(ns).to_string(), expected);
        }
        assert_eq!(format!("{:>8}", Span(5_000)), "  5.0 µs");
    }
}
