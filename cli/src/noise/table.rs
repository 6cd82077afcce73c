//! The report as a table.

use std::fmt::Write;

use super::report::{Gaps, OfCpu, Origin, Report, Share, Source};
use super::span::Span;
use crate::logging::one_line;

/// So many sources of a CPU are shown; JSON has more.
const SHOWN: usize = 20;
/// So many gaps of a CPU.
const LONGEST: usize = 10;

pub(super) fn render(report: &Report) -> String {
    let mut text = String::new();
    let _ = writeln!(text, "{}", title(report));
    let _ = writeln!(text);
    summary(&mut text, report);
    measured(&mut text, report);
    for cpu in &report.each_cpu {
        sources(&mut text, cpu);
    }
    text
}

/// What the loops have missed.
fn measured(text: &mut String, report: &Report) {
    let gaps: Vec<(u32, &Gaps)> =
        report.each_cpu.iter().filter_map(|cpu| Some((cpu.cpu, cpu.gaps.as_ref()?))).collect();
    if gaps.is_empty() {
        return;
    }
    let _ = writeln!(text, "\nBetween two readings of the clock");
    let header = ["CPU", "READINGS", "P50", "P99", "P99.9", "P99.99", "MAX", "ABOVE"];
    let rows = gaps.iter().map(|(cpu, gaps)| {
        let times = [gaps.p50_ns, gaps.p99_ns, gaps.p999_ns, gaps.p9999_ns, gaps.max_ns];
        let times = times.map(|time| Span(time).to_string());
        let ends = (gaps.above_count.to_string(), gaps.readings.to_string());
        [cpu.to_string(), ends.1].into_iter().chain(times).chain([ends.0]).collect()
    });
    columns(text, &header, &rows.collect::<Vec<Vec<String>>>());
    for (cpu, gaps) in gaps {
        longest(text, cpu, gaps);
    }
}

/// Whose the longest gaps are.
fn longest(text: &mut String, cpu: u32, gaps: &Gaps) {
    if gaps.above.is_empty() {
        return;
    }
    let _ = writeln!(text, "\nCPU {cpu}: the longest above {}", Span(gaps.threshold_ns));
    let rows = gaps.above.iter().take(LONGEST).map(|gap| {
        let mut by: Vec<String> = gap.by.iter().take(3).map(by).collect();
        if gap.unexplained_ns >= 1000 || by.is_empty() {
            by.push(format!("not in the trace {}", Span(gap.unexplained_ns)));
        }
        let at = Span(gap.at_ns).to_string();
        vec![at, Span(gap.length_ns).to_string(), one_line(&by.join(", "))]
    });
    columns(text, &["AT", "LENGTH", "BY"], &rows.collect::<Vec<_>>());
}

fn by(share: &Share) -> String {
    let pid = share.pid.map(|pid| format!(" ({pid})")).unwrap_or_default();
    format!("{} {}{pid} {}", share.kind.name(), share.name, Span(share.ns))
}

/// What was looked at, for how long and by what.
pub(super) fn title(report: &Report) -> String {
    let by = match report.source {
        Origin::Tracefs => "traced",
        Origin::Procfs => "by counters of procfs, sampled",
    };
    let subject = match report.subject.starts_with("CPUs ") {
        true => report.subject.clone(),
        false => format!("{}, CPUs {}", report.subject, report.cpus),
    };
    one_line(&format!("{subject}, for {}, {by}", Span(report.window.length())))
}

