//! Two runs side by side.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::Context;
use kcm_core::host::regular;
use serde::Serialize;

use super::report::{Gaps, Report};
use super::span::Span;
use super::sums::{self, Key, Sum};
use super::table::{columns, title};
use crate::logging::one_line;

/// Bytes of a report: some hundred CPUs with as many sources each.
const LIMIT: u64 = 64 << 20;

/// So many sources are shown; JSON has all.
const SHOWN: usize = 40;

/// An earlier run and this one.
#[derive(Debug, Serialize)]
pub(crate) struct Comparison {
    pub(super) before: Report,
    pub(super) now: Report,
}

/// A report that `--output=json` has written.
pub(crate) fn read(path: &Path) -> anyhow::Result<Report> {
    let failed = || format!("cannot read --compare={}", path.display());
    let text = regular::read_text(path, LIMIT).with_context(failed)?;
    serde_json::from_str(&text).with_context(|| {
        format!("{} is no report of kcm noise; write one with --output=json", path.display())
    })
}

/// Both as a table. Counts and sums are per second, for runs may differ in length.
pub(super) fn render(both: &Comparison) -> String {
    let Comparison { before, now } = both;
    let mut text =
        format!("BEFORE  {}\nNOW     {}\n\nper second of each run\n", title(before), title(now));
    wholes(&mut text, before, now);
    text.push('\n');
    sources(&mut text, before, now);
    gaps(&mut text, before, now);
    text
}

/// Per second of a run.
fn rate(value: u64, run: &Report) -> u64 {
    let length = u128::from(run.window.length().max(1));
    u64::try_from(u128::from(value) * 1_000_000_000 / length).unwrap_or(u64::MAX)
}

fn time(value: Option<u64>) -> String {
    value.map_or("?".to_owned(), |value| Span(value).to_string())
}

fn wholes(text: &mut String, before: &Report, now: &Report) {
    let [then, this] = [(before, sums::whole(before)), (now, sums::whole(now))];
    let row = |name: &str, part: fn(&sums::Whole) -> Option<u64>| {
        let cells = [&then, &this].map(|(run, whole)| time(part(whole).map(|ns| rate(ns, run))));
        [name.to_owned()].into_iter().chain(cells).collect()
    };
    let rows: Vec<Vec<String>> = vec![
        row("foreign threads", |whole| Some(whole.foreign)),
        row("interrupts", |whole| whole.interrupts),
        row("softirqs", |whole| whole.softirqs),
        row("steal", |whole| Some(whole.steal)),
    ];
    columns(text, &["", "BEFORE", "NOW"], &rows);
}

fn sources(text: &mut String, before: &Report, now: &Report) {
    let (then, this) = (sums::of(before), sums::of(now));
    let most = |key: &&Key| {
        let of = |sums: &std::collections::BTreeMap<Key, Sum>, run| {
            sums.get(*key).map_or((0, 0), |sum| {
                (rate(sum.total.unwrap_or_default(), run), rate(sum.count, run))
            })
        };
        std::cmp::Reverse(of(&then, before).max(of(&this, now)))
    };
    let keys: BTreeSet<&Key> = then.keys().chain(this.keys()).collect();
    let mut keys: Vec<&Key> = keys.into_iter().collect();
    keys.sort_by_key(most);
    let cells = |sum: Option<&Sum>, run: &Report| match sum {
        None => ["-", "-", "-"].map(str::to_owned),
        Some(sum) => [
            rate(sum.count, run).to_string(),
            time(sum.total.map(|ns| rate(ns, run))),
            time(sum.longest),
        ],
    };
    let rows = keys.iter().take(SHOWN).map(|key| {
        let (kind, name, place) = key;
        let who = [kind.name(), name, place.as_deref().unwrap_or("-")].map(one_line);
        let had = cells(then.get(*key), before).into_iter().chain(cells(this.get(*key), now));
        who.into_iter().chain(had).collect()
    });
    let header = ["KIND", "NAME", "IN", "BEFORE", "TOTAL", "LONGEST", "NOW", "TOTAL", "LONGEST"];
    columns(text, &header, &rows.collect::<Vec<Vec<String>>>());
    if keys.len() > SHOWN {
        text.push_str(&format!("… and {} more: --output=json has them\n", keys.len() - SHOWN));
    }
}

