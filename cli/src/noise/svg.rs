//! The report as a picture: who had how much of the CPUs when, and what the loops have missed.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::compare::Comparison;
use super::report::{Kind, Report};
use super::span::Span;
use super::sums::{self, Key, Sum};
use super::table::title;
use super::window::BUCKETS;
use crate::picture::{document, fit, text};

const WIDTH: u32 = 1040;
const MARGIN: u32 = 10;
/// Where a timeline begins, and how wide a part of it is.
const LEFT: u32 = 350;
const PART: u32 = 4;
const RIGHT: u32 = LEFT + PART * BUCKETS;
/// Heights: of a line of text, of a source's row.
const LINE: u32 = 20;
const ROW: u32 = 22;
const BAR: f64 = 18.0;
/// So many sources have a row; what is left has one together.
const ROWS: usize = 14;
const HISTOGRAM: u32 = 140;
/// Up to a second; what is longer is in the last one.
const BARS: u32 = 120;
const BAR_WIDTH: u32 = 7;
/// Below the histogram.
const MARKS: [(&str, u64); 10] = [
    ("1 ns", 1),
    ("10 ns", 10),
    ("100 ns", 100),
    ("1 µs", 1_000),
    ("10 µs", 10_000),
    ("100 µs", 100_000),
    ("1 ms", 1_000_000),
    ("10 ms", 10_000_000),
    ("100 ms", 100_000_000),
    ("1 s", 1_000_000_000),
];

pub(super) fn render(report: &Report) -> String {
    let mut picture = Picture::new(&[report]);
    picture.run(None, report);
    picture.finish(&title(report))
}

pub(super) fn render_both(both: &Comparison) -> String {
    let mut picture = Picture::new(&[&both.before, &both.now]);
    picture.run(Some("BEFORE"), &both.before);
    picture.run(Some("NOW"), &both.now);
    picture.finish(&format!("{}; before and now", title(&both.now)))
}

struct Picture {
    parts: String,
    y: u32,
    /// What the highest bar of all timelines stands for, so that those of two runs can be compared.
    highest: f64,
}

/// What a source had of its CPUs' time in a part of the run.
fn share(report: &Report, part: u32, time: u64) -> f64 {
    let cpus = report.each_cpu.len().max(1) as f64;
    time as f64 / (report.window.length_of(part) as f64 * cpus)
}

/// The highest share of any source in any part.
fn highest(report: &Report) -> f64 {
    let rows = rows(sums::of(report));
    let shares = rows.iter().flat_map(|(_, sum)| &sum.timeline);
    shares.map(|(&part, &time)| share(report, part, time)).fold(0.0, f64::max)
}

impl Picture {
    fn new(reports: &[&Report]) -> Self {
        let highest = reports.iter().map(|report| highest(report)).fold(0.0, f64::max);
        Self { parts: String::new(), y: 0, highest }
    }

    fn finish(self, title: &str) -> String {
        document(title, WIDTH, self.y + LINE, &self.parts)
    }

    fn text(&mut self, x: u32, class: &str, words: &str) {
        let (y, words) = (self.y, text(words));
        let _ = writeln!(self.parts, "<text x=\"{x}\" y=\"{y}\" class=\"{class}\">{words}</text>");
    }

    fn run(&mut self, name: Option<&str>, report: &Report) {
        self.y += LINE + LINE / 2;
        let name = name.map(|name| format!("{name}: ")).unwrap_or_default();
        let words = format!("{name}{}", title(report));
        self.text(MARGIN, "head", &fit(&words, WIDTH - 2 * MARGIN));
        self.y += LINE;
        let whole = sums::whole(report);
        let part = |time: Option<u64>| time.map_or("?".to_owned(), |ns| Span(ns).to_string());
        let line = format!(
            "foreign threads {}, interrupts {}, softirqs {}, steal {}",
            Span(whole.foreign),
            part(whole.interrupts),
            part(whole.softirqs),
            Span(whole.steal)
        );
        self.text(MARGIN, "faint", &line);
        self.timelines(report);
        self.histogram(report);
    }

