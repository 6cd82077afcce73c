//! What is going on: a line a node on a terminal, one that changes; else a line of the log for each
//! thing that happens. And the table at the end.

use std::collections::BTreeMap;
use std::io::IsTerminal;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use super::Outcome;
use crate::logging::one_line;

/// More lines than that are no overview.
const MOST_LINES: usize = 30;

/// Where it is shown.
pub(super) struct Progress {
    /// None where the log has to do.
    lines: Option<(MultiProgress, BTreeMap<String, ProgressBar>)>,
}

impl Progress {
    /// For these nodes.
    pub(super) fn new(hosts: &[String]) -> Self {
        let fits = hosts.len() <= MOST_LINES && std::io::stderr().is_terminal();
        Self { lines: fits.then(|| lines(hosts)) }
    }

    /// Something has happened on a node.
    pub(super) fn say(&self, host: &str, text: &str) {
        match self.line_of(host) {
            Some(line) => line.set_message(one_line(text)),
            None => log::info!("{host}: {text}"),
        }
    }

    /// Something is to be read, also after what happens next.
    pub(super) fn print(&self, host: &str, text: &str) {
        match &self.lines {
            // Above the lines of the nodes. A terminal that is gone reads nothing.
            Some((all, _)) => drop(all.println(one_line(&format!("{host}: {text}")))),
            None => log::info!("{host}: {text}"),
        }
    }

    /// A node has ended.
    pub(super) fn end(&self, host: &str, failure: Option<&str>) {
        match (self.line_of(host), failure) {
            (Some(line), None) => line.finish_with_message("ready"),
            (Some(line), Some(failure)) => line.abandon_with_message(one_line(failure)),
            (None, None) => log::info!("{host}: ready"),
            (None, Some(failure)) => log::error!("{host}: {failure}"),
        }
    }

    fn line_of(&self, host: &str) -> Option<&ProgressBar> {
        self.lines.as_ref().and_then(|(_, lines)| lines.get(host))
    }
}

fn lines(hosts: &[String]) -> (MultiProgress, BTreeMap<String, ProgressBar>) {
    let all = MultiProgress::new();
    let width = hosts.iter().map(String::len).max().unwrap_or(0);
    let template = format!("{{spinner}} {{prefix:{width}}}  {{elapsed:>4}}  {{wide_msg}}");
    let style = ProgressStyle::with_template(&template);
    let style = style.unwrap_or_else(|_| ProgressStyle::default_spinner());
    let lines = hosts.iter().map(|host| {
        let line = all.add(ProgressBar::new_spinner().with_style(style.clone()));
        line.set_prefix(host.clone());
        line.enable_steady_tick(std::time::Duration::from_millis(200));
        (host.clone(), line)
    });
    let lines = lines.collect();
    (all, lines)
}

/// The table: node, result, seconds, and why.
pub(crate) fn summary(outcomes: &[Outcome]) -> String {
    let widest = outcomes.iter().map(|outcome| outcome.node.len()).max().unwrap_or(0);
    let width = widest.max("NODE".len());
    let mut text = format!("{:width$}  RESULT  SECONDS  DETAIL\n", "NODE");
    for Outcome { node, time, failure } in outcomes {
        let result = if failure.is_none() { "ready" } else { "failed" };
        let detail = failure.as_deref().unwrap_or_default();
        let line = format!("{node:width$}  {result:6}  {:7.1}  {detail}", time.as_secs_f64());
        // A message of somebody else's must not look like another line.
        text.push_str(one_line(&line).trim_end());
        text.push('\n');
    }
    text
}
