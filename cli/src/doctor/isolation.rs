//! What keeps others off the CPUs of exclusive pools.

use kcm_core::CpuSet;
use kcm_core::pool::Pool;
use kcm_core::task::Glance;

use super::pools::{cpus_of, pools};
use super::{Finding, Subject};
use crate::guards::Guarded;
use crate::guards::judge::judge;
use crate::guards::look::look;

const CHECK: &str = "isolation";

/// One finding for each exclusive pool, and one for each shared pool that has something of it.
pub(super) fn all(subject: &Subject) -> Vec<Finding> {
    // Where no pool can be read, another check says so.
    let guarded = look(&subject.machine, &subject.conf).map(|facts| judge(&facts));
    let mut findings: Vec<Finding> = guarded.unwrap_or_default().iter().map(of).collect();
    match subject.machine.isolated() {
        Ok(isolated) => {
            let shared = pools(subject).0.into_iter().filter(|pool| !pool.exclusive);
            findings.extend(shared.filter_map(|pool| stuck(&pool, &isolated)));
        }
        Err(e) => {
            findings.push(Finding::fail(CHECK, format!("{e:#}"), "mend isolcpus, and boot again"));
        }
    }
    findings
}

fn of(pool: &Guarded) -> Finding {
    match pool.remedy() {
        None => Finding::ok(CHECK, pool.line()),
        Some(remedy) => Finding::warn(CHECK, pool.line(), remedy),
    }
}

/// A shared pool whose programs the kernel does not move.
fn stuck(pool: &Pool<Glance>, isolated: &CpuSet) -> Option<Finding> {
    let stuck = cpus_of(pool).intersection(isolated);
    (stuck.len() > 1).then(|| {
        let name = &pool.name;
        Finding::warn(
            CHECK,
            format!(
                "the shared pool {name} has the isolated CPUs {stuck}: their load is not balanced"
            ),
            "have its programs place their threads themselves, or take those CPUs out of isolcpus",
        )
    })
}