    /// A row a source: each bar is what it had of the CPUs' time in that part of the run.
    fn timelines(&mut self, report: &Report) {
        let rows = rows(sums::of(report));
        self.y += ROW;
        if rows.is_empty() {
            self.text(MARGIN, "", "nobody else ran there");
        } else {
            let percent = 100.0 * highest(report);
            let whose = if report.each_cpu.len() > 1 { "CPUs'" } else { "CPU's" };
            let words =
                format!("from begin to end; the highest bar is {percent:.3} % of the {whose} time");
            self.text(LEFT, "faint", &words);
        }
        for ((kind, name, place), sum) in &rows {
            self.y += ROW;
            let place = place.as_deref().map(|place| format!(" · {place}")).unwrap_or_default();
            let label = format!("{} {name}{place}", kind.name());
            self.text(MARGIN, "", &fit(&label, LEFT - 2 * MARGIN));
            let total = sum.total.map_or("?".to_owned(), |ns| Span(ns).to_string());
            self.text(WIDTH - MARGIN, "right", &format!("{} × {total}", sum.count));
            let base = self.y + 4;
            let _ = writeln!(
                self.parts,
                "<line class=\"line\" x1=\"{LEFT}\" y1=\"{base}\" x2=\"{RIGHT}\" y2=\"{base}\"/>"
            );
            for (&at, &time) in
                sum.timeline.iter().filter(|(at, time)| **at < BUCKETS && **time > 0)
            {
                // What is there is seen, however little.
                let height = (BAR * share(report, at, time) / self.highest).max(1.0);
                let (x, y) = (LEFT + at * PART, f64::from(base) - height);
                let class = class(*kind);
                let _ = writeln!(
                    self.parts,
                    "<rect class=\"{class}\" x=\"{x}\" y=\"{y:.1}\" width=\"{}\" height=\"{height:.1}\"/>",
                    PART - 1
                );
            }
        }
    }

    /// How many readings were how far apart: both axes are logarithmic.
    fn histogram(&mut self, report: &Report) {
        let mut classes: BTreeMap<u32, u64> = BTreeMap::new();
        for gaps in report.each_cpu.iter().filter_map(|cpu| cpu.gaps.as_ref()) {
            for (&least, &count) in &gaps.histogram {
                let bar = bar(least).min(BARS - 1);
                let sum = classes.entry(bar).or_default();
                *sum = sum.saturating_add(count);
            }
        }
        let most = classes.values().copied().max().unwrap_or_default();
        if most == 0 {
            return;
        }
        self.y += 2 * LINE;
        self.text(MARGIN, "head", "between two readings of the clock");
        let max =
            report.each_cpu.iter().filter_map(|cpu| cpu.gaps.as_ref()).map(|gaps| gaps.max_ns);
        let words = format!(
            "the highest bar is {most} readings, on a logarithmic scale; the longest is {}",
            Span(max.max().unwrap_or_default())
        );
        self.text(LEFT, "faint", &words);
        self.y += HISTOGRAM;
        let base = self.y;
        let left = (WIDTH - BARS * BAR_WIDTH) / 2;
        for (&bar, &count) in classes.iter().filter(|(_, count)| **count > 0) {
            let height = (f64::from(HISTOGRAM - LINE) * (1.0 + count as f64).ln()
                / (1.0 + most as f64).ln())
            .max(1.0);
            let (x, y) = (left + bar * BAR_WIDTH, f64::from(base) - height);
            let _ = writeln!(
                self.parts,
                "<rect class=\"a\" x=\"{x}\" y=\"{y:.1}\" width=\"{}\" height=\"{height:.1}\"/>",
                BAR_WIDTH - 1
            );
        }
        let end = WIDTH - left;
        let _ = writeln!(
            self.parts,
            "<line class=\"line\" x1=\"{left}\" y1=\"{base}\" x2=\"{end}\" y2=\"{base}\"/>"
        );
        self.y += LINE;
        for (label, ns) in MARKS {
            self.text(left + bar(ns) * BAR_WIDTH, "faint middle", label);
        }
    }
}

/// Where a length of time is in the histogram: a quarter of a doubling a bar.
fn bar(ns: u64) -> u32 {
    ((ns.max(1) as f64).log2() * 4.0) as u32
}

/// The sources with most time, and one for the rest.
fn rows(sums: BTreeMap<Key, Sum>) -> Vec<(Key, Sum)> {
    let mut rows: Vec<(Key, Sum)> = sums.into_iter().collect();
    rows.sort_by_key(|(_, sum)| std::cmp::Reverse((sum.total, sum.count)));
    if rows.len() <= ROWS {
        return rows;
    }
    let rest = rows.split_off(ROWS);
    let mut sum = Sum::default();
    let count = rest.len();
    for (_, more) in rest {
        sum.count = sum.count.saturating_add(more.count);
        sum.total =
            sum.total.max(Some(0)).map(|t| t.saturating_add(more.total.unwrap_or_default()));
        for (bucket, time) in more.timeline {
            let part = sum.timeline.entry(bucket).or_default();
            *part = part.saturating_add(time);
        }
    }
    rows.push(((Kind::Other, format!("{count} more"), None), sum));
    rows
}

fn class(kind: Kind) -> &'static str {
    match kind {
        Kind::Thread => "b",
        Kind::KernelThread => "c",
        Kind::Interrupt | Kind::Nmi => "a",
        Kind::Softirq => "d",
        Kind::Other => "e",
    }
}

#[cfg(test)]
mod tests;
