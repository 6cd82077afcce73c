//! Whether the node's own work keeps off the CPUs of exclusive pools.

use kcm_core::host::shield_state::StateFile;

use super::pools::exclusive;
use super::{Finding, Subject};
use crate::shield::report::{Mode, Report};
use crate::shield::{self, engine_without_partitions, status};

const CHECK: &str = "shield";

/// Nothing where there is nothing to shield.
pub(super) fn shield(subject: &Subject) -> Option<Finding> {
    let cpus = exclusive(subject);
    if cpus.is_empty() {
        return None;
    }
    let boot_id = subject.machine.boot_id().ok()?;
    Some(match StateFile::default().read(&boot_id) {
        Err(e) => Finding::warn(CHECK, format!("it cannot be told: {e}"), "run it as root"),
        Ok(None) => {
            let spared = match spared(subject) {
                Some(engine) => format!(
                    "; system.slice would stay as it is: {engine} has containers in it, \
                                         and its containers are no partitions"
                ),
                None => String::new(),
            };
            let message =
                format!("off: kcm shield on keeps the node's own work off CPUs {cpus}{spared}");
            Finding::ok(CHECK, message)
        }
        Ok(Some(_)) => match status(&subject.conf, &subject.machine, &StateFile::default()) {
            Ok(report) => of(&report),
            Err(e) => Finding::warn(CHECK, format!("{e:#}"), "see kcm shield status"),
        },
    })
}

fn spared(subject: &Subject) -> Option<String> {
    let exclusive = shield::exclusive(&subject.conf).ok()?;
    engine_without_partitions(&subject.machine.shield_host().ok()?, &exclusive)
}

fn of(report: &Report) -> Finding {
    let cpus = &report.cpus;
    let slice = report.left.iter().find(|it| it.kind == "slice");
    match (report.shield, slice) {
        (Mode::On, None) => {
            Finding::ok(CHECK, format!("on: the node's own work keeps off CPUs {cpus}"))
        }
        (Mode::On, Some(slice)) => Finding::warn(
            CHECK,
            format!("on for CPUs {cpus}, but for {}: {}", slice.name, slice.why),
            "see kcm shield status",
        ),
        _ if cpus.is_empty() => {
            Finding::warn(CHECK, "off, but not all is as it was before", "kcm shield off")
        }
        _ => Finding::warn(CHECK, format!("not all is set for CPUs {cpus}"), "kcm shield on"),
    }
}
