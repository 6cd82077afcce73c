//! The figures as tables.

use std::fmt::Write;

use crate::measure::{Comparison, Ratio};

const HEAD: &str = "\
<!-- Written by `make bench`; do not edit. -->
# Benchmarks

`make bench` measures these figures and writes this file. Ratios are of medians; in brackets is where the middle 80 % of
the pairs' own ratios are. Pairs are interleaved: first one program, then the other, the next time the other way round.
CPU time is user and system time of all processes started. *Nothing* is `int main(void){return 0;}`, `gcc -O2 -static`;
all have the same standard input, and a log daemon listens.
";

const TAIL: &str = "
The configuration directory is on tmpfs except where a row says *on disk*. There the file system itself costs more than
the hook: ext4 allocates a file's blocks at once where a rename replaces another (`auto_da_alloc`), and whoever makes a
file on ext4 looks at all the inodes nearby that were freed in the last minutes, however many tests have just run.
";

/// All that was measured.
#[derive(Debug)]
pub(crate) struct Report {
    machine: String,
    ratios: Vec<String>,
    facts: Vec<String>,
}

impl Report {
    /// A report with nothing in it yet, of this machine.
    pub(crate) fn new(machine: String) -> Self {
        println!("{machine}");
        Self { machine, ratios: Vec::new(), facts: Vec::new() }
    }

    /// A comparison by CPU time, with the ratio that it should not be above.
    pub(crate) fn ratio(&mut self, figure: &str, against: &str, target: f64, it: Comparison) {
        self.row(figure, against, &format!("≤ {target}"), it.cpu.median <= target, it);
    }

    /// A comparison by time on the wall, with the ratio that it should not be above.
    pub(crate) fn wall_ratio(&mut self, figure: &str, against: &str, target: f64, it: Comparison) {
        self.row(figure, against, &format!("≤ {target} (wall)"), it.wall.median <= target, it);
    }

    fn row(&mut self, figure: &str, against: &str, target: &str, reached: bool, it: Comparison) {
        let row = format!(
            "| {figure} | {against} ({:.2} ms) | {} | {} | {} | {target} | {} |",
            it.theirs * 1e3,
            times(it.cpu),
            times(it.wall),
            it.pairs,
            verdict(reached)
        );
        println!("{row}");
        self.ratios.push(row);
    }

    /// Something counted, with its limit, if it has one, and whether it is kept.
    pub(crate) fn fact(&mut self, what: &str, value: &str, limit: Option<(&str, bool)>) {
        let (limit, kept) = limit.unzip();
        let row = format!(
            "| {what} | {value} | {} | {} |",
            limit.unwrap_or_default(),
            kept.map(verdict).unwrap_or_default()
        );
        println!("{row}");
        self.facts.push(row);
    }

    /// The whole as a document.
    pub(crate) fn to_markdown(&self) -> String {
        let mut text = format!("{HEAD}\n{}\n", self.machine);
        text.push_str("| | against (its CPU time) | CPU time | wall time | pairs | to reach | |\n");
        text.push_str("| --- | --- | --- | --- | --- | --- | --- |\n");
        self.ratios.iter().for_each(|row| writeln!(text, "{row}").unwrap());
        text.push_str("\n| | | to reach | |\n| --- | --- | --- | --- |\n");
        self.facts.iter().for_each(|row| writeln!(text, "{row}").unwrap());
        text + TAIL
    }
}

fn times(Ratio { median, low, high }: Ratio) -> String {
    format!("{median:.2} × ({low:.2}–{high:.2})")
}

fn verdict(kept: bool) -> &'static str {
    if kept { "reached" } else { "**missed**" }
}