fn summary(text: &mut String, report: &Report) {
    let header =
        ["CPU", "OWNERS", "THEIR TIME", "IDLE", "FOREIGN", "INTERRUPTS", "SOFTIRQS", "STEAL"];
    let rows = report.each_cpu.iter().map(|cpu| {
        let owners = if cpu.owners.is_empty() { "-".to_owned() } else { cpu.owners.join(", ") };
        let part = |time: Option<u64>| time.map_or("?".to_owned(), |time| Span(time).to_string());
        vec![
            cpu.cpu.to_string(),
            one_line(&owners),
            part(cpu.owners_ns),
            part(cpu.idle_ns),
            part(Some(cpu.foreign_ns)),
            part(cpu.interrupts_ns),
            part(cpu.softirqs_ns),
            part(Some(cpu.steal_ns)),
        ]
    });
    columns(text, &header, &rows.collect::<Vec<_>>());
}

fn sources(text: &mut String, cpu: &OfCpu) {
    let _ = writeln!(text, "\nCPU {}: who else ran there", cpu.cpu);
    if cpu.sources.is_empty() {
        let _ = writeln!(text, "nobody");
        return;
    }
    let header = ["KIND", "NAME", "PID", "IN", "COUNT", "TOTAL", "LONGEST"];
    let rows = cpu.sources.iter().take(SHOWN).map(row);
    columns(text, &header, &rows.collect::<Vec<_>>());
    let more = cpu.sources.len().saturating_sub(SHOWN);
    if more > 0 {
        let _ = writeln!(text, "… and {more} more: --output=json has them");
    }
}

fn row(source: &Source) -> Vec<String> {
    let time = |time: Option<u64>| time.map_or("?".to_owned(), |time| Span(time).to_string());
    vec![
        source.kind.name().to_owned(),
        one_line(&source.name),
        source.pid.map_or("-".to_owned(), |pid| pid.to_string()),
        one_line(source.place.as_deref().unwrap_or("-")),
        source.count.to_string(),
        time(source.total_ns),
        time(source.longest_ns),
    ]
}

/// Rows below their header, two blanks apart. Numbers are to the right.
pub(super) fn columns(text: &mut String, header: &[&str], rows: &[Vec<String>]) {
    let width = |at: usize| {
        let cells = rows.iter().filter_map(|row| row.get(at)).map(|cell| cell.chars().count());
        cells.chain([header[at].chars().count()]).max().unwrap_or_default()
    };
    let is_number = |at: usize| {
        !rows.is_empty()
            && rows.iter().all(|row| {
                row[at].starts_with(|c: char| c.is_ascii_digit() || matches!(c, '?' | '-' | '+'))
            })
            && !matches!(header[at], "OWNERS" | "NAME" | "IN" | "BY")
    };
    let header: Vec<String> = header.iter().map(|&cell| cell.to_owned()).collect();
    for row in std::iter::once(&header).chain(rows) {
        let cells = row.iter().enumerate().map(|(at, cell)| match is_number(at) {
            true => format!("{cell:>width$}", width = width(at)),
            false => format!("{cell:<width$}", width = width(at)),
        });
        let _ = writeln!(text, "{}", cells.collect::<Vec<_>>().join("  ").trim_end());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_anybodys_choice_and_stays_in_its_line() {
        let source = Source { name: "a\nb\u{1b}[2J".into(), ..Source::default() };
        let cpu = OfCpu { cpu: 3, sources: vec![source; SHOWN + 2], ..OfCpu::default() };
        let mut text = String::new();
        sources(&mut text, &cpu);
        assert_eq!(text.lines().count(), SHOWN + 4, "{text}");
        assert!(
            !text.contains('\u{1b}') && text.ends_with("… and 2 more: --output=json has them\n")
        );
    }

    #[test]
    fn columns_are_as_wide_as_what_is_in_them() {
        let mut text = String::new();
        let row = |cells: [&str; 3]| cells.map(str::to_owned).to_vec();
        columns(
            &mut text,
            &["KIND", "NAME", "TOTAL"],
            &[row(["thread", "1µ", "1.0 µs"]), row(["nmi", "longer", "0"])],
        );
        assert_eq!(
            text,
            "KIND    NAME     TOTAL\nthread  1µ      1.0 µs\nnmi     longer       0\n"
        );
    }
}