/// The worst of all CPUs, where both runs have measured.
fn gaps(text: &mut String, before: &Report, now: &Report) {
    type Part = fn(&Gaps) -> u64;
    let worst = |run: &Report, part: Part| {
        run.each_cpu.iter().filter_map(|cpu| cpu.gaps.as_ref()).map(part).max()
    };
    let parts: [(&str, Part); 5] = [
        ("P50", |gaps| gaps.p50_ns),
        ("P99", |gaps| gaps.p99_ns),
        ("P99.9", |gaps| gaps.p999_ns),
        ("P99.99", |gaps| gaps.p9999_ns),
        ("MAX", |gaps| gaps.max_ns),
    ];
    let rows = parts.iter().filter_map(|(name, part)| {
        let cells = [worst(before, *part)?, worst(now, *part)?].map(|ns| Span(ns).to_string());
        Some([(*name).to_owned()].into_iter().chain(cells).collect())
    });
    let rows: Vec<Vec<String>> = rows.collect();
    if !rows.is_empty() {
        text.push_str("\nbetween two readings of the clock, on the worst CPU\n");
        columns(text, &["", "BEFORE", "NOW"], &rows);
    }
}

#[cfg(test)]
mod tests {
    use super::super::report::{Kind, OfCpu, Origin, Source};
    use super::super::window::Window;
    use super::*;

    fn run(seconds: u64, sources: &[(Kind, &str, u64, u64)]) -> Report {
        let source = |&(kind, name, count, total): &(Kind, &str, u64, u64)| Source {
            kind,
            name: name.to_owned(),
            count,
            total_ns: Some(total),
            longest_ns: Some(total),
            pid: Some(count as i32),
            ..Source::default()
        };
        let sources: Vec<Source> = sources.iter().map(source).collect();
        let times = sources.iter().filter_map(|source| source.total_ns);
        let foreign_ns = times.fold(0, u64::saturating_add);
        Report {
            cpus: "2-3".to_owned(),
            each_cpu: vec![OfCpu { cpu: 2, foreign_ns, sources, ..OfCpu::default() }],
            notices: Vec::new(),
            subject: "pool p".to_owned(),
            source: Origin::Tracefs,
            window: Window { end: 1 + seconds * 1_000_000_000, ..Window::open(1, 1_000_000_000) },
        }
    }

    #[test]
    fn runs_of_two_lengths_are_compared_by_the_second_and_whatever_the_pids_are() {
        let before = run(
            10,
            &[(Kind::Thread, "stress", 40, 80_000_000), (Kind::Thread, "stress", 60, 20_000_000)],
        );
        let now = run(1, &[(Kind::KernelThread, "kworker/2:1", 2, 5_000)]);
        let text = render(&Comparison { before, now });
        let lines: Vec<String> = text
            .lines()
            .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
            .collect();
        for line in [
            "BEFORE pool p, CPUs 2-3, for 10.000 s, traced",
            "NOW pool p, CPUs 2-3, for 1.000 s, traced",
            "foreign threads 10.000 ms 5.0 µs",
            "interrupts ? ?",
            "thread stress - 10 10.000 ms 80.000 ms - - -",
            "kernel kworker/2:1 - - - - 2 5.0 µs 5.0 µs",
        ] {
            assert!(lines.iter().any(|found| found == line), "{line:?} is not in\n{text}");
        }
    }

    #[test]
    fn a_report_is_read_as_it_was_written_also_with_what_nobody_knows_yet() {
        let report = run(1, &[(Kind::Nmi, "x", 1, 1)]);
        let mut value = serde_json::to_value(&report).unwrap();
        assert_eq!(serde_json::from_value::<Report>(value.clone()).unwrap(), report);
        value["later"] = 1.into();
        value["eachCpu"][0]["later"] = serde_json::json!({"a": []});
        value["eachCpu"][0]["sources"][0]["kind"] = "hypervisor".into();
        value["eachCpu"][0].as_object_mut().unwrap().remove("lostEvents");
        let read: Report = serde_json::from_value(value).unwrap();
        assert_eq!(read.each_cpu[0].sources[0].kind, Kind::Other);
    }

    #[test]
    fn numbers_that_no_run_has_do_no_harm() {
        let mut odd = run(0, &[(Kind::Thread, "x", u64::MAX, u64::MAX), (Kind::Thread, "x", 9, 9)]);
        odd.window.end = 0;
        odd.each_cpu.push(OfCpu { foreign_ns: u64::MAX, ..OfCpu::default() });
        let text = render(&Comparison { before: odd.clone(), now: odd });
        assert!(text.contains("18446744073.709 s"), "{text}");
    }
}
