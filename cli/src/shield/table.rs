//! The report as a table: what is alike is on one line.

use std::collections::BTreeMap;
use std::io::Write;

use anyhow::Context;
use kcm_core::plan::shield::said;

use super::report::{Mode, Report, Standing};
use crate::logging::one_line;

/// So many names are shown of what is alike.
const NAMED: usize = 8;

pub(crate) fn print(report: &Report) -> anyhow::Result<()> {
    let text = render(report);
    std::io::stdout().write_all(text.as_bytes()).context("cannot write to standard output")
}

fn render(report: &Report) -> String {
    let mut text = head(report.shield, &report.cpus);
    let rows = report.items.iter().map(|row| {
        let state = match row.state {
            Standing::Set => "set",
            Standing::GivenBack => "given back",
            Standing::Open => "would be set",
            Standing::New => "new: on sets it",
            Standing::Gone => "gone",
        };
        let change = match row.state {
            Standing::Open | Standing::New => format!("{} → {}", said(&row.now), said(&row.set)),
            Standing::GivenBack | Standing::Gone => said(&row.now).to_owned(),
            Standing::Set => format!("{} → {}", said(&row.before), said(&row.now)),
        };
        ([row.kind.to_owned(), change, state.to_owned()], row.name.as_str())
    });
    text += &table(["KIND", "CPUS OR VALUE", "STATE", "NAME"], rows);
    let rows =
        report.left.iter().map(|it| ([it.kind.to_owned(), it.why.clone()], it.name.as_str()));
    text += &table(["STAYS", "WHY", "NAME"], rows);
    let rows = report.gaps.iter().map(|gap| {
        let parameter = gap.parameter.clone().unwrap_or_else(|| "-".to_owned());
        ([parameter, gap.why.clone()], gap.what.as_str())
    });
    text += &table(["ON THE KERNEL'S COMMAND LINE", "WHY", "WHAT"], rows);
    for unit in &report.whole {
        text += &format!(
            "\n{unit}: cpuset.cpus holds every CPU, as it did not before: the kernel takes no empty list \
             back while somebody is in it\n"
        );
    }
    text
}

/// Whether it is on, on a line.
fn head(shield: Mode, cpus: &str) -> String {
    match (shield, cpus) {
        (Mode::Off, _) => "shield: off\n".to_owned(),
        (Mode::On, _) => format!("shield: on, CPUs {cpus}\n"),
        (Mode::Partly, "") => {
            "shield: off, but not all is as it was before; kcm shield off gives it back\n"
                .to_owned()
        }
        (Mode::Partly, _) => {
            format!("shield: on, CPUs {cpus}, but not all is set; kcm shield on sets it\n")
        }
    }
}

/// Lines of those that are alike in all columns but the last, where their names are.
fn table<'a, const N: usize, const M: usize>(
    head: [&str; M],
    rows: impl Iterator<Item = ([String; N], &'a str)>,
) -> String {
    let mut order: Vec<[String; N]> = Vec::new();
    let mut names: BTreeMap<[String; N], Vec<&str>> = BTreeMap::new();
    for (row, name) in rows {
        if !names.contains_key(&row) {
            order.push(row.clone());
        }
        names.entry(row).or_default().push(name);
    }
    if order.is_empty() {
        return String::new();
    }
    let width = |n: usize| {
        let cells = order.iter().map(|row| row[n].chars().count());
        cells.chain([head[n].chars().count()]).max().unwrap_or_default()
    };
    let widths: [usize; N] = std::array::from_fn(width);
    let line = |cells: &[&str], last: &str| {
        let cells = cells.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}  "));
        let line = format!("{}{last}", cells.collect::<String>());
        format!("{}\n", one_line(line.trim_end()))
    };
    let mut text = format!("\n{}", line(&head[..N], head[N]));
    for row in order {
        let all = &names[&row];
        let mut shown = all[..all.len().min(NAMED)].join(", ");
        if all.len() > NAMED {
            shown += &format!(", … ({})", all.len());
        }
        let cells: Vec<&str> = row.iter().map(String::as_str).collect();
        text += &line(&cells, &shown);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shield_that_is_off_is_not_said_to_be_on() {
        assert_eq!(
            head(Mode::Partly, "3").split(';').next(),
            Some("shield: on, CPUs 3, but not all is set")
        );
        let off = "shield: off, but not all is as it was before; kcm shield off gives it back\n";
        assert_eq!(head(Mode::Partly, ""), off);
    }

    #[test]
    fn what_is_alike_is_on_one_line_and_a_long_list_of_names_is_cut() {
        let names: Vec<String> = (0..10).map(|n| format!("t{n}")).collect();
        let rows = names.iter().map(|name| (["thread".to_owned()], name.as_str()));
        let rows = rows.chain([(["irq".to_owned()], "24")]);
        let expected = "\nKIND    NAME\n\
                        thread  t0, t1, t2, t3, t4, t5, t6, t7, … (10)\n\
                        irq     24\n";
        assert_eq!(table(["KIND", "NAME"], rows), expected);
        assert_eq!(table(["KIND", "NAME"], std::iter::empty::<([String; 1], &str)>()), "");
    }
}
