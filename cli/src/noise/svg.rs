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

const WIDTH: u32 = 1000;
/// Where a timeline begins, and how wide a part of it is.
const LEFT: u32 = 330;
const PART: u32 = 4;
const RIGHT: u32 = LEFT + PART * BUCKETS;
/// Heights: of a line of text, of a source's row.
const LINE: u32 = 20;
const ROW: u32 = 22;
const BAR: f64 = 18.0;
/// So many sources have a row; what is left has one together.
const ROWS: usize = 14;
const HISTOGRAM: u32 = 140;
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
    let mut picture = Picture::default();
    picture.run(None, report);
    picture.finish(&title(report))
}

pub(super) fn render_both(both: &Comparison) -> String {
    let mut picture = Picture::default();
    picture.run(Some("BEFORE"), &both.before);
    picture.run(Some("NOW"), &both.now);
    picture.finish(&format!("{}; before and now", title(&both.now)))
}

#[derive(Default)]
struct Picture {
    parts: String,
    y: u32,
}

impl Picture {
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
        self.text(10, "head", &format!("{name}{}", title(report)));
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
        self.text(10, "faint", &line);
        self.timelines(report);
        self.histogram(report);
    }

    /// A row a source: each bar is what it had of one CPU's time in that part of the run.
    fn timelines(&mut self, report: &Report) {
        let rows = rows(sums::of(report));
        let bucket = report.window.bucket().max(1) as f64;
        let most = rows.iter().flat_map(|(_, sum)| sum.timeline.values());
        let most = most.copied().max().unwrap_or_default() as f64;
        self.y += ROW;
        let scale = format!("{:.3} % of a CPU", 100.0 * most / bucket);
        self.text(LEFT, "faint", &format!("from begin to end; the highest bar is {scale}"));
        if rows.is_empty() {
            self.y += ROW;
            self.text(10, "", "nobody else ran there");
        }
        for ((kind, name, place), sum) in &rows {
            self.y += ROW;
            let place = place.as_deref().map(|place| format!(" · {place}")).unwrap_or_default();
            let label = format!("{} {name}{place}", kind.name());
            self.text(10, "", &fit(&label, 43));
            let total = sum.total.map_or("?".to_owned(), |ns| Span(ns).to_string());
            self.text(WIDTH - 10, "right", &format!("{} × {total}", sum.count));
            let base = self.y + 4;
            let _ = writeln!(
                self.parts,
                "<line class=\"line\" x1=\"{LEFT}\" y1=\"{base}\" x2=\"{RIGHT}\" y2=\"{base}\"/>"
            );
            for (&at, &time) in
                sum.timeline.iter().filter(|(at, time)| **at < BUCKETS && **time > 0)
            {
                // What is there is seen, however little.
                let height = (BAR * time as f64 / most.max(1.0)).max(1.0);
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
                // A quarter of a doubling a bar.
                let bar = ((least.max(1) as f64).log2() * 4.0) as u32;
                let sum = classes.entry(bar).or_default();
                *sum = sum.saturating_add(count);
            }
        }
        let most = classes.values().copied().max().unwrap_or_default();
        if most == 0 {
            return;
        }
        self.y += 2 * LINE;
        self.text(10, "head", "between two readings of the clock");
        let max =
            report.each_cpu.iter().filter_map(|cpu| cpu.gaps.as_ref()).map(|gaps| gaps.max_ns);
        let words =
            format!("{most} at the most; the longest is {}", Span(max.max().unwrap_or_default()));
        self.text(LEFT, "faint", &words);
        self.y += HISTOGRAM;
        let base = self.y;
        let (left, bars) = (60, 120);
        let width = (WIDTH - 2 * left) / bars;
        for (&bar, &count) in classes.iter().filter(|(bar, count)| **bar < bars && **count > 0) {
            let height = (f64::from(HISTOGRAM - LINE) * (1.0 + count as f64).ln()
                / (1.0 + most as f64).ln())
            .max(1.0);
            let (x, y) = (left + bar * width, f64::from(base) - height);
            let _ = writeln!(
                self.parts,
                "<rect class=\"a\" x=\"{x}\" y=\"{y:.1}\" width=\"{}\" height=\"{height:.1}\"/>",
                width - 1
            );
        }
        let end = WIDTH - left;
        let _ = writeln!(
            self.parts,
            "<line class=\"line\" x1=\"{left}\" y1=\"{base}\" x2=\"{end}\" y2=\"{base}\"/>"
        );
        self.y += LINE;
        for (label, ns) in MARKS {
            let bar = ((ns as f64).log2() * 4.0) as u32;
            self.text(left + bar * width, "faint middle", label);
        }
    }
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
