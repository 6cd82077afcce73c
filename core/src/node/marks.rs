//! Looking for processes that are marked in their environments, without the lock: only where an
//! `isolate` without a cgroup would otherwise count as dead, and once for all of them.

use std::collections::HashMap;
use std::time::Duration;

use super::Node;
use crate::host::environ::{self, Found, Mark};
use crate::notice::Notice;

/// How long that may take.
const LIMIT: Duration = Duration::from_secs(2);

/// The most processes that a notice names.
const NAMED: usize = 8;

/// What was found, by mark.
#[derive(Clone, Debug, Default)]
pub(super) struct Marks(HashMap<String, Found>);

impl Marks {
    /// Whether a process has it, or may have it; none where nobody has looked.
    pub(super) fn may_be_somewhere(&self, mark: &Mark) -> Option<bool> {
        self.0.get(&mark.digest).map(|found| *found != Found::Nowhere)
    }
}

impl Node {
    /// Looks for marks. `notices` gets who could not be looked at, so that lists stay held.
    pub(super) fn search(&self, marks: &[Mark], notices: &mut Vec<Notice>) -> Marks {
        let unknown = |_| marks.iter().map(|_| Found::Unknown(Vec::new())).collect();
        let found = environ::search(&self.procfs, marks, LIMIT);
        let found = found
            .inspect_err(|error| notices.push(Notice::warning(error.to_string())))
            .unwrap_or_else(unknown);
        for (mark, found) in marks.iter().zip(&found) {
            let Found::Unknown(pids) = found else { continue };
            let mut named: Vec<String> = pids.iter().take(NAMED).map(ToString::to_string).collect();
            if pids.len() > NAMED {
                named.push(format!("and {} more", pids.len() - NAMED));
            }
            notices.push(Notice::warning(format!(
                "what {} holds stays held: {} may have been started by it, and its environment could \
                 not be read in time; run kcm reconcile as root, or end that process",
                mark.owner,
                match &named[..] {
                    [] => "some process".to_owned(),
                    [pid] => format!("process {pid}"),
                    pids => format!("each of the processes {}", pids.join(", ")),
                }
            )));
        }
        Marks(marks.iter().map(|mark| mark.digest.clone()).zip(found).collect())
    }
}
